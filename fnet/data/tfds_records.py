"""The records of a dataset prepared by TensorFlow Datasets, decoded all at once or on request."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from fnet.data.arrays import chunks
from fnet.data.cache import Chunks, Decoded
from fnet.data.source import DataError
from fnet.data.tfds_features import Prepared

T = TypeVar("T")


class Records:
    """The examples of a split, as rows that are decoded on request.

    Args:
        prepared: the dataset.
        split: name of the split.
        repair: how to fix files that cannot be read, for the error message.

    Raises:
        DataError: when the files of the split cannot be opened.
    """

    def __init__(self, prepared: Prepared, split: str, repair: str):
        self.shape = (dict(prepared.spec.splits)[split], *prepared.spec.shape)
        self.dtype = np.dtype(np.uint8 if prepared.is_bytes else np.float32)
        self._prepared = prepared
        self._split = split
        self._repair = repair
        try:
            self._source = _open(prepared, split)
        except Exception as error:  # the libraries that read records raise various errors
            raise self._error(f"the files of its split '{split}'", error) from error

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        """Decode the rows at these indices, or in this slice.

        Raises:
            DataError: for a record that cannot be read or decoded; names the record and its file.
        """
        indices = np.arange(len(self))[rows]
        x = np.empty((len(indices), *self.shape[1:]), self.dtype)
        for part in chunks(x):
            x[part] = self._map(self._inputs, indices[part])
        return x

    def targets(self) -> np.ndarray:
        """Read the targets of all examples, without decoding images."""
        y = self._empty_targets(len(self))
        for rows in chunks(self):
            y[rows] = self._map(self._targets, np.arange(len(self))[rows])
        return y

    def decode(self) -> Decoded:
        """Decode examples x and targets y in one pass over the records: y is complete after the last chunk of x."""
        y = self._empty_targets(len(self))

        def examples() -> Iterator[np.ndarray]:
            for rows in chunks(self):
                indices = np.arange(len(self))[rows]
                x, y[rows] = self._map(lambda batch: (self._inputs(batch), self._targets(batch)), indices)
                yield x

        return {"x": Chunks(self.shape, self.dtype, examples), "y": Chunks(y.shape, y.dtype, lambda: [y])}

    def _map(self, function: Callable[[Sequence[Any]], T], indices: np.ndarray) -> T:
        """Apply a function to the undecoded examples at these indices.

        Raises:
            DataError: for the first record that cannot be read, or for which the function fails.
        """
        try:
            return function(self._source.__getitems__(indices.tolist()))
        except Exception:  # the libraries that read records and images raise various errors
            for index in indices.tolist():
                try:
                    function(self._source.__getitems__([index]))
                except Exception as error:
                    raise self._error(
                        place_of(index, self._prepared.builder.info.splits[self._split]), error
                    ) from error
            raise

    def _error(self, location: str, error: Exception) -> DataError:
        what = f"'{self._prepared.spec.name}': {location} cannot be read ({first_line(error)})"
        return DataError(f"{what}; {self._repair}", "name")

    def _inputs(self, examples: Sequence[Any]) -> np.ndarray:
        """Decode the inputs of examples (n, *shape)."""
        kind, inputs = self._prepared.kind, self._prepared.inputs
        first, several = inputs[0], len(inputs) > 1
        x: Any = np.zeros((len(examples), *self.shape[1:]), self.dtype)
        for row, example in zip(x, examples, strict=True):
            value: Any = first.of(example)
            if kind == "text":
                data = (value if isinstance(value, bytes) else str(value).encode())[: len(row)]
                row[: len(data)] = np.frombuffer(data, np.uint8)
                continue
            if kind == "image":
                value = first.feature.decode_example_np_with_pil(value, row.shape[-1])
            elif several:
                value = np.concatenate([np.ravel(field.of(example)) for field in inputs])
            if (np.shape(value) or (1,)) != row.shape:
                raise ValueError(f"expected the shape {row.shape}, got {np.shape(value)}")
            row[:] = value
        return x

    def _targets(self, examples: Sequence[Any]) -> np.ndarray:
        """Return the targets of examples, (n,) classes or (n, number) values."""
        y = self._empty_targets(len(examples))
        for row, example in enumerate(examples):
            value: Any = self._prepared.label.of(example)
            if y.dtype == np.int32 and not -(2**31) <= value < 2**31:
                raise ValueError(f"the label {value} is out of range")
            y[row] = value
        return y

    def _empty_targets(self, size: int) -> np.ndarray:
        targets = self._prepared.spec.targets
        return np.empty(size, np.int32) if targets.kind == "classes" else np.empty((size, targets.number), np.float32)


def place_of(index: int, split: Any) -> str:
    """Return a description of where an example of a split is stored.

    >>> from types import SimpleNamespace
    >>> place_of(5, SimpleNamespace(filepaths=["a", "b", "c"], shard_lengths=[3, 2, 4]))
    'record 0 of c'
    """
    for file, length in zip(split.filepaths, split.shard_lengths, strict=True):
        if index < length:
            return f"record {index} of {file}"
        index -= length
    raise IndexError(index)


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _open(prepared: Prepared, split: str) -> Any:
    """Open the records of a split without decoding images, because choosing a decoder per image doubles the time."""
    decoders: Any = None
    if prepared.kind == "image":
        from tensorflow_datasets.core.decode import SkipDecoding

        decoders = SkipDecoding()
        for key in reversed(prepared.inputs[0].keys):
            decoders = {key: decoders}
    return prepared.builder.as_data_source(split=split, decoders=decoders)
