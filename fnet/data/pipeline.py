"""Split a dataset into normalized training, validation and test parts."""

import math
from collections.abc import Callable, Sequence
from typing import Generic, Literal, NamedTuple, TypeVar

import numpy as np

from fnet.data import normalize
from fnet.data.arrays import Arrays, Rows, chunks, first_invalid
from fnet.data.memory import refuse_beyond_memory
from fnet.data.source import DataError, DatasetSpec
from fnet.data.split import NO_RULES, PARTS, Rules, divide
from fnet.data.stratify import strata
from fnet.data.stream import Stream

Data = TypeVar("Data", Arrays, Stream)

Order = Literal["source", "content"]


class Splits(NamedTuple, Generic[Data]):
    """The three parts of a dataset, normalized; all but the training part may be empty.

    train, validation, test: the parts.
    normalizer: the normalization of the examples.
    target_normalizer: the normalization of the targets: the identity, except for values that are standardized.
    """

    train: Data
    validation: Data
    test: Data
    normalizer: normalize.Normalizer
    target_normalizer: normalize.Normalizer = normalize.IDENTITY

    def parts(self) -> dict[str, Data]:
        """Return the parts that contain examples, by name."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: data for name, data in named.items() if data.size}


def split_and_normalize(
    data: Data,
    spec: DatasetSpec,
    parts: Sequence[float | str],
    normalization: normalize.Normalization,
    *,
    seed: int,
    order: Order = "source",
    normalizer: normalize.Normalizer | None = None,
    target_normalization: normalize.TargetNormalization = "none",
    target_normalizer: normalize.Normalizer | None = None,
    rules: Rules = NO_RULES,
    keys: np.ndarray | None = None,
) -> Splits[Data]:
    """Split (stratified by class), order, and normalize with the statistics of the training part only.

    Args:
        data: the whole dataset; the parts of a stream are streams, which are normalized when they are read.
        spec: description of the dataset.
        parts: the training, validation and test part, each a fraction or names of splits, as for `split.divide`.
        normalization: unit, standard or none.
        seed: seed of the split.
        order: order of the examples in every part: source order, or sorted by content hash.
        normalizer: the normalizer of a trained network, in place of one with the statistics of this training part.
        target_normalization: standard or none; the normalization of targets that are values.
        target_normalizer: the target normalizer of a trained network, likewise.
        rules, keys: further rules of the split, and the values of their column, as for `split.divide`.

    Raises:
        DataError: for values that are not finite, labels out of range, or a class that is not in the training part.
        SplitError: for an impossible split.
    """
    if isinstance(data, Arrays):
        _refuse_too_large(spec)
    train, validation, test = split(data, spec, parts, seed=seed, rules=rules, keys=keys)
    if order == "content":
        train, validation, test = (part.part(by_content(part)) for part in (train, validation, test))
    if spec.tokens:
        normalizer = normalize.IDENTITY
    elif normalizer is None:
        normalizer = normalize.fit(normalization, train.x, spec.range, has_missing=spec.has_missing)
    if spec.targets.kind != "values":
        target_normalizer = normalize.IDENTITY
    elif target_normalizer is None:
        target_normalizer = normalize.fit(target_normalization, train.y)
    of_x = None if spec.tokens else normalizer
    of_y = None if target_normalizer.is_identity else target_normalizer
    train, validation, test = (part.mapped(x=of_x, y=of_y) for part in (train, validation, test))
    return Splits(train, validation, test, normalizer, target_normalizer)


def _refuse_too_large(spec: DatasetSpec) -> None:
    """Refuse examples that do not fit in memory in the dtype that the network takes."""
    shape = " x ".join(map(str, spec.shape))
    what = f"{spec.name}: {spec.size:,} examples of {shape} numbers, in memory,"
    refuse_beyond_memory(4 * spec.size * math.prod(spec.shape), what, "set data.stream: true", "stream")


def by_content(data: Arrays | Stream) -> np.ndarray:
    """Return the indices of the examples sorted by content hash; every example is read once.

    Sources that store the same examples in different orders give the same sequence. Equal examples are
    interchangeable. The hash of an example's 32-bit words is their sum with random 64-bit weights, modulo 2^64 (Carter
    and Wegman, "Universal classes of hash functions", 1979).

    >>> x, y = np.array([[1.0], [2.0], [3.0]]), np.array([0, 1, 0])
    >>> first, second = Arrays(x, y), Arrays(x[::-1], y[::-1])
    >>> x[by_content(first)].tolist() == x[::-1][by_content(second)].tolist()
    True
    """
    hashes = []
    for rows in chunks(data.x):
        words = np.concatenate([_words(data.x[rows]), _words(np.asarray(data.y[rows], np.float32))], axis=1)
        hashes.append(words @ np.random.default_rng(0).integers(0, 2**64, words.shape[1], np.uint64))
    return np.argsort(np.concatenate(hashes), kind="stable") if hashes else np.arange(0)


def _words(rows: np.ndarray) -> np.ndarray:
    """Return the bytes of each row as 32-bit words (n, words), in a type that multiplies them modulo 2^64."""
    values = np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint8)
    return np.pad(values, [(0, 0), (0, -values.shape[1] % 4)]).view(np.uint32).astype(np.uint64)


def split(
    data: Data,
    spec: DatasetSpec,
    parts: Sequence[float | str],
    *,
    seed: int,
    rules: Rules = NO_RULES,
    keys: np.ndarray | None = None,
) -> tuple[Data, Data, Data]:
    """Return the training, validation and test part as stored.

    Raises:
        DataError, SplitError: as for `split_and_normalize`.
    """
    _check_finite(data.x, "example {} contains a value that is", has_missing=spec.has_missing)
    if spec.targets.kind == "classes":
        _check_labels(data.y, spec.targets.number)
    else:
        _check_finite(data.y, "the target of example {} is")
    if spec.targets.kind == "labels":
        _check_binary(data.y, spec.targets.names)
    rows_of_parts = rows_of(lambda: np.asarray(data.y), spec, parts, seed=seed, rules=rules, keys=keys)
    if spec.targets.kind == "classes" and not spec.targets.shape:
        labels = np.asarray(data.y)
        _check_seen(spec, [labels[rows] for rows in rows_of_parts])
    train, validation, test = (data.part(rows) for rows in rows_of_parts)
    return train, validation, test


def rows_of(
    y: Callable[[], np.ndarray],
    spec: DatasetSpec,
    parts: Sequence[float | str],
    *,
    seed: int,
    rules: Rules = NO_RULES,
    keys: np.ndarray | None = None,
) -> list[np.ndarray | slice]:
    """Return the example indices of each part, from the targets that `y` returns; only stratification calls it.

    Raises:
        DataError, SplitError: as for `split.divide`.
    """
    classes = None if rules.by is not None and not rules.stratify else strata(spec.targets, rules.stratify, y)
    about = {"classes": classes, "ordered": spec.ordered, "rules": rules, "keys": keys}
    return divide(parts, spec.size, spec.splits, seed=seed, **about)


def _check_finite(x: Rows, what: str, *, has_missing: bool = False) -> None:
    row = first_invalid(x, has_missing=has_missing)
    if row is not None:
        raise DataError(f"{what.format(row)} NaN or infinite; remove it or fill it in")


def _check_labels(y: Rows, classes: int) -> None:
    for rows in chunks(y):
        labels = y[rows]
        wrong = (labels < 0) | (labels >= classes)
        if wrong.any():
            position = tuple(np.argwhere(wrong)[0])
            example = rows.start + position[0]
            raise DataError(f"expected labels 0 ... {classes - 1}, got {labels[position]} for example {example}")


def _check_binary(y: Rows, names: Sequence[str]) -> None:
    for rows in chunks(y):
        labels = y[rows]
        wrong = (labels != 0) & (labels != 1)
        if wrong.any():
            position = tuple(np.argwhere(wrong)[0])
            label = f"label '{names[position[-1]]}'" if names else f"label {position[-1]}"
            example = rows.start + position[0]
            raise DataError(f"{label}: expected 0 or 1, got {labels[position]:g} for example {example}")


def _check_seen(spec: DatasetSpec, labels: Sequence[np.ndarray]) -> None:
    """Refuse a class that the training part does not contain, because it cannot be learned."""
    seen = np.unique(labels[0])
    for part, y in zip(PARTS[1:], labels[1:], strict=True):
        unseen = np.setdiff1d(y, seen)
        if len(unseen):
            names = [spec.targets.names[label] if spec.targets.names else str(label) for label in unseen]
            quoted = ", ".join(f"'{name}'" for name in names[:5]) + (", ..." if len(names) > 5 else "")
            what = f"class {quoted} is" if len(names) == 1 else f"classes {quoted} are"
            raise DataError(
                f"{what} in the {part} part but not in the training part, so it cannot be learned; "
                "enlarge data.split.train, or remove these examples"
            )
