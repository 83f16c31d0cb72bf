"""NumPy's format of one array (.npy), read without pickle and only after its size is known to be right."""

import io
import math
import struct
import warnings
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

import numpy as np

from fnet.data.memory import refuse_beyond_memory

CHUNK_BYTES = 1 << 25
"""Number of bytes of rows that are read together."""

_MAX_HEADER = 10_000
"""Maximum length of a header, as in NumPy; that of an array of numbers has about a hundred bytes."""

_READERS = {
    b"\x01\x00": ("<H", np.lib.format.read_array_header_1_0),
    b"\x02\x00": ("<I", np.lib.format.read_array_header_2_0),
}


class Header(NamedTuple):
    """Header of an array.

    shape, dtype: shape and dtype of the array.
    fortran: whether its entries are in column-major order.
    length: number of bytes of the header.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    length: int

    @property
    def size(self) -> int:
        """Number of bytes of header and entries."""
        return self.length + math.prod(self.shape) * self.dtype.itemsize


def read_header(file: IO[bytes]) -> Header:
    """Read a header; the file is then positioned at the first entry.

    Raises:
        ValueError: for a damaged header.
    """
    start = file.read(8)
    if start[:6] != b"\x93NUMPY" or start[6:] not in _READERS:
        raise ValueError("it does not start like a .npy file of version 1 or 2")
    form, parse = _READERS[start[6:]]
    length = file.read(struct.calcsize(form))
    if len(length) != struct.calcsize(form) or struct.unpack(form, length)[0] > _MAX_HEADER:
        raise ValueError(f"its header is truncated or longer than {_MAX_HEADER:,} bytes")
    text = file.read(struct.unpack(form, length)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            shape, fortran, dtype = parse(io.BytesIO(length + text))
        except Exception as error:  # an arbitrary header raises errors of many types
            raise ValueError("its header is damaged") from error
    if any(isinstance(size, bool) or size < 0 for size in shape):
        raise ValueError(f"its header declares the shape {shape}")
    return Header(tuple(map(int, shape)), dtype, bool(fortran), len(start) + len(length) + len(text))


def refuse_other_size(header: Header, size: int) -> None:
    """Refuse an array whose header disagrees with the number of bytes in its file.

    Raises:
        ValueError: when the sizes differ.
    """
    if not header.dtype.hasobject and header.size != size:
        shape = " x ".join(map(str, header.shape)) or "one"
        raise ValueError(
            f"its header declares {shape} entries of {header.dtype.itemsize} bytes, {header.size:,} bytes in all, "
            f"but the file contains {size:,}"
        )


def refuse_objects(header: Header) -> None:
    """Refuse an array of Python objects, which only running code could restore.

    Raises:
        ValueError: for such an array.
    """
    if header.dtype.hasobject:
        raise ValueError("it contains Python objects; save an array of numbers")


def read_array(file: IO[bytes], header: Header) -> np.ndarray:
    """Read the whole array from a file that is positioned after its header.

    Raises:
        ValueError: for an array of Python objects, which only running code could restore.
        EOFError: when the file ends too early.
        DataError: when the array does not fit in memory.
    """
    refuse_objects(header)
    number = header.size - header.length
    refuse_beyond_memory(
        2 * number, f"an array of shape {header.shape}", "divide the file, or use fewer examples", "path"
    )
    data = file.read(number)
    if len(data) != number:
        raise EOFError(f"the file ends after {len(data):,} of {number:,} bytes of entries")
    order = "F" if header.fortran else "C"
    return np.frombuffer(data, header.dtype).reshape(header.shape, order=order)


def read_rows(file: IO[bytes], header: Header) -> Iterator[np.ndarray]:
    """Read the rows in chunks from a file that is positioned after its header; in column-major order, all at once.

    Raises:
        ValueError, EOFError, DataError: as for `read_array`.
    """
    if header.fortran or not header.shape or not math.prod(header.shape[1:]):
        yield read_array(file, header)
        return
    size, row = header.shape[0], math.prod(header.shape[1:]) * header.dtype.itemsize
    rows_per_chunk = max(1, CHUNK_BYTES // row)
    for start in range(0, size, rows_per_chunk):
        rows = min(rows_per_chunk, size - start)
        yield read_array(file, header._replace(shape=(rows, *header.shape[1:])))
