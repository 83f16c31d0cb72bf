"""The user's own files, by format. Each format is a function of its settings that gives a `File`."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from fnet.data.csv import csv
from fnet.data.idx import idx
from fnet.data.images import ENDINGS, images
from fnet.data.npz import npz
from fnet.data.path import File, existing
from fnet.data.source import Arrays, DataError, Spec
from fnet.data.stream import Stream
from fnet.data.text import as_tokens, text

FORMATS: Mapping[str, Callable[..., File]] = MappingProxyType(
    {"csv": csv, "idx": idx, "images": images, "npz": npz, "text": text}
)
"""The formats by name."""

_BY_ENDING = {".csv": "csv", ".npz": "npz", ".txt": "text"}


def format_of(path: str) -> str:
    """The format of a file by its ending, or of a folder by what it holds.

    Raises:
        DataError: when there is no such file, or it is of no known format.
    """
    found = existing(path)
    if found.is_dir():
        return "idx" if any("-ubyte" in entry.name for entry in found.iterdir()) else "images"
    if found.suffix.lower() in _BY_ENDING:
        return _BY_ENDING[found.suffix.lower()]
    if found.suffix.lower() in ENDINGS:
        raise DataError(f"'{path}' is one image; give the folder that holds one folder a class", "path")
    if "-ubyte" in found.name:
        raise DataError(f"'{path}' is one IDX file; give the folder that holds images and labels", "path")
    known = ", ".join([*_BY_ENDING, "a folder of images, a folder of IDX files"])
    names = ", ".join(FORMATS)
    what = f"the ending '{found.suffix}' does not tell" if found.suffix else "without an ending, nothing tells"
    raise DataError(f"{what} what '{found.name}' holds; known: {known}; or set data.name to one of {names}", "path")


def spec(name: str, settings: Mapping[str, Any]) -> Spec:
    """What is known of data in a format before they are read.

    Raises:
        DataError: for files that are not what they should be.
    """
    return FORMATS[name](**settings).spec()


def load(name: str, settings: Mapping[str, Any]) -> Arrays:
    """All the data, from the cache of decoded arrays where it has them.

    Raises:
        DataError: for files that are not what they should be.
    """
    arrays = FORMATS[name](**settings).load()
    return arrays.mapped(as_tokens, as_tokens) if name == "text" else arrays


def stream(name: str, settings: Mapping[str, Any]) -> Stream:
    """The same data, left where they are: in the text itself, or in the cache's memory-mapped files.

    Raises:
        DataError: for files that are not what they should be.
    """
    found = Stream(*FORMATS[name](**settings).load())
    return found.mapped(as_tokens, as_tokens) if name == "text" else found
