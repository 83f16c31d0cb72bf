"""From a source to the arrays that a run trains, selects and tests on."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fnet.data import normalize
from fnet.data.source import Arrays, DataError, Spec
from fnet.data.split import PARTS, divide


class Splits(NamedTuple):
    """The three parts of a data set, normalised; a part may be empty, except the training part."""

    train: Arrays
    validation: Arrays
    test: Arrays
    normalizer: normalize.Normalizer

    def parts(self) -> dict[str, Arrays]:
        """The parts that hold examples, by name."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: arrays for name, arrays in named.items() if arrays.size}


def prepare(
    arrays: Arrays,
    spec: Spec,
    parts: Sequence[float | str],
    normalization: normalize.Normalization,
    *,
    seed: int,
) -> Splits:
    """Splits (stratified for classes), then normalises with the statistics of the training part only.

    Args:
        arrays: the whole data set.
        spec: what its source says of it.
        parts: fraction or own splits of the training, validation and test part, as for `split.divide`.
        normalization: unit, standard or none.
        seed: of the split.

    Raises:
        DataError: for values that are not finite, labels out of range, or a class that training never sees.
        SplitError: for parts that cannot be made.
    """
    train, validation, test = split(arrays, spec, parts, seed=seed)
    if spec.dtype == "int32":
        return Splits(train, validation, test, normalize.fit("none", train.x))
    if spec.gaps:
        fill = normalize.filling(train.x)
        known = np.where(np.isnan(train.x), fill, train.x)
        normalizer = normalize.fit(normalization, known, spec.range)._replace(fill=fill)
    else:
        normalizer = normalize.fit(normalization, train.x, spec.range)
    train, validation, test = (Arrays(normalizer(part.x), part.y) for part in (train, validation, test))
    return Splits(train, validation, test, normalizer)


def split(arrays: Arrays, spec: Spec, parts: Sequence[float | str], *, seed: int) -> tuple[Arrays, Arrays, Arrays]:
    """The three parts as the source has them, checked.

    Raises:
        DataError, SplitError: as `prepare`.
    """
    unusable = np.isinf if spec.gaps else lambda x: ~np.isfinite(x)
    if arrays.x.dtype.kind == "f" and unusable(arrays.x).any():
        row = int(np.argwhere(unusable(arrays.x))[0][0])
        raise DataError(f"example {row} holds a value that is NaN or infinite; remove it or fill it in")
    classes = None
    if spec.targets.kind == "classes":
        wrong = (arrays.y < 0) | (arrays.y >= spec.targets.number)
        if wrong.any():
            place = tuple(np.argwhere(wrong)[0])
            raise DataError(
                f"the label of example {place[0]} is {arrays.y[place]}, outside 0 ... {spec.targets.number - 1}"
            )
        classes = arrays.y if not spec.targets.shape else None
    elif not np.isfinite(arrays.y).all():
        row = int(np.argwhere(~np.isfinite(arrays.y))[0][0])
        raise DataError(f"the target of example {row} is NaN or infinite; remove it or fill it in")
    chosen = divide(parts, arrays.size, spec.splits, seed=seed, classes=classes, ordered=spec.ordered)
    train, validation, test = (Arrays(arrays.x[part], arrays.y[part]) for part in chosen)
    if classes is not None:
        _refuse_unseen(spec, [train.y, validation.y, test.y])
    return train, validation, test


def _refuse_unseen(spec: Spec, labels: Sequence[np.ndarray]) -> None:
    """A class that only other parts have can be neither learnt nor scored."""
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
