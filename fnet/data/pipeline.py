"""From a source to the arrays that a run trains, selects and tests on."""

from collections.abc import Sequence
from typing import Generic, Literal, NamedTuple, TypeVar

import numpy as np

from fnet.data import normalize
from fnet.data.source import Arrays, DataError, Rows, Spec, first_unusable, portions
from fnet.data.split import PARTS, divide
from fnet.data.stream import Stream

Data = TypeVar("Data", Arrays, Stream)

Order = Literal["source", "content"]


class Splits(NamedTuple, Generic[Data]):
    """The three parts of a data set, normalized; a part may be empty, except the training part."""

    train: Data
    validation: Data
    test: Data
    normalizer: normalize.Normalizer

    def parts(self) -> dict[str, Data]:
        """The parts that hold examples, by name."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: data for name, data in named.items() if data.size}


def prepare(
    data: Data,
    spec: Spec,
    parts: Sequence[float | str],
    normalization: normalize.Normalization,
    *,
    seed: int,
    order: Order = "source",
) -> Splits[Data]:
    """Splits (stratified for classes), orders, then normalizes with the statistics of the training part only.

    Args:
        data: the whole data set; the parts of a stream are streams, to be normalized as they are read.
        spec: what its source says of it.
        parts: fraction or own splits of the training, validation and test part, as for `split.divide`.
        normalization: unit, standard or none.
        seed: of the split.
        order: of the examples of every part: as their source has them, or one that depends on their content alone.

    Raises:
        DataError: for values that are not finite, labels out of range, or a class that training never sees.
        SplitError: for parts that cannot be made.
    """
    train, validation, test = split(data, spec, parts, seed=seed)
    if order == "content":
        train, validation, test = (part.part(by_content(part)) for part in (train, validation, test))
    if spec.dtype == "int32":
        return Splits(train, validation, test, normalize.AS_THEY_ARE)
    normalizer = normalize.fit(normalization, train.x, spec.range, gaps=spec.gaps)
    train, validation, test = (part.mapped(x=normalizer) for part in (train, validation, test))
    return Splits(train, validation, test, normalizer)


def by_content(data: Arrays | Stream) -> np.ndarray:
    """The numbers of the examples in the order of hashes of their content, which costs reading them all once.

    Sources that store the same examples in different orders give the same sequence. Equal examples are
    interchangeable. The hash of 32-bit words is their sum with random 64-bit weights, modulo 2^64 (Carter and Wegman,
    "Universal classes of hash functions", 1979).

    >>> x, y = np.array([[1.0], [2.0], [3.0]]), np.array([0, 1, 0])
    >>> first, second = Arrays(x, y), Arrays(x[::-1], y[::-1])
    >>> x[by_content(first)].tolist() == x[::-1][by_content(second)].tolist()
    True
    """
    hashes = []
    for rows in portions(data.x):
        words = np.concatenate([_words(data.x[rows]), _words(np.asarray(data.y[rows], np.float32))], axis=1)
        hashes.append(words @ np.random.default_rng(0).integers(0, 2**64, words.shape[1], np.uint64))
    return np.argsort(np.concatenate(hashes), kind="stable") if hashes else np.arange(0)


def _words(rows: np.ndarray) -> np.ndarray:
    """The bytes of each row as numbers of 32 bits (n, words), to be multiplied by such of 64."""
    values = np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint8)
    return np.pad(values, [(0, 0), (0, -values.shape[1] % 4)]).view(np.uint32).astype(np.uint64)


def split(data: Data, spec: Spec, parts: Sequence[float | str], *, seed: int) -> tuple[Data, Data, Data]:
    """The three parts as the source has them, checked.

    Raises:
        DataError, SplitError: as `prepare`.
    """
    _refuse_unusable(data.x, "example {} holds a value that is", gaps=spec.gaps)
    labels = None
    if spec.targets.kind == "classes":
        for rows in portions(data.y):
            y = data.y[rows]
            wrong = (y < 0) | (y >= spec.targets.number)
            if wrong.any():
                place = tuple(np.argwhere(wrong)[0])
                raise DataError(
                    f"the label of example {rows.start + place[0]} is {y[place]}, "
                    f"outside 0 ... {spec.targets.number - 1}"
                )
        labels = np.asarray(data.y) if not spec.targets.shape else None
    else:
        _refuse_unusable(data.y, "the target of example {} is")
    chosen = divide(parts, data.size, spec.splits, seed=seed, classes=labels, ordered=spec.ordered)
    if labels is not None:
        _refuse_unseen(spec, [labels[part] for part in chosen])
    train, validation, test = (data.part(rows) for rows in chosen)
    return train, validation, test


def _refuse_unusable(x: Rows, what: str, *, gaps: bool = False) -> None:
    row = first_unusable(x, gaps=gaps)
    if row is not None:
        raise DataError(f"{what.format(row)} NaN or infinite; remove it or fill it in")


def _refuse_unseen(spec: Spec, labels: Sequence[np.ndarray]) -> None:
    """A class that only other parts have can be neither learned nor scored."""
    seen = np.unique(labels[0])
    for part, y in zip(PARTS[1:], labels[1:], strict=True):
        unseen = np.setdiff1d(y, seen)
        if len(unseen):
            names = [spec.targets.names[label] if spec.targets.names else str(label) for label in unseen]
            what = f"class '{names[0]}' is" if len(names) == 1 else f"classes {', '.join(map(repr, names[:5]))} are"
            raise DataError(
                f"{what} in the {part} part but not in the training part, so that nothing can learn it; "
                "enlarge data.split.train, or remove these examples"
            )
