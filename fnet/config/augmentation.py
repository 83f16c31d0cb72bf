"""Checks of the config's list of augmentations against their signatures and the shape of the data."""

from collections.abc import Iterator, Sequence
from typing import Any

from fnet.config.errors import Path, Problem
from fnet.config.items import check_items
from fnet.core.layer import Shape
from fnet.data.augment import REGISTRY, AugmentationError, build


def check_augmentations(items: Sequence[Any], path: Path) -> list[Problem]:
    """Return the problems of a list of augmentations, except those that depend on the shape of the data."""
    return check_items(REGISTRY, items, path)


def incompatibilities(items: Sequence[Any], shape: Shape, path: Path) -> Iterator[Problem]:
    """Yield a problem for every augmentation in a checked list that cannot be applied to examples of this shape."""
    for index, augmentation in enumerate(build(items)):
        try:
            augmentation.check(shape)
        except AugmentationError as error:
            yield Problem((*path, index), f"augment: {error}")
