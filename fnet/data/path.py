"""Finding, naming and fingerprinting the files that data are read from."""

import contextlib
import hashlib
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

from annotated_types import MinLen
from pydantic import AfterValidator

from fnet.core.wording import suggestion
from fnet.data.source import Arrays, DataError, Spec


def _absolute(path: str) -> str:
    return os.path.abspath(Path(path).expanduser())


PathText = Annotated[str, MinLen(1), AfterValidator(_absolute)]
"""A setting that is a path; a relative one is taken from the working folder, and written out for the next run."""


class File(NamedTuple):
    """Data in the user's own files.

    spec: what their headers say, and what is needed of their content to know the classes.
    load: all of it, from the cache of decoded arrays where that holds it; token numbers as small as they are stored.
    """

    spec: Callable[[], Spec]
    load: Callable[[], Arrays]


def existing(path: str) -> Path:
    """The path of a file or folder that exists.

    Raises:
        DataError: where there is none; names the first part of the path that is missing, and what it may have meant.
    """
    found = Path(path).expanduser().absolute()
    if found.exists():
        return found
    missing = next(part for part in (*reversed(found.parents), found) if not part.exists())
    near = ""
    with contextlib.suppress(OSError):
        near = suggestion(missing.name, [entry.name for entry in missing.parent.iterdir()], listing=False)
    whole = "" if missing == found else f", in which {found} would be"
    raise DataError(f"there is no '{missing.name}' in {missing.parent}{whole}{near}", "path")


def file(path: str) -> Path:
    """As `existing`, of a file.

    Raises:
        DataError: for a folder too.
    """
    found = existing(path)
    if found.is_dir():
        raise DataError(f"'{path}' is a folder; this format is one file", "path")
    return found


def digest(path: Path) -> str:
    """A hash of a file's content."""
    with naming(path), path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turns what reading a damaged or unreadable file raises into a DataError that names the file."""
    try:
        yield
    except DataError:
        raise
    except (EOFError, zlib.error, zipfile.BadZipFile, ValueError, KeyError, SyntaxError) as error:
        raise DataError(f"{path} is damaged or not what its name says: {_sentence(error)}", "path") from None
    except OSError as error:
        if error.errno is not None:
            raise DataError(f"{path} cannot be read: {error.strerror}", "path") from None
        raise DataError(f"{path} is damaged or not what its name says: {_sentence(error)}", "path") from None


def _sentence(error: Exception) -> str:
    text = str(error).strip().rstrip(".") or type(error).__name__
    return text[:1].lower() + text[1:]
