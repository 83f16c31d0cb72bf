"""Arrays that were decoded once, kept in memory-mapped files.

An entry is a folder named by a hash of its key. It holds one .npy file an array, and a manifest with the key and with
the size and checksum of every file. An entry is written under a partial name and then renamed, so that it is whole or
not there; whoever writes holds a lock on the partial folder, which the system releases when the process dies.
"""

import contextlib
import hashlib
import json
import os
import shutil
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fnet.core.wording import suggestion
from fnet.data.source import DataError

FORMAT = 1
"""Of the entries: part of every key, so that entries of another format are not found."""

_MANIFEST = "manifest.json"
_PARTIAL = ".partial"
_PIECE = 1 << 24


class CacheWarning(UserWarning):
    """Decoded data could not be kept."""


class Portions(NamedTuple):
    """An array that is decoded portion by portion while it is written, so that memory need not hold it.

    shape, dtype: of the whole.
    decode: gives its rows in their order, in portions of any size.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    decode: Callable[[], Iterable[np.ndarray]]

    def whole(self) -> np.ndarray:
        """The array, in memory."""
        return np.concatenate([np.empty((0, *self.shape[1:]), self.dtype), *self.decode()])


Decoded = Mapping[str, np.ndarray | Portions]


class Entry(NamedTuple):
    """What the cache holds of one set of data.

    path: its folder.
    key: what it was made from.
    size: bytes on the disk.
    made: when, in seconds since the epoch.
    """

    path: Path
    key: Mapping[str, Any]
    size: int
    made: float


def root() -> Path:
    """The folder of everything that fnet keeps between processes: $XDG_CACHE_HOME/fnet, by default ~/.cache/fnet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "fnet"


def folder() -> Path:
    """The folder of the decoded arrays."""
    return root() / "data"


def room() -> int:
    """Bytes that are free where the decoded arrays are kept."""
    place = folder()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def cached(key: Mapping[str, object], decode: Callable[[], Decoded]) -> Mapping[str, np.ndarray]:
    """What `decode` gives, from the cache where it holds it, else decoded and kept.

    Arrays from the cache are read-only and memory-mapped. Their sizes and checksums are compared with the manifest each
    time; an entry that fails is made again. A second process that wants the same entry waits for the first. Where
    the entry cannot be written (disk full, folder not writable), nothing of it stays, a CacheWarning says so and the
    arrays are given from memory.

    Args:
        key: what the arrays are a function of: a fingerprint of the content, and settings; values that JSON can hold.
            `name`, if there is one, is what lists call the entry.
        decode: gives the arrays by name, of numbers or fixed-length text. What it, or the decoding of portions, raises
            is passed on.
    """
    place = _place(key)
    arrays = _read(place)
    if arrays is not None:
        return arrays
    with contextlib.ExitStack() as stack:
        try:
            partial = stack.enter_context(_claimed(place.with_suffix(_PARTIAL)))
        except OSError as error:
            decoded = decode()
            _warn(error)
            return _whole(decoded)
        arrays = _read(place)  # what another process made while this one waited
        if arrays is not None:
            return arrays
        decoded = decode()
        try:
            _write(partial, key, decoded)
            _remove(place)
            partial.rename(place)
        except OSError as error:
            _warn(error)
            return _whole(decoded)
    for stale in folder().glob(f"*{_PARTIAL}"):
        _sweep(stale)
    return _read(place, verify=False) or _whole(decoded)


def _whole(decoded: Decoded) -> dict[str, np.ndarray]:
    return {name: array.whole() if isinstance(array, Portions) else array for name, array in decoded.items()}


def kept(key: Mapping[str, object]) -> Mapping[str, np.ndarray] | None:
    """As `cached`, of what the cache holds; None where it does not."""
    return _read(_place(key))


def entries() -> list[Entry]:
    """The whole entries, the newest first."""
    found = []
    for path in folder().glob(f"*/{_MANIFEST}"):
        if path.parent.suffix == _PARTIAL:
            continue
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            key = json.loads(path.read_text(encoding="utf-8"))["key"]
            size = sum(file.stat().st_size for file in path.parent.iterdir())
            found.append(Entry(path.parent, dict(key), size, path.stat().st_mtime))
    return sorted(found, key=lambda entry: entry.made, reverse=True)


def named(name: str) -> list[Entry]:
    """The entries of a data set: those whose name it is, or has it among its words.

    Raises:
        DataError: when there is none.
    """
    there = entries()
    found = [entry for entry in there if name in _names(entry)]
    if not found:
        near = suggestion(name, {word for entry in there for word in _names(entry)})
        raise DataError(f"nothing decoded of '{name}' is kept in {folder()}{near}")
    return found


def _names(entry: Entry) -> list[str]:
    whole = str(entry.key.get("name", ""))
    return list(dict.fromkeys([whole, *whole.split()]))


