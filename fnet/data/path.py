"""The user's own files: paths, hashes and errors, and the data source that every format returns."""

import contextlib
import hashlib
import io
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import MinLen
from pydantic import AfterValidator

from fnet.core.wording import first_line, suggestion
from fnet.data.arrays import Arrays
from fnet.data.source import DataError, DatasetSpec, DataSource, TableSummary
from fnet.data.stream import Stream

MAX_COMPRESSION = 1032
"""Maximum ratio by which deflate, the compression of .npz and .gz files, shortens data."""


def absolute(path: str, folder: str = "") -> str:
    """Return a path as an absolute one; a leading ~ is the user's home.

    Args:
        path: the path.
        folder: what a relative path is relative to; by default the current directory.
    """
    return os.path.abspath(os.path.join(folder, os.path.expanduser(path)))


ABSOLUTE = AfterValidator(absolute)
"""Marks the annotation of a setting that is a path, and makes the path absolute."""

PathText = Annotated[str, MinLen(1), ABSOLUTE]
"""A setting that is a path. In a config file it is relative to the file, elsewhere to the current directory."""


@dataclass(frozen=True)
class FileSource(DataSource):
    """A dataset in the user's own files, defined by functions.

    header: describes the dataset from the headers of its files, and reads labels only to determine the classes.
    rows: opens the examples where they are stored: in the file itself, or in the cache of decoded arrays.
    values: returns the values (n,) of a column by its name; None if the source does not have columns.
    encoded_like: returns the source with features and targets encoded as in the dataset of this description; None if
        the content of the source does not determine how it is encoded.
    columns: summarizes the columns of a table; None for other data.
    """

    header: Callable[[], DatasetSpec]
    rows: Callable[[], Stream]
    values: Callable[[str], np.ndarray] | None = None
    encoded_like: "Callable[[DatasetSpec], FileSource] | None" = None
    columns: Callable[[], TableSummary] | None = None

    def spec(self) -> DatasetSpec:
        """Describe the dataset."""
        return self.header()

    def read(self, seed: int) -> Arrays:
        """Read the whole dataset; arrays from the cache are memory-mapped."""
        data = self.stream(seed)
        return Arrays(np.asarray(data.x), np.asarray(data.y))

    def stream(self, seed: int) -> Stream:  # noqa: ARG002
        """Open the dataset for reading batch by batch."""
        return self.rows()

    def column(self, name: str) -> np.ndarray:
        """Return the values (n,) of a column of the source."""
        return super().column(name) if self.values is None else self.values(name)

    def summary(self) -> TableSummary | None:
        """Summarize the columns of a table, features and others; None for other data."""
        return None if self.columns is None else self.columns()

    def like(self, spec: DatasetSpec) -> "FileSource":
        """Return the source with examples and targets encoded as for the network that was trained on `spec`.

        Raises (when it is read):
            DataError: for a table without the columns that the network was trained on, an entry of another type, or a
                class or label that the network was not trained on.
        """
        return self if self.encoded_like is None else self.encoded_like(spec)


def existing_path(path: str) -> Path:
    """Return the path of a file or folder that exists.

    Raises:
        DataError: when it does not exist; names the first missing part of the path and suggests a similar name.
    """
    if not path:
        raise DataError("expected a path, got empty text", "path")
    wanted = Path(os.path.abspath(os.path.expanduser(path)))
    if not is_text(path):
        raise DataError(f"'{path}' is not valid text in UTF-8; rename the file", "path")
    try:
        os.stat(wanted)
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(wanted) from None
    except ValueError:
        raise DataError(
            f"'{path}' is not a path: it contains characters that file names cannot contain", "path"
        ) from None
    except OSError as error:
        raise DataError(f"'{path}' cannot be opened: {error.strerror}", "path") from None
    return wanted


def _missing(wanted: Path) -> DataError:
    """Return the error about a path that does not exist."""
    missing = next(part for part in (*reversed(wanted.parents), wanted) if not part.exists())
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]+:", missing.name):
        address = f"{missing.name}//{wanted.relative_to(missing).as_posix()}"
        return DataError(f"'{address}' is an address, not a path; download the file first, then give its path", "path")
    if missing.is_symlink():
        target = os.readlink(missing)
        return DataError(f"'{missing}' is a symbolic link to '{target}', which does not exist", "path")
    near = ""
    with contextlib.suppress(OSError):
        near = suggestion(missing.name, [entry.name for entry in missing.parent.iterdir()], listing=False)
    whole = "" if missing == wanted else f" (looking for {wanted})"
    return DataError(f"'{missing.name}' does not exist in {missing.parent}{whole}{near}", "path")


def existing_file(path: str) -> Path:
    """Return the path of a regular file that exists.

    Raises:
        DataError: when it does not exist, or is a folder, FIFO, socket or device.
    """
    location = existing_path(path)
    refuse_irregular(location, os.stat(location).st_mode)
    return location


def existing_folder(path: str, content: str) -> Path:
    """Return the path of a folder that exists and whose entries can be listed.

    Args:
        path: the folder.
        content: what it contains, for the error message.

    Raises:
        DataError: when it does not exist, is a file, or cannot be listed.
    """
    location = existing_path(path)
    if not location.is_dir():
        raise DataError(f"'{path}' is a file; give the folder that contains {content}", "path")
    with file_errors(location):
        os.listdir(location)
    return location


def open_file(path: Path) -> io.BufferedReader:
    """Open a regular file for reading; opening anything else could wait forever.

    Raises:
        DataError: when it is a folder, FIFO, socket or device.
        OSError: when it cannot be opened.
    """
    refuse_irregular(path, os.stat(path).st_mode)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags)
    try:
        refuse_irregular(path, os.fstat(handle).st_mode)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def is_text(name: str) -> bool:
    r"""Return whether a name is valid Unicode, which names of files need not be.

    >>> is_text("caf\u00e9"), is_text("caf\udce9")
    (True, False)
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def refuse_irregular(path: Path, mode: int) -> None:
    """Refuse everything but a regular file, given the mode of its status.

    Raises:
        DataError: for a folder, FIFO, socket or device.
    """
    if stat.S_ISREG(mode):
        return
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    raise DataError(f"'{path}': expected a file, got {kinds.get(stat.S_IFMT(mode), 'a device')}", "path")


def digest(path: Path) -> str:
    """Hash a file's content."""
    with file_errors(path), open_file(path) as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextlib.contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Convert errors of reading a damaged or unreadable file into a DataError that names the file."""
    try:
        yield
    except DataError:
        raise
    except MemoryError:
        raise DataError(f"{path} does not fit in memory", "path") from None
    except Exception as error:  # damaged files raise errors of many types in the libraries that read them
        if isinstance(error, OSError) and error.errno is not None:
            raise DataError(f"{path} cannot be read: {error.strerror}", "path") from None
        line = first_line(error).rstrip(".")
        reason = line[:1].lower() + line[1:]
        raise DataError(f"{path} is damaged or has another format than its name says: {reason}", "path") from None
