"""The picture of `fnet data show`: every kind of dataset can be drawn."""

import io

import numpy as np
import pytest
from PIL import Image

from fnet.data import catalog
from fnet.data.arrays import Arrays
from fnet.data.inspect import inspect
from fnet.data.source import DatasetSpec, Targets
from fnet.report.samples import draw


def pixels(found):
    with Image.open(io.BytesIO(draw(found))) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("L"))


@pytest.mark.parametrize(
    ("kind", "name", "settings"),
    [
        ("sklearn", "digits", {}),
        ("sklearn", "diabetes", {}),
        ("synthetic", "spiral", {"samples": 60}),
        ("synthetic", "sine", {"samples": 40}),
        ("synthetic", "sentences", {"samples": 30, "block": 16}),
    ],
)
def test_every_kind_of_dataset_is_drawn(kind, name, settings):
    source = catalog.source(kind, name, settings)
    picture = pixels(inspect(source.read(0), source.spec(), (0.8, 0.1, 0.1), "none", seed=0))
    assert len(np.unique(picture)) > 20


def test_another_dataset_gives_another_picture(rng):
    spec = DatasetSpec("points", (2,), Targets("classes", 2, ("[red]", "$x_1$")), 40)
    y = (np.arange(40) % 2).astype(np.int32)
    first, second = (
        pixels(
            inspect(
                Arrays(rng.standard_normal((40, 2)).astype(np.float32), y), spec, (0.8, 0.1, 0.1), "standard", seed=0
            )
        )
        for _ in range(2)
    )
    assert not np.array_equal(first, second)


def test_images_of_a_single_class_are_drawn(rng):
    spec = DatasetSpec("dark", (3, 2, 1), Targets("classes", 2, ("seen", "unseen")), 30, (0.0, 255.0))
    data = Arrays(rng.integers(0, 256, (30, 3, 2, 1), np.uint8), np.zeros(30, np.int32))
    assert len(np.unique(pixels(inspect(data, spec, (0.8, 0.1, 0.1), "none", seed=0)))) > 20
