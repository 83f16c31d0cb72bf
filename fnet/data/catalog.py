"""The sources by name: what they know of a data set, and reading it."""

from collections.abc import Mapping
from typing import Any

from fnet.data import sklearn, synthetic
from fnet.data.normalize import Normalization
from fnet.data.source import Arrays, Spec

SOURCES: Mapping[str, tuple[str, ...]] = {
    "sklearn": tuple(sklearn.SPECS),
    "synthetic": tuple(synthetic.GENERATORS),
}
"""The names of the data sets of each source."""


def source_of(name: str) -> str | None:
    """The source that has a data set of this name."""
    return next((source for source, names in SOURCES.items() if name in names), None)


def spec_of(source: str, name: str, settings: Mapping[str, Any]) -> Spec:
    """What is known of a data set before it is read."""
    return sklearn.SPECS[name] if source == "sklearn" else synthetic.spec(name, settings)


def read(source: str, name: str, settings: Mapping[str, Any], seed: int) -> Arrays:
    """The whole data set; the seed matters only to data that are made."""
    return sklearn.load(name) if source == "sklearn" else synthetic.load(name, settings, seed)


def default_normalization(source: str, spec: Spec) -> Normalization:
    """What suits a data set when the config does not say: images to [0, 1], tables standardised, formulas as made."""
    if source == "synthetic":
        return "none"
    return "unit" if len(spec.shape) == 3 else "standard"
