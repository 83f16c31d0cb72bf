"""The formats of the user's own files: functions of their settings that return a `FileSource`."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from fnet.data.idx import idx
from fnet.data.images import EXTENSIONS, images
from fnet.data.npz import npz
from fnet.data.path import FileSource, existing_path
from fnet.data.source import DataError, DataSource
from fnet.data.table import encode, table
from fnet.data.text import text

FORMATS: Mapping[str, Callable[..., FileSource]] = MappingProxyType(
    {
        "csv": table.csv,
        "idx": idx,
        "images": images,
        "jsonl": table.jsonl,
        "npz": npz,
        "parquet": table.parquet,
        "text": text,
        "xlsx": table.xlsx,
    }
)
"""The formats by name."""

TABLES = ("csv", "jsonl", "parquet", "xlsx")
"""The formats of tables."""

SUPPLIED = table.SUPPLIED
"""Parameters of the formats that users do not set: `group`, the column of a table that divides the examples."""

_BY_EXTENSION = {".npz": "npz", ".txt": "text"}


def source(name: str, settings: Mapping[str, Any]) -> DataSource:
    """Return the data source of a format with these settings."""
    return FORMATS[name](**settings)


def format_of(path: str | Mapping[str, str]) -> str:
    """Return the format of a file by its extension, or of a folder by its content; of several files, of the first.

    Raises:
        DataError: when the path does not exist, or its format is not known.
    """
    if not isinstance(path, str):
        path = next(iter(path.values()), "")
    location = existing_path(path)
    table_format = encode.format_of(location)
    if table_format is not None:
        return table_format
    if location.is_dir():
        return "idx" if any("-ubyte" in entry.name for entry in location.iterdir()) else "images"
    extension = location.suffix.lower()
    if extension in _BY_EXTENSION:
        return _BY_EXTENSION[extension]
    if extension in EXTENSIONS:
        raise DataError(f"'{path}' is a single image; give the folder that contains one folder per class", "path")
    if "-ubyte" in location.name:
        raise DataError(f"'{path}' is a single IDX file; give the folder that contains images and labels", "path")
    known = ", ".join([*encode.EXTENSIONS, *_BY_EXTENSION, "a folder of images, of IDX files or of Parquet files"])
    received = f"the extension '{location.suffix}'" if extension else "no extension"
    what = f"'{location.name}': expected a known format, got {received}"
    raise DataError(f"{what}; known: {known}; or set data.name to one of {', '.join(FORMATS)}", "path")
