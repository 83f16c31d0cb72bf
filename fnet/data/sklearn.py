"""Real data that scikit-learn ships inside its package: nothing is downloaded."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from fnet.data.source import Arrays, Spec, Targets

SPECS: Mapping[str, Spec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            Spec("digits", (8, 8, 1), Targets("classes", 10, tuple("0123456789")), 1797, (0.0, 16.0)),
            Spec("iris", (4,), Targets("classes", 3, ("setosa", "versicolor", "virginica")), 150),
            Spec("wine", (13,), Targets("classes", 3, ("class_0", "class_1", "class_2")), 178),
            Spec("breast_cancer", (30,), Targets("classes", 2, ("malignant", "benign")), 569),
            Spec("diabetes", (10,), Targets("values", 1, ("disease progression",)), 442),
        )
    }
)
"""What is known of each data set without reading it."""


def load(name: str) -> Arrays:
    """The whole data set, as scikit-learn has it: unscaled (diabetes comes standardized, as published)."""
    from sklearn import datasets  # a second of import, paid only when these data are read

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    spec = SPECS[name]
    x = np.asarray(x, np.float32).reshape(-1, *spec.shape)
    y = y.astype(np.int32) if spec.targets.kind == "classes" else y.astype(np.float32)[:, None]
    return Arrays(x, y)
