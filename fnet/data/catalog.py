"""The data sources, by kind and name."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from fnet.core.settings import model_of
from fnet.data import files, sklearn, synthetic, tfds
from fnet.data.source import DatasetSpec, DataSource

_KINDS: Mapping[str, tuple[Callable[[str, Mapping[str, Any]], DataSource], tuple[str, ...]]] = {
    "sklearn": (sklearn.source, tuple(sklearn.SPECS)),
    "synthetic": (synthetic.source, tuple(synthetic.GENERATORS)),
    "files": (files.source, tuple(files.FORMATS)),
    "tfds": (tfds.source, ()),
}
"""For each kind, the function from name and settings to the data source, and the names that are always known."""

SOURCES: Mapping[str, tuple[str, ...]] = MappingProxyType({kind: names for kind, (_, names) in _KINDS.items()})
"""The names of the datasets of each kind; for files, the formats; for TensorFlow Datasets, none."""


def names() -> list[str]:
    """Return the names of all datasets and file formats, in the order of their kinds."""
    return [name for known in SOURCES.values() for name in known]


def source(kind: str, name: str, settings: Mapping[str, Any]) -> DataSource:
    """Return the data source of a dataset.

    Args:
        kind: sklearn, synthetic, files or tfds.
        name: name of the dataset, or of the file format.
        settings: the dataset's own settings, checked and complete.
    """
    make, _ = _KINDS[kind]
    return make(name, settings)


def source_of(name: str) -> str | None:
    """Return the kind of source that has a dataset of this name, or None."""
    return next((kind for kind, names in SOURCES.items() if name in names), None)


def embedded() -> dict[str, list[DatasetSpec]]:
    """Describe the datasets that do not need files, by kind, with their default settings."""
    defaults = {
        name: model_of(generator.make, None, synthetic.SUPPLIED)().model_dump()
        for name, generator in synthetic.GENERATORS.items()
    }
    return {
        "sklearn": list(sklearn.SPECS.values()),
        "synthetic": [synthetic.source(name, settings).spec() for name, settings in defaults.items()],
    }
