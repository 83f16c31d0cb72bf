"""Writing files whole or not at all, and JSON; what every part of the application that leaves files uses."""

import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class OutputError(OSError):
    """What was asked for cannot be written where it was asked for."""

    exit_status = 2


def write(path: Path, content: str | bytes) -> None:
    """Writes a file whole or not at all: to a temporary name beside it first, which then takes its place."""
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
    """Writes what the user asked for, whole or not at all.

    Args:
        file: where to.
        content: what to write.
        what: it is, as the message calls it: "page".

    Raises:
        OutputError: when it cannot be written.
    """
    path = Path(file).resolve()
    if path.exists() and not path.is_file():
        raise OutputError(f"the {what} cannot be written to '{file}': it is no regular file")
    try:
        write(path, content)
    except OSError as error:
        raise OutputError(f"the {what} cannot be written to '{file}': {error.strerror}") from None


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Appends one line of JSON, in one write."""
    with path.open("a", encoding="utf-8") as file:
        file.write(to_json(record) + "\n")


def to_json(value: Any) -> str:
    """JSON on one line; it knows no NaN and no infinity, which become null.

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
