"""Real datasets that ship with scikit-learn, without a download."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from fnet.data.arrays import Arrays
from fnet.data.source import DatasetSpec, DataSource, Targets

SPECS: Mapping[str, DatasetSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            DatasetSpec("digits", (8, 8, 1), Targets("classes", 10, tuple("0123456789")), 1797, (0.0, 16.0)),
            DatasetSpec("iris", (4,), Targets("classes", 3, ("setosa", "versicolor", "virginica")), 150),
            DatasetSpec("wine", (13,), Targets("classes", 3, ("class_0", "class_1", "class_2")), 178),
            DatasetSpec("breast_cancer", (30,), Targets("classes", 2, ("malignant", "benign")), 569),
            DatasetSpec("diabetes", (10,), Targets("values", 1, ("disease progression",)), 442),
        )
    }
)
"""Descriptions of the datasets by name."""


@dataclass(frozen=True)
class SklearnSource(DataSource):
    """A dataset of scikit-learn."""

    name: str

    def spec(self) -> DatasetSpec:
        """Describe the dataset."""
        return SPECS[self.name]

    def read(self, seed: int) -> Arrays:  # noqa: ARG002
        """Read the dataset as scikit-learn stores it: unscaled, except diabetes, which is standardized as published."""
        from sklearn import datasets  # takes a second to import, so only when the data is read

        x, y = getattr(datasets, f"load_{self.name}")(return_X_y=True)
        spec = self.spec()
        x = np.asarray(x, np.float32).reshape(-1, *spec.shape)
        y = y.astype(np.int32) if spec.targets.kind == "classes" else y.astype(np.float32)[:, None]
        return Arrays(x, y)


def source(name: str, settings: Mapping[str, Any]) -> DataSource:
    """Return the data source of a dataset, which has no settings."""
    return SklearnSource(name, **settings)
