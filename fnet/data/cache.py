"""Cache of decoded arrays in memory-mapped files.

An entry is a folder named by a hash of its key. It contains one .npy file per array, and a manifest with the key, with
the dtype, shape, size and checksum of every file, and with a checksum of its own. A file is only interpreted after its
checksum is known to be right, so that an entry that is damaged anywhere is decoded again. An entry is written under a
partial name and then renamed, so that it is complete or absent. The writer holds a lock on the partial folder, which
the system releases when the process dies.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fnet.core.wording import printable, suggestion
from fnet.data.memory import refuse_beyond_memory
from fnet.data.path import open_file
from fnet.data.source import DataError

FORMAT = 2
"""Version of the entries, part of every key, so that entries of another version are ignored."""

_MANIFEST = "manifest.json"
_PARTIAL = ".partial"
_BLOCK = 1 << 24


class CacheWarning(UserWarning):
    """Decoded data that could not be cached."""


class Chunks(NamedTuple):
    """An array that is decoded in chunks as it is written, so that it does not have to fit in memory.

    shape, dtype: shape and dtype of the whole array.
    decode: yields its rows in order, in chunks of any size.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    decode: Callable[[], Iterable[np.ndarray]]

    def whole(self) -> np.ndarray:
        """Return the whole array, in memory."""
        return np.concatenate([np.empty((0, *self.shape[1:]), self.dtype), *self.decode()])


Decoded = Mapping[str, np.ndarray | Chunks]


class Entry(NamedTuple):
    """An entry of the cache.

    path: its folder.
    key: the key that its arrays were decoded for.
    size: bytes on disk.
    created: time of creation, in seconds since the epoch.
    """

    path: Path
    key: Mapping[str, Any]
    size: int
    created: float

    @property
    def label(self) -> str:
        """Format and name of the data, as lists of entries show them."""
        return printable(" ".join(str(self.key[part]) for part in ("format", "name") if part in self.key))


