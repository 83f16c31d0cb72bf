"""From a source to the arrays that a run trains, selects and tests on."""

from typing import NamedTuple

import numpy as np

from fnet.data import normalize
from fnet.data.source import Arrays
from fnet.data.split import split_indices


class DataError(ValueError):
    """The data cannot be used as they are."""

    exit_status = 2


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
    fractions: tuple[float, float, float],
    normalization: normalize.Normalization,
    *,
    seed: int,
    classes: int | None,
    value_range: tuple[float, float] | None = None,
) -> Splits:
    """Splits (stratified for classes), then normalises with the statistics of the training part only.

    Args:
        arrays: the whole data set.
        fractions: of the training, validation and test part.
        normalization: unit, standard or none.
        seed: of the split.
        classes: number of classes when the targets are classes, else None.
        value_range: that every entry of an example shares, if any.

    Raises:
        DataError: for values that are not finite, labels out of range, or an empty training part.
    """
    if not np.isfinite(arrays.x).all():
        row = int(np.argwhere(~np.isfinite(arrays.x))[0][0])
        raise DataError(f"example {row} holds a value that is NaN or infinite; remove it or fill it in")
    if classes is not None and not ((arrays.y >= 0) & (arrays.y < classes)).all():
        row = int(np.flatnonzero((arrays.y < 0) | (arrays.y >= classes))[0])
        raise DataError(f"the label of example {row} is {arrays.y[row]}, outside 0 ... {classes - 1}")
    parts = split_indices(arrays.size, fractions, seed, arrays.y if classes is not None else None)
    if not len(parts[0]):
        raise DataError(f"the training part of {arrays.size} examples would be empty; enlarge data.split.train")
    normalizer = normalize.fit(normalization, arrays.x[parts[0]], value_range)
    train, validation, test = (Arrays(normalizer(arrays.x[part]), arrays.y[part]) for part in parts)
    return Splits(train, validation, test, normalizer)
