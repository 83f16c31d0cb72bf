"""The data source of an experiment: a dataset of the catalog with its settings, as one object."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from fnet.data import catalog
from fnet.data.normalize import Normalization
from fnet.data.source import Arrays, Spec
from fnet.data.stream import Stream


@dataclasses.dataclass(frozen=True)
class DataSource:
    """A dataset of the catalog with its settings.

    Args:
        kind: sklearn, tfds, synthetic or files.
        name: the name of the dataset, or the format of the files.
        settings: the settings that the dataset takes.
    """

    kind: str
    name: str
    settings: Mapping[str, Any]

    def spec(self) -> Spec:
        """Return what is known of the dataset without reading it.

        Raises:
            DataError: when its files cannot be used.
        """
        return catalog.spec_of(self.kind, self.name, self.settings)

    def read(self, seed: int) -> Arrays:
        """Read the whole dataset into memory; only synthetic data depend on the seed.

        Raises:
            DataError: when its files cannot be used.
        """
        return catalog.read(self.kind, self.name, self.settings, seed)

    def stream(self, seed: int) -> Stream:
        """Open the dataset for reading in batches.

        Raises:
            DataError: when its files cannot be used.
        """
        return catalog.stream(self.kind, self.name, self.settings, seed)

    def fingerprint(self, data: Arrays | Stream) -> str:
        """Return a hash of the data that `read` or `stream` returned."""
        return catalog.fingerprint_of(self.kind, self.name, self.settings, data)

    def default_normalization(self, spec: Spec) -> Normalization:
        """Return the normalization of a dataset with this spec where the config does not say."""
        return catalog.default_normalization(self.kind, spec)
