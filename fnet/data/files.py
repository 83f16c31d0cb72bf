"""The formats of the user's own files: functions of their settings that return a `FileSource`."""

from collections.abc import Callable, Mapping
from inspect import Parameter
from types import MappingProxyType
from typing import Any

from fnet.core.settings import named_parameters
from fnet.data.idx import idx
from fnet.data.images import EXTENSIONS, images
from fnet.data.npz import npz
from fnet.data.path import FileSource, existing_path
from fnet.data.source import DataError, DatasetSpec, DataSource
from fnet.data.table import readers, table
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


OF_THE_FILE = ("path", "separator", "encoding", "decimal", "sheet", "labels", "file")
"""Settings that describe a single file, and not how its examples are understood."""


def source_like(path: str, settings: Mapping[str, Any], spec: DatasetSpec) -> DataSource:
    """Return the data in another file, for a network that was trained on `spec`.

    Args:
        path: the file or folder, in any format.
        settings: the settings of the data of the network, of which those apply that the format of the file has.
        spec: description of that data.

    Raises:
        DataError: when the file does not exist, has no known format, or needs a setting that the network's data lacks.
    """
    name = format_of(path)
    known = named_parameters(FORMATS[name])
    is_labeled = settings.get("labels") is not None
    values = {
        key: value
        for key, value in settings.items()
        if key in known and key not in OF_THE_FILE and value is not None and not (is_labeled and name == "images")
    }
    if name == "images" and len(spec.shape) != 3:
        raise DataError(f"{path} is a folder, but the network was trained on examples of shape {spec.shape}")
    if "target" not in values and known.get("target") is not None and known["target"].default is Parameter.empty:
        raise DataError(f"{path} is a table, but the network was trained on examples of shape {spec.shape}")
    return FORMATS[name](**values, path=existing_path(path).as_posix()).like(spec)


def format_of(path: str | Mapping[str, str]) -> str:
    """Return the format of a file by its extension, or of a folder by its content; of several files, of the first.

    Raises:
        DataError: when the path does not exist, or its format is not known.
    """
    if not isinstance(path, str):
        path = next(iter(path.values()), "")
    location = existing_path(path)
    table_format = readers.format_of(location)
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
    if extension == ".npy":
        fix = "save examples and targets in one file: np.savez('data.npz', x=x, y=y)"
        raise DataError(f"'{path}' is a single array; {fix}", "path")
    known = ", ".join([*readers.EXTENSIONS, *_BY_EXTENSION, "a folder of images, of IDX files or of Parquet files"])
    received = f"the extension '{location.suffix}'" if extension else "no extension"
    what = f"'{location.name}': expected a known format, got {received}"
    raise DataError(f"{what}; known: {known}; or set data.name to one of {', '.join(FORMATS)}", "path")