def root() -> Path:
    """Return the folder of everything that fnet caches: $XDG_CACHE_HOME/fnet, by default ~/.cache/fnet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "fnet"


def folder() -> Path:
    """Return the folder of the decoded arrays."""
    return root() / "data"


def free_space() -> int:
    """Return the free space on the disk of the decoded arrays, in bytes."""
    path = folder()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def cached(key: Mapping[str, object], decode: Callable[[], Decoded]) -> Mapping[str, np.ndarray]:
    """Return the cached arrays of a key; decode and cache them if the cache does not contain them.

    Arrays from the cache are read-only and memory-mapped. Their sizes and checksums are compared with the manifest each
    time; an entry that is damaged in any way is decoded again. A second process that requests the same entry waits for
    the first. If the entry cannot be written (disk full, folder not writable), its files are removed, a CacheWarning is
    issued, and the arrays are returned in memory.

    Args:
        key: everything that the arrays depend on, such as a fingerprint of the content and settings, as values that
            JSON can represent. Lists of entries show `name`, if the key has one.
        decode: returns the arrays by name, of numbers or fixed-length text, in the order to write them. Its errors, and
            those of decoding chunks, are propagated.
    """
    entry_path = _entry_path(key)
    arrays = _read(entry_path, key)
    if arrays is not None:
        return arrays
    with contextlib.ExitStack() as stack:
        try:
            partial = stack.enter_context(_claimed(entry_path.with_suffix(_PARTIAL)))
        except OSError as error:
            decoded = decode()
            _warn(error)
            return _in_memory(decoded)
        arrays = _read(entry_path, key)  # another process may have written it while this one waited
        if arrays is not None:
            return arrays
        decoded = decode()
        try:
            _write(partial, key, decoded)
            _remove(entry_path)
            partial.rename(entry_path)
        except OSError as error:
            _warn(error)
            return _in_memory(decoded)
    for stale in folder().glob(f"*{_PARTIAL}"):
        _sweep(stale)
    return _read(entry_path, key, verify=False) or _in_memory(decoded)


def _in_memory(decoded: Decoded) -> dict[str, np.ndarray]:
    """Decode all chunks into memory.

    Raises:
        DataError: when they do not fit.
    """
    needed = 2 * sum(math.prod(array.shape) * array.dtype.itemsize for array in decoded.values())
    fix = "free space on the disk of the cache, or set XDG_CACHE_HOME to a folder on another disk"
    refuse_beyond_memory(needed, "decoded data that cannot be cached", fix)
    return {name: array.whole() if isinstance(array, Chunks) else array for name, array in decoded.items()}


def lookup(key: Mapping[str, object]) -> Mapping[str, np.ndarray] | None:
    """Return the cached arrays of a key, or None if the cache does not contain them."""
    return _read(_entry_path(key), key)


def entries() -> list[Entry]:
    """Return the complete entries, newest first."""
    complete = []
    for path in folder().glob(f"*/{_MANIFEST}"):
        if path.parent.suffix == _PARTIAL:
            continue
        with contextlib.suppress(*_DAMAGE):
            key = json.loads(_bytes_of(path))["key"]
            complete.append(Entry(path.parent, dict(key), _size(path.parent), path.stat().st_mtime))
    return sorted(complete, key=lambda entry: entry.created, reverse=True)


def entries_of(name: str) -> list[Entry]:
    """Return the entries of a dataset: those with this name or label, or whose name contains it as a word.

    Raises:
        DataError: when the cache does not contain any.
    """
    everything = entries()
    matching = [entry for entry in everything if name in _names(entry)]
    if not matching:
        near = suggestion(name, {word for entry in everything for word in _names(entry)})
        raise DataError(f"{folder()} does not contain decoded data of '{name}'{near}")
    return matching


def _names(entry: Entry) -> list[str]:
    whole = str(entry.key.get("name", ""))
    return list(dict.fromkeys([whole, entry.label, *whole.split()]))


def clear(chosen: Iterable[Entry] | None = None) -> int:
    """Remove entries, by default all of them and the leftovers of killed processes; return the bytes freed.

    A process that has mapped an entry keeps its arrays.
    """
    if chosen is None:
        return sum(map(_clear, list(folder().glob("*"))))
    freed = 0
    for entry in chosen:
        _remove(entry.path)
        freed += entry.size
    return freed


def _clear(path: Path) -> int:
    """Remove an entry, or a partial entry that no process is writing; return the bytes freed."""
    size = _size(path)
    if path.suffix == _PARTIAL and path.is_dir():
        return size * _sweep(path)
    _remove(path)
    return size


def _size(path: Path) -> int:
    """Return the number of bytes of the files in a folder, or of a file."""
    return sum(file.lstat().st_size for file in (path, *path.rglob("*")) if not file.is_dir())


def _entry_path(key: Mapping[str, object]) -> Path:
    text = json.dumps({"format": FORMAT, **key}, sort_keys=True)
    return folder() / hashlib.sha256(text.encode()).hexdigest()[:32]


_DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, DataError)
"""What reading the files of a damaged entry raises."""


def _read(entry_path: Path, key: Mapping[str, object], *, verify: bool = True) -> dict[str, np.ndarray] | None:
    """Return the arrays of an entry, or None if it is absent or damaged."""
    try:
        manifest = json.loads(_bytes_of(entry_path / _MANIFEST))
        if manifest != _with_checksum({"key": json.loads(json.dumps(key)), "files": manifest["files"]}):
            return None
        arrays = {}
        for name, (file, dtype, shape, size, checksum) in manifest["files"].items():
            with open_file(entry_path / file) as opened:
                if os.fstat(opened.fileno()).st_size != size:
                    return None
                content = np.memmap(opened, np.uint8, "r")
            if verify and _checksum(content) != checksum:
                return None
            # A plain array over the map: numpy.memmap's own indexing is slower.
            start = size - math.prod(shape) * np.dtype(dtype).itemsize
            arrays[name] = np.ndarray(tuple(shape), np.dtype(dtype), content, start)
        return arrays
    except _DAMAGE:
        return None


def _bytes_of(path: Path) -> bytes:
    with open_file(path) as opened:
        return opened.read()


def _with_checksum(manifest: Mapping[str, object]) -> dict[str, object]:
    """Return a manifest with the checksum of its content."""
    return {**manifest, "checksum": zlib.crc32(json.dumps(manifest, sort_keys=True).encode())}


def _write(entry_path: Path, key: Mapping[str, object], decoded: Decoded) -> None:
    """Write the files of an entry into an empty folder, the manifest last.

    Raises:
        OSError: with the system's reason, which `numpy.save` would not report.
    """
    files = {}
    for number, (name, array) in enumerate(decoded.items()):
        if array.dtype.hasobject:
            raise TypeError(f"the array '{name}' contains Python objects, which cannot be memory-mapped")
        path = entry_path / f"{number}.npy"
        with path.open("wb") as file:
            _reserve(array)
            header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": array.shape}
            np.lib.format.write_array_header_1_0(file, header)
            file.flush()
            checksum = zlib.crc32(path.read_bytes())
            for chunk in array.decode() if isinstance(array, Chunks) else [array]:
                for block in _blocks(np.asarray(chunk, array.dtype, order="C")):
                    file.write(block)
                    checksum = zlib.crc32(block, checksum)
        files[name] = (path.name, array.dtype.str, array.shape, path.stat().st_size, checksum)
    manifest = json.dumps(_with_checksum({"key": dict(key), "files": files}), indent=1)
    (entry_path / _MANIFEST).write_text(manifest, encoding="utf-8")


def _reserve(array: np.ndarray | Chunks) -> None:
    """Refuse to write an array that does not fit on the disk, before its chunks are decoded.

    Raises:
        OSError: when the disk is too small.
    """
    if math.prod(array.shape) * array.dtype.itemsize > free_space():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _checksum(array: np.ndarray) -> int:
    """Return the CRC-32 of the bytes of a contiguous array."""
    checksum = 0
    for block in _blocks(array):
        checksum = zlib.crc32(block, checksum)
    return checksum


def _blocks(array: np.ndarray) -> Iterator[memoryview]:
    """Divide the bytes of a contiguous array into blocks, so that a signal does not have to wait for all of them."""
    data = array.reshape(-1).view(np.uint8).data
    return (data[start : start + _BLOCK] for start in range(0, len(data), _BLOCK))


@contextlib.contextmanager
def _claimed(partial: Path) -> Iterator[Path]:
    """Create an empty folder that no other process writes to; remove it at the end, unless it was renamed.

    Raises:
        OSError: when it cannot be created or locked.
    """
    handle = _locked(partial, wait=True)
    assert handle is not None
    claimed = os.fstat(handle)
    try:
        for remains in partial.iterdir():
            _remove(remains)
        yield partial
    finally:
        # After the rename, another process may have created a folder of this name.
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(partial), claimed):
                shutil.rmtree(partial, ignore_errors=True)
        os.close(handle)


def _locked(partial: Path, *, wait: bool) -> int | None:
    """Lock a folder and return the handle of the lock; None if another process has it and `wait` is False.

    With `wait`, a missing folder is created. The lock applies to the folder that was opened: if it has been
    renamed or removed since, the lock is released again.
    """
    try:
        import fcntl
    except ImportError:
        raise OSError("this system cannot lock folders") from None
    while True:
        if wait:
            if partial.is_symlink() or (partial.exists() and not partial.is_dir()):
                partial.unlink()
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
    """Remove a partial folder if the process that wrote it has died; return whether it was removed."""
    with contextlib.suppress(OSError):
        handle = _locked(partial, wait=False)
        if handle is not None:
            shutil.rmtree(partial, ignore_errors=True)
            os.close(handle)
            return True
    return False


def _remove(entry_path: Path) -> None:
    """Remove an entry, its manifest first, so that a half-removed entry is not read; or whatever is in its place."""
    if entry_path.is_symlink() or not entry_path.is_dir():
        entry_path.unlink(missing_ok=True)
        return
    if not (entry_path / _MANIFEST).is_dir():
        (entry_path / _MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(entry_path)


def _warn(error: OSError) -> None:
    reason = error.strerror or str(error)
    warnings.warn(
        f"decoded data cannot be cached in {folder()} ({reason}), so the next run decodes it again; "
        "free space (`fnet data clear`), or set XDG_CACHE_HOME to another folder",
        CacheWarning,
        stacklevel=3,
    )
