"""The records of a set that TensorFlow Datasets has prepared, read all at once or when they are asked for."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from fnet.data.source import DataError, Spec

AT_ONCE = 512
"""Examples that are decoded before the next are read."""


class Field(NamedTuple):
    """A feature of the examples: the keys that lead to it, and what TensorFlow Datasets knows of it."""

    keys: tuple[str, ...]
    feature: Any

    def of(self, example: Any) -> Any:
        """Its value in an example."""
        for key in self.keys:
            example = example[key]
        return example

    def __str__(self) -> str:
        return "/".join(self.keys)


class Prepared(NamedTuple):
    """A prepared set, opened: what learns from what, before any example is read."""

    builder: Any
    kind: Literal["image", "text", "numbers"]
    inputs: tuple[Field, ...]
    label: Field
    spec: Spec


class Records:
    """The examples of a split as rows that are decoded when they are asked for.

    Args:
        prepared: the set.
        split: the name of the split.
        mend: what to do about a record that cannot be read.
    """

    def __init__(self, prepared: Prepared, split: str, mend: str):
        self.shape = (dict(prepared.spec.splits)[split], *prepared.spec.shape)
        self.dtype = _dtype(prepared)
        self._prepared = prepared
        self._split = split
        self._mend = mend
        self._source = _source(prepared, split)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        """The rows of these numbers, or of a slice.

        Raises:
            DataError: for a record that cannot be read or decoded; names it and its file.
        """
        numbers = np.arange(len(self))[rows].tolist()
        try:
            return self._decoded(numbers)
        except Exception:  # whatever the libraries that read records and images raise
            for number in numbers:
                try:
                    self._decoded([number])
                except Exception as error:
                    split = self._prepared.builder.info.splits[self._split]
                    what = f"{place_of(number, split)} cannot be read ({first_line(error)})"
                    raise DataError(f"'{self._prepared.spec.name}': {what}; {self._mend}", "name") from error
            raise

    def _decoded(self, numbers: Sequence[int]) -> np.ndarray:
        x = np.zeros((len(numbers), *self.shape[1:]), self.dtype)
        for start in range(0, len(numbers), AT_ONCE):
            examples = self._source.__getitems__(numbers[start : start + AT_ONCE])
            decode_into(x[start : start + AT_ONCE], examples, self._prepared)
        return x


def place_of(number: int, split: Any) -> str:
    """Which record of which file an example of a split is.

    >>> from types import SimpleNamespace
    >>> place_of(5, SimpleNamespace(filepaths=["a", "b", "c"], shard_lengths=[3, 2, 4]))
    'record 0 of c'
    """
    for file, length in zip(split.filepaths, split.shard_lengths, strict=True):
        if number < length:
            return f"record {number} of {file}"
        number -= length
    raise IndexError(number)


def decode(prepared: Prepared, split: str) -> Mapping[str, np.ndarray]:
    """The arrays x and y of a split."""
    size = dict(prepared.spec.splits)[split]
    x = np.zeros((size, *prepared.spec.shape), _dtype(prepared))
    return {"x": x} | _read(prepared, split, lambda start, examples: decode_into(x[start:], examples, prepared))


def decode_targets(prepared: Prepared, split: str) -> Mapping[str, np.ndarray]:
    """The array y of a split; images are not decoded for it."""
    return _read(prepared, split, lambda start, examples: None)


def first_line(error: Exception) -> str:
    """What an error says first."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def decode_into(x: np.ndarray, examples: Sequence[Any], prepared: Prepared) -> None:
    """Writes the inputs of examples into the first rows of x, which holds zeros."""
    first, width = prepared.inputs[0], prepared.spec.shape[0]
    for row, example in enumerate(examples):
        value = first.of(example)
        if prepared.kind == "image":
            x[row] = first.feature.decode_example_np_with_pil(value, x.shape[-1])
        elif prepared.kind == "text":
            data = (value if isinstance(value, bytes) else str(value).encode())[:width]
            x[row, : len(data)] = np.frombuffer(data, np.uint8)
        elif len(prepared.inputs) == 1:
            x[row] = value
        else:
            x[row] = np.concatenate([np.ravel(field.of(example)) for field in prepared.inputs])


def _read(prepared: Prepared, split: str, also: Callable[[int, Sequence[Any]], None]) -> dict[str, np.ndarray]:
    """The targets of a split; `also` is called with each portion of its examples, and the number of the first."""
    size, targets = dict(prepared.spec.splits)[split], prepared.spec.targets
    y = np.empty(size, np.int32) if targets.kind == "classes" else np.empty((size, targets.number), np.float32)
    source = _source(prepared, split)
    for start in range(0, size, AT_ONCE):
        rows = range(start, min(size, start + AT_ONCE))
        examples = source.__getitems__(list(rows))
        also(start, examples)
        for row, example in zip(rows, examples, strict=True):
            y[row] = prepared.label.of(example)
    return {"y": y}


def _dtype(prepared: Prepared) -> np.dtype[Any]:
    as_bytes = prepared.kind == "text" or all(field.feature.np_dtype == np.uint8 for field in prepared.inputs)
    return np.dtype(np.uint8 if as_bytes else np.float32)


def _source(prepared: Prepared, split: str) -> Any:
    """The records of a split, images left encoded: choosing their decoder anew each time takes half the reading."""
    decoders: Any = None
    if prepared.kind == "image":
        from tensorflow_datasets.core.decode import SkipDecoding

        decoders = SkipDecoding()
        for key in reversed(prepared.inputs[0].keys):
            decoders = {key: decoders}
    return prepared.builder.as_data_source(split=split, decoders=decoders)
