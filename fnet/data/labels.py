"""Classes and labels from arrays of labels, which may be any whole numbers, Booleans or texts."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fnet.data.arrays import as_float32
from fnet.data.path import is_text
from fnet.data.source import DataError, DataWarning, Targets

FEW_CLASSES = 20
"""Number of different labels that are classes by default, however few examples there are."""

Label = bool | int | str
Classes = tuple[Label, ...] | Mapping[Label, int]
"""The label of each class, or the class of each label; empty if labels are indices of classes."""

Parts = Mapping[str, Iterable[np.ndarray]]
"""The labels (n,) of each split in chunks of consecutive examples, by the name of the array that contains them."""


def classes(
    parts: Parts, place: object, names: Sequence[str] = (), *, stated: bool = False
) -> tuple[Targets, tuple[Label, ...]]:
    """Describe classes whose labels are all that occur, in ascending order; return also the label of each class.

    Labels 0 ... K - 1 need no names. Labels with any other value are the names of their classes.

    Args:
        parts: the labels of every split.
        place: file that contains them, for error messages.
        names: names of the classes 0, 1, ..., which need not all occur.
        stated: whether the user said that the labels are classes; otherwise many different labels are refused.

    Raises:
        DataError: for labels that are not whole numbers, Booleans or text, for a single class, or for so many different
            labels that they are probably values.

    >>> classes({"y": [np.array([7, 3, 7])]}, "a.npz")
    (Targets(kind='classes', number=2, names=('3', '7'), shape=()), (3, 7))
    >>> classes({"y": [np.array(["dog", "cat"])], "y_test": [np.array(["cat"])]}, "a.npz")[1]
    ('cat', 'dog')
    >>> classes({"y": [np.array([1, 0, 1, 2])]}, "a.npz")[0]
    Targets(kind='classes', number=3, names=(), shape=())
    """
    key = next(iter(parts))
    occurring: dict[Label, None] = {}
    examples = 0
    for name, chunks in parts.items():
        for number, labels in _checked(chunks, name, place):
            occurring |= dict.fromkeys(labels)
            examples += number
    if len({isinstance(label, str) for label in occurring}) == 2:
        raise DataError(f"{place}: some of {_listed(parts)} contain text, others numbers; use one of them", "path")
    labels = tuple(sorted(occurring))
    if names:
        for label in labels:
            if not isinstance(label, int) or not 0 <= label < len(names):
                what = f"there are {len(names)} names of classes, but '{key}' contains the label {label}"
                raise DataError(f"{place}: {what}; expected 0 ... {len(names) - 1}", "path")
        return Targets("classes", len(names), tuple(names)), tuple(range(len(names)))
    if len(labels) == 1:
        what = f"'{key}' is {_quoted(labels[0])} for every example"
        raise DataError(f"{place}: {what}; classification needs at least two classes", "path")
    are_texts = isinstance(labels[0], str)
    if not stated and len(labels) > max(FEW_CLASSES, examples // 2):
        what = f"'{key}' contains {len(labels):,} different {'texts' if are_texts else 'whole numbers'}"
        fix = "" if are_texts else "set data.targets: values if they are numbers, or "
        raise DataError(
            f"{place}: {what} in {examples:,} examples; {fix}set data.targets: classes if they are classes", "targets"
        )
    if labels == tuple(range(len(labels))) and not any(isinstance(label, bool) for label in labels):
        return Targets("classes", len(labels)), labels
    if not stated and len(labels) > FEW_CLASSES and not are_texts:
        what = f"the {len(labels):,} different whole numbers in '{key}', from {labels[0]} to {labels[-1]}"
        warnings.warn(
            f"{place}: {what}, are read as classes; set data.targets: values if they are numbers, "
            "or data.targets: classes if they are classes",
            DataWarning,
            stacklevel=3,
        )
    return Targets("classes", len(labels), tuple(map(str, labels))), labels


def stated_classes(parts: Parts, place: object, number: int) -> tuple[Targets, tuple[Label, ...]]:
    """Describe `number` classes 0 ... number - 1, of which some may not occur; return also the label of each.

    Raises:
        DataError: for any other label.
    """
    for name, chunks in parts.items():
        start = 0
        for rows in chunks:
            if rows.dtype.kind in "US":
                what = f"expected labels 0 ... {number - 1} in '{name}', got text"
                raise DataError(f"{place}: {what}; leave out data.classes for classes by name", "classes")
            wrong = np.logical_not((rows >= 0) & (rows < number) & (rows == np.trunc(rows)))
            _refuse_first(wrong, rows, start, name, place, f"labels 0 ... {number - 1}", "classes")
            start += len(rows)
    return Targets("classes", number), ()


def as_trained(parts: Parts, place: object, trained: Targets) -> tuple[Targets, Classes]:
    """Return the targets of a trained network, and its class of each label, of which not all need to occur.

    A label is the name of its class; whole numbers that are not names are the indices of the classes.

    Raises:
        DataError: for a label that the network does not know.

    >>> as_trained({"y": [np.array([7])]}, "a.npz", Targets("classes", 2, ("3", "7")))[1]
    {7: 1}
    """
    index = {name: number for number, name in enumerate(trained.names)}
    classes: dict[Label, int] = {}
    for key, chunks in parts.items():
        for _, different in _checked(chunks, key, place):
            for label in different:
                is_index = not isinstance(label, str) and 0 <= label < trained.number
                if str(label) not in index and not is_index:
                    known = ", ".join(trained.names[:10]) or f"0 ... {trained.number - 1}"
                    what = f"'{key}' contains the class {_quoted(label)}, which the network was not trained on"
                    raise DataError(f"{place}: {what}; known: {known}", "path")
                classes[label] = index.get(str(label), int(label) if is_index else 0)
    return trained, classes


def refuse_other_targets(targets: Targets, trained: Targets, place: object) -> None:
    """Refuse values or labels that are not as many as those of a trained network.

    Raises:
        DataError: when their kind or number differs.
    """
    if (targets.kind, targets.number) != (trained.kind, trained.number):
        raise DataError(f"{place} contains {targets}, but the network was trained on {trained}", "path")


def indices(rows: np.ndarray, labels: Classes) -> np.ndarray:
    """Return the class index of each label, int32 (n,), given the label of each class, or the class of each label.

    Without either, labels are indices.

    >>> indices(np.array([7, 3, 7]), (3, 7)).tolist()
    [1, 0, 1]
    """
    if not labels:
        return rows.astype(np.int32)
    different, inverse = np.unique(rows, return_inverse=True)
    index = labels if isinstance(labels, Mapping) else {label: number for number, label in enumerate(labels)}
    return np.array([index[label] for label in _plain(different)], np.int32)[inverse.reshape(-1)]


def labels(parts: Parts, place: object, number: int, names: Sequence[str] = ()) -> Targets:
    """Describe independent labels, each 0 or 1, of chunks (n, number).

    Raises:
        DataError: for any other value, or another number of names than labels.

    >>> labels({"y": [np.array([[0, 1], [1, 1]])]}, "a.npz", 2, ("red", "round"))
    Targets(kind='labels', number=2, names=('red', 'round'), shape=())
    """
    for name, chunks in parts.items():
        start = 0
        for rows in chunks:
            flat = rows.reshape(len(rows), -1)
            wrong = np.logical_and(flat != 0, flat != 1)
            first = flat[np.arange(len(rows)), wrong.argmax(axis=1)]
            _refuse_first(wrong.any(axis=1), first, start, name, place, "0 or 1 for every label", "targets")
            start += len(rows)
    if names and len(names) != number:
        raise DataError(f"{place}: there are {len(names)} names, but {number} labels per example", "path")
    return Targets("labels", number, tuple(names))


def single_precision(rows: np.ndarray, start: int, name: str, place: object) -> np.ndarray:
    """Convert numbers to float32.

    Args:
        rows: numbers (n, ...).
        start: index of the first example, for the error message.
        name: name of the array that contains them.
        place: file that contains the array.

    Raises:
        DataError: for a finite number that is beyond the range of single precision.
    """
    converted = as_float32(rows)
    if rows.dtype.kind == "f" and rows.dtype.itemsize > 4:
        wrong = np.isinf(converted) & np.isfinite(rows)
        if wrong.any():
            position = tuple(np.argwhere(wrong)[0])
            what = f"{rows[position]:g} for example {start + position[0]}"
            raise DataError(
                f"{place}: expected numbers below 3.4e38, the range of float32, in '{name}', got {what}; scale them",
                "path",
            )
    return converted


def _checked(chunks: Iterable[np.ndarray], name: str, place: object) -> Iterator[tuple[int, list[Label]]]:
    """Yield the number of examples in each chunk, and the different labels in it.

    Raises:
        DataError: for a label that is not a whole number, a Boolean or a text.
    """
    start = 0
    for rows in chunks:
        if rows.dtype.kind in "US":
            invalid = np.char.str_len(rows) == 0
            _refuse_first(invalid, rows, start, name, place, "the name of a class", "path")
        else:
            wrong = np.logical_not(np.isfinite(rows) & (rows == np.trunc(rows)))
            _refuse_first(wrong, rows, start, name, place, "whole numbers", "targets")
        different = np.unique(rows)
        plain = _plain(different)
        if not all(is_text(label) for label in plain if isinstance(label, str)):
            raise DataError(f"{place}: '{name}' contains a label that is not valid text in UTF-8; rename it", "path")
        yield len(rows), plain
        start += len(rows)


def _refuse_first(
    wrong: np.ndarray, rows: np.ndarray, start: int, name: str, place: object, expected: str, setting: str
) -> None:
    if wrong.any():
        row = int(np.argmax(wrong))
        received = rows[row].item()
        received = _quoted(received.decode(errors="replace") if isinstance(received, bytes) else received)
        raise DataError(f"{place}: expected {expected} in '{name}', got {received} for example {start + row}", setting)


def _plain(different: np.ndarray) -> list[Any]:
    """Return labels as Python's Booleans, whole numbers and texts."""
    if different.dtype.kind == "f":
        return [int(label) for label in different.tolist()]
    if different.dtype.kind == "S":
        return [label.decode(errors="surrogateescape") for label in different.tolist()]
    return different.tolist()


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _quoted(label: object) -> str:
    return f"'{label}'" if isinstance(label, str) else str(label)
