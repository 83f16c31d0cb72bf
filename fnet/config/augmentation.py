"""The config's list of augmentations: checked against their own signatures, all problems at once."""

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ValidationError

from fnet.config.errors import Path, Problem, unknown_key
from fnet.core.layer import Shape
from fnet.core.settings import by_setting, in_words, model_of
from fnet.data.augment import AugmentationError, build, item


def check_augmentations(items: Sequence[Any], path: Path) -> Iterator[Problem]:
    """Everything that is wrong with the items of a list of augmentations, short of the examples' shape."""
    for number, data in enumerate(items):
        try:
            kind, construct, values = item(data)
        except ValueError as error:
            yield Problem((*path, number), str(error), at_key=True)
            continue
        place = (*path, number, kind) if isinstance(data, dict) else (*path, number)
        model = model_of(construct)
        try:
            model(**values)
        except ValidationError as error:
            for key, entries in by_setting(error).items():
                if entries[0]["type"] == "extra_forbidden":
                    yield unknown_key((*place, key), model.model_fields, f"'{kind}'", elsewhere=False)
                else:
                    yield Problem((*place, key), f"{kind}: {key}: {in_words(*entries)}")


def misfits(items: Sequence[Any], shape: Shape, path: Path) -> Iterator[Problem]:
    """Which augmentations of a checked list examples of a shape cannot be put through."""
    for number, augmentation in enumerate(build(items)):
        try:
            augmentation.check(shape)
        except AugmentationError as error:
            yield Problem((*path, number), f"augment: {error}")
