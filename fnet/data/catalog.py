"""The sources by name: what they know of a data set, and reading it."""

from collections.abc import Mapping
from typing import Any

from fnet.core.settings import model_of
from fnet.data import files, sklearn, synthetic, tfds
from fnet.data.normalize import Normalization
from fnet.data.source import Arrays, Spec, fingerprint
from fnet.data.stream import Stream

SOURCES: Mapping[str, tuple[str, ...]] = {
    "sklearn": tuple(sklearn.SPECS),
    "synthetic": tuple(synthetic.GENERATORS),
    "files": tuple(files.FORMATS),
}
"""The names of the data sets of each source; of files, those of the formats."""


def embedded() -> dict[str, list[Spec]]:
    """What is known of the sets that need no file, by source, in their default settings."""
    made = []
    for name, generator in synthetic.GENERATORS.items():
        made.append(synthetic.spec(name, model_of(generator.make, None, ("rng",))().model_dump()))
    return {"sklearn": list(sklearn.SPECS.values()), "synthetic": made}


def source_of(name: str) -> str | None:
    """The source that has a data set of this name."""
    return next((source for source, names in SOURCES.items() if name in names), None)


def spec_of(source: str, name: str, settings: Mapping[str, Any]) -> Spec:
    """What is known of a data set before it is read.

    Raises:
        DataError: for files that are not what they should be.
    """
    match source:
        case "sklearn":
            return sklearn.SPECS[name]
        case "files":
            return files.spec(name, settings)
        case "tfds":
            return tfds.spec(name, settings)
        case _:
            return synthetic.spec(name, settings)


def read(source: str, name: str, settings: Mapping[str, Any], seed: int) -> Arrays:
    """The whole data set; the seed matters only to data that are made.

    Raises:
        DataError: for files that are not what they should be.
    """
    match source:
        case "sklearn":
            return sklearn.load(name)
        case "files":
            return files.load(name, settings)
        case "tfds":
            return tfds.load(name, settings)
        case _:
            return synthetic.load(name, settings, seed)


def stream(source: str, name: str, settings: Mapping[str, Any], seed: int) -> Stream:
    """The whole data set, to be read batch by batch; data that are made, or that are small, are in memory all the same.

    Raises:
        DataError: for files that are not what they should be.
    """
    match source:
        case "files":
            return files.stream(name, settings)
        case "tfds":
            return tfds.stream(name, settings)
        case _:
            return Stream(*read(source, name, settings, seed))


def fingerprint_of(source: str, name: str, settings: Mapping[str, Any], data: Arrays | Stream) -> str:
    """A hash of the data, or, where to hash them would mean to decode them all, of the records that hold them."""
    streamed = source == "tfds" and isinstance(data, Stream)
    return tfds.fingerprint(name, settings) if streamed else fingerprint(data)


def default_normalization(source: str, spec: Spec) -> Normalization:
    """What suits a data set when the config does not say: images to [0, 1], tables standardized, formulas as made."""
    if source == "synthetic" or spec.dtype == "int32":
        return "none"
    return "unit" if len(spec.shape) == 3 else "standard"
