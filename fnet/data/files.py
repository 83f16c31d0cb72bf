"""The formats of the user's own files: functions of their settings that return a `FileSource`."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from fnet.data.csv import csv
from fnet.data.idx import idx
from fnet.data.images import EXTENSIONS, images
from fnet.data.npz import npz
from fnet.data.path import FileSource, existing_path
from fnet.data.source import DataError, DataSource
from fnet.data.text import text

FORMATS: Mapping[str, Callable[..., FileSource]] = MappingProxyType(
    {"csv": csv, "idx": idx, "images": images, "npz": npz, "text": text}
)
"""The formats by name."""

SUPPLIED = ("group",)
"""Parameters of a format that are not settings of its own: the column of data.split.group, which is not a feature."""

_BY_EXTENSION = {".csv": "csv", ".npz": "npz", ".txt": "text"}


def source(name: str, settings: Mapping[str, Any]) -> DataSource:
    """Return the data source of a format with these settings."""
    return FORMATS[name](**settings)


def format_of(path: str) -> str:
    """Return the format of a file by its extension, or of a folder by its content.

    Raises:
        DataError: when the path does not exist, or its format is not known.
    """
    location = existing_path(path)
    if location.is_dir():
        return "idx" if any("-ubyte" in entry.name for entry in location.iterdir()) else "images"
    extension = location.suffix.lower()
    if extension in _BY_EXTENSION:
        return _BY_EXTENSION[extension]
    if extension in EXTENSIONS:
        raise DataError(f"'{path}' is a single image; give the folder that contains one folder per class", "path")
    if "-ubyte" in location.name:
        raise DataError(f"'{path}' is a single IDX file; give the folder that contains images and labels", "path")
    if extension == ".npy":
        fix = "save examples and targets in one file: np.savez('data.npz', x=x, y=y)"
        raise DataError(f"'{path}' is a single array; {fix}", "path")
    known = ", ".join([*_BY_EXTENSION, "a folder of images, a folder of IDX files"])
    received = f"the extension '{location.suffix}'" if extension else "no extension"
    what = f"'{location.name}': expected a known format, got {received}"
    raise DataError(f"{what}; known: {known}; or set data.name to one of {', '.join(FORMATS)}", "path")
