"""Write files atomically, and JSON, without importing JAX."""

import contextlib
import errno
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO


class OutputError(OSError):
    """An output file that the user asked for cannot be written."""

    exit_status = 2


def write(path: Path, content: str | bytes) -> None:
    """Write a file atomically: write a temporary file in the same folder, which then replaces it.

    Raises:
        OSError: when it cannot be written; `filename` is the path.
    """
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file in the same folder, which replaces a file when the context ends without an error.

    Raises:
        OSError: when it cannot be written; `filename` is the path.
    """
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            raise type(error)(error.errno, error.strerror, str(path)) from None
        raise


def temporary_files(path: Path) -> Iterator[Path]:
    """Yield the temporary files that `write` left beside a file when the process was killed."""
    return path.parent.glob(f".{path.name}-????????")


def save(file: str, content: str | bytes, what: str) -> None:
    """Write an output file that the user asked for, atomically.

    Args:
        file: path of the file.
        content: content of the file.
        what: name of the content in messages, such as "page".

    Raises:
        OutputError: when the file cannot be written.
    """
    path = Path(file).resolve()
    if path.exists() and not path.is_file():
        raise OutputError(f"the {what} cannot be written to '{file}': it is not a regular file")
    try:
        write(path, content)
    except OSError as error:
        raise OutputError(f"the {what} cannot be written to '{file}': {error.strerror}") from None


def read(path: Path) -> bytes:
    """Return the last 16 MiB of a regular file, or all of a smaller one; anything else, such as a FIFO, may never end.

    Raises:
        OSError: when it is not a regular file, or cannot be read.
    """
    if not path.is_file():
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 2**24))
        return file.read(2**24)


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Append one line of JSON, in one write: the whole line, or nothing.

    Raises:
        OSError: when it cannot be written.
    """
    line = (to_json(record) + "\n").encode()
    with path.open("ab", buffering=0) as file:
        size = file.tell()
        written = file.write(line)
        if written < len(line):  # only a part fits on the disk
            file.truncate(size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def to_json(value: Any) -> str:
    """Return a value as JSON on one line; NaN and infinity, which JSON does not have, become null.

    >>> to_json({"loss": float("nan"), "rows": [1, float("inf")]})
    '{"loss": null, "rows": [1, null]}'
    """

    def finite(value: Any) -> Any:
        match value:
            case float():
                return value if math.isfinite(value) else None
            case Mapping():
                return {key: finite(entry) for key, entry in value.items()}
            case list() | tuple():
                return [finite(entry) for entry in value]
            case _:
                return value

    return json.dumps(finite(value), allow_nan=False)
