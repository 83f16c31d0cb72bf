"""Datasets: sources, splits, normalization, augmentation and streams. Only `fnet.data.augment` needs JAX."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fnet.data import augment as augment
    from fnet.data import stream as stream

_MODULES = ("augment", "stream")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"fnet.data.{name}")
    raise AttributeError(f"module 'fnet.data' has no attribute '{name}'")
