"""Write files atomically, and JSON, without importing JAX."""

import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class OutputError(OSError):
    """An output file that the user asked for cannot be written."""

    exit_status = 2


def write(path: Path, content: str | bytes) -> None:
    """Write a file atomically: write a temporary file in the same folder, which then replaces it."""
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


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


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Append one line of JSON, in one write."""
    with path.open("a", encoding="utf-8") as file:
        file.write(to_json(record) + "\n")


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
