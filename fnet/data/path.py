"""The user's own files: paths, hashes and errors, and the data source that every format returns."""

import contextlib
import hashlib
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import MinLen
from pydantic import AfterValidator

from fnet.core.wording import suggestion
from fnet.data.arrays import Arrays
from fnet.data.source import DataError, DatasetSpec, DataSource
from fnet.data.stream import Stream


def _absolute(path: str) -> str:
    return os.path.abspath(Path(path).expanduser())


PathText = Annotated[str, MinLen(1), AfterValidator(_absolute)]
"""A setting that is a path, relative to the current directory; the resolved config contains it as an absolute path."""


@dataclass(frozen=True)
class FileSource(DataSource):
    """A dataset in the user's own files, defined by two functions.

    header: describes the dataset from the headers of its files, and reads labels only to determine the classes.
    rows: opens the examples where they are stored: in the file itself, or in the cache of decoded arrays.
    """

    header: Callable[[], DatasetSpec]
    rows: Callable[[], Stream]

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


def existing_path(path: str) -> Path:
    """Return the path of a file or folder that exists.

    Raises:
        DataError: when it does not exist; names the first missing part of the path and suggests a similar name.
    """
    wanted = Path(path).expanduser().absolute()
    if wanted.exists():
        return wanted
    missing = next(part for part in (*reversed(wanted.parents), wanted) if not part.exists())
    near = ""
    with contextlib.suppress(OSError):
        near = suggestion(missing.name, [entry.name for entry in missing.parent.iterdir()], listing=False)
    whole = "" if missing == wanted else f" (looking for {wanted})"
    raise DataError(f"'{missing.name}' does not exist in {missing.parent}{whole}{near}", "path")


def existing_file(path: str) -> Path:
    """Return the path of a file that exists.

    Raises:
        DataError: when it does not exist, or is a folder.
    """
    location = existing_path(path)
    if location.is_dir():
        raise DataError(f"'{path}': expected a file, got a folder", "path")
    return location


def digest(path: Path) -> str:
    """Hash a file's content."""
    with file_errors(path), path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextlib.contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Convert errors of reading a damaged or unreadable file into a DataError that names the file."""
    try:
        yield
    except DataError:
        raise
    except (EOFError, zlib.error, zipfile.BadZipFile, ValueError, KeyError, SyntaxError) as error:
        raise DataError(
            f"{path} is damaged or has another format than its name says: {_reason(error)}", "path"
        ) from None
    except OSError as error:
        if error.errno is not None:
            raise DataError(f"{path} cannot be read: {error.strerror}", "path") from None
        raise DataError(
            f"{path} is damaged or has another format than its name says: {_reason(error)}", "path"
        ) from None


def _reason(error: Exception) -> str:
    text = str(error).strip().rstrip(".") or type(error).__name__
    return text[:1].lower() + text[1:]