def clear(chosen: Iterable[Entry] | None = None) -> int:
    """Removes entries, by default all there are, with what broken-off processes left; gives the bytes that are free.

    A process that has an entry mapped keeps its arrays.
    """
    freed = 0
    if chosen is None:
        for path in list(folder().glob("*")):
            size = sum(file.stat().st_size for file in path.iterdir()) if path.is_dir() else 0
            if path.suffix == _PARTIAL:
                freed += size * _sweep(path)
            else:
                _remove(path)
                freed += size
        return freed
    for entry in chosen:
        _remove(entry.path)
        freed += entry.size
    return freed


def _place(key: Mapping[str, object]) -> Path:
    text = json.dumps({"format": FORMAT, **key}, sort_keys=True)
    return folder() / hashlib.sha256(text.encode()).hexdigest()[:32]


def _read(place: Path, *, verify: bool = True) -> dict[str, np.ndarray] | None:
    """The arrays of an entry; None where there is none, or none that is whole."""
    try:
        files = json.loads((place / _MANIFEST).read_text(encoding="utf-8"))["files"]
        arrays = {}
        for name, (file, size, checksum) in files.items():
            with (place / file).open("rb") as opened:
                if os.fstat(opened.fileno()).st_size != size:
                    return None
            # A plain array over the map: numpy.memmap's own indexing is slower.
            arrays[name] = np.asarray(np.load(place / file, mmap_mode="r", allow_pickle=False))
            if verify and _checksum(arrays[name]) != checksum:
                return None
        return arrays
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _write(place: Path, key: Mapping[str, object], decoded: Decoded) -> None:
    """Writes the files of an entry into an empty folder, the manifest last.

    Raises:
        OSError: with the system's reason; numpy's own `save` would not give one.
    """
    files = {}
    for number, (name, array) in enumerate(decoded.items()):
        if array.dtype.hasobject:
            raise TypeError(f"the array '{name}' holds Python objects, which cannot be memory-mapped")
        header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": array.shape}
        checksum = _checksum_of_header(array.dtype, array.shape)
        path = place / f"{number}.npy"
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for portion in array.decode() if isinstance(array, Portions) else [array]:
                for piece in _pieces(np.asarray(portion, array.dtype, order="C")):
                    file.write(piece)
                    checksum = zlib.crc32(piece, checksum)
        files[name] = (path.name, path.stat().st_size, checksum)
    manifest = json.dumps({"key": dict(key), "files": files}, indent=1)
    (place / _MANIFEST).write_text(manifest, encoding="utf-8")


def _checksum(array: np.ndarray) -> int:
    """CRC-32 of the bytes, type and shape."""
    checksum = _checksum_of_header(array.dtype, array.shape)
    for piece in _pieces(array):
        checksum = zlib.crc32(piece, checksum)
    return checksum


def _checksum_of_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    return zlib.crc32(f"{dtype} {shape}".encode())


def _pieces(array: np.ndarray) -> Iterator[memoryview]:
    """The bytes of a contiguous array, some at a time, so that a signal need not wait for all."""
    data = array.reshape(-1).view(np.uint8).data
    return (data[start : start + _PIECE] for start in range(0, len(data), _PIECE))


@contextlib.contextmanager
def _claimed(partial: Path) -> Iterator[Path]:
    """An empty folder that no other process writes into; what is left of it at the end is removed.

    Raises:
        OSError: when it cannot be made or locked.
    """
    handle = _locked(partial, wait=True)
    assert handle is not None
    own = os.fstat(handle)
    try:
        for left in partial.iterdir():
            left.unlink()
        yield partial
    finally:
        # Once renamed, the folder of this name may be another process's.
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(partial), own):
                shutil.rmtree(partial, ignore_errors=True)
        os.close(handle)


def _locked(partial: Path, *, wait: bool) -> int | None:
    """A handle that holds the lock on a folder, made where it is missing; None when another has it and `wait` is False.

    A lock is on what the folder was when it was opened: one that has been renamed or removed since is not taken.
    """
    try:
        import fcntl
    except ImportError:
        raise OSError("this system has no locks on folders") from None
    while True:
        if wait:
            partial.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(partial, os.O_RDONLY)
        except FileNotFoundError:
            if wait:
                continue
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.stat(partial), os.fstat(handle)):
                return handle
            os.close(handle)
        except (FileNotFoundError, BlockingIOError):
            os.close(handle)
            if not wait:
                return None
        except BaseException:
            os.close(handle)
            raise


def _sweep(partial: Path) -> bool:
    """Removes what a process that died has left; whether there was such."""
    with contextlib.suppress(OSError):
        handle = _locked(partial, wait=False)
        if handle is not None:
            shutil.rmtree(partial, ignore_errors=True)
            os.close(handle)
            return True
    return False


def _remove(place: Path) -> None:
    """Removes an entry, its manifest first: half removed, it is no entry."""
    (place / _MANIFEST).unlink(missing_ok=True)
    if place.is_dir():
        shutil.rmtree(place)


def _warn(error: OSError) -> None:
    reason = error.strerror or str(error)
    warnings.warn(
        f"decoded data cannot be kept in {folder()} ({reason}): they are decoded again in the next run; "
        "make room (`fnet data clear`), or set XDG_CACHE_HOME to another folder",
        CacheWarning,
        stacklevel=3,
    )
