"""Synthetic data: the planar datasets of the TensorFlow Playground, and the lectures' examples.

Each dataset is a function of a NumPy generator and its settings that returns the examples (n, ...) and their targets.
Planar points are roughly in [-6, 6]^2.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

import numpy as np
from annotated_types import Ge, Interval

from fnet.data import grammar
from fnet.data.arrays import Arrays
from fnet.data.normalize import Normalization, TargetNormalization
from fnet.data.source import DatasetSpec, DataSource, Targets

Samples = Annotated[int, Ge(2)]
Noise = Annotated[float, Interval(ge=0, le=1)]


def xor(rng: np.random.Generator, samples: Samples = 500, noise: Noise = 0.0):
    """Points in a square, of class 1 if both coordinates have the same sign, else 0, with a gap along the axes.

    As in the Playground, the class is the negation of x1 XOR x2, with coordinates read as truth values.

    Args:
        samples: number of examples.
        noise: the class is that of the point after it is moved by up to 5 * noise in both directions.
    """
    points = rng.uniform(-5, 5, (samples, 2))
    points += np.where(points > 0, 0.3, -0.3)
    moved = points + noise * rng.uniform(-5, 5, (samples, 2))
    return points, moved[:, 0] * moved[:, 1] >= 0


def circle(rng: np.random.Generator, samples: Samples = 500, noise: Noise = 0.0):
    """Points in a disc of radius 2.5 (class 1) and in a ring around it, of radii 3.5 to 5 (class 0).

    Args:
        samples: number of examples.
        noise: the class is that of the point after it is moved by up to 5 * noise in both directions.
    """
    inside = np.arange(samples) < samples // 2
    radius = np.where(inside, rng.uniform(0, 2.5, samples), rng.uniform(3.5, 5, samples))
    angle = rng.uniform(0, 2 * np.pi, samples)
    points = radius[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    moved = points + noise * rng.uniform(-5, 5, (samples, 2))
    return points, np.hypot(*moved.T) < 2.5


def gauss(rng: np.random.Generator, samples: Samples = 500, noise: Noise = 0.0):
    """Two round Gaussian clouds, centered at (2, 2) for class 1 and (-2, -2) for class 0.

    Args:
        samples: number of examples.
        noise: determines the variance of a cloud, 0.5 + 7 * noise.
    """
    upper = np.arange(samples) < samples // 2
    center = np.where(upper, 2.0, -2.0)[:, None]
    return center + np.sqrt(0.5 + 7 * noise) * rng.standard_normal((samples, 2)), upper


def spiral(rng: np.random.Generator, samples: Samples = 500, noise: Noise = 0.0):
    """Two interleaved spirals of 1.75 turns, one per class.

    Args:
        samples: number of examples.
        noise: maximum displacement of a point from its spiral, in both directions.
    """
    first = np.arange(samples) < samples // 2
    position = np.concatenate([np.arange(n) / n for n in (samples // 2, samples - samples // 2)])
    angle = 1.75 * 2 * np.pi * position + np.where(first, 0, np.pi)
    points = 5 * position[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    return points + noise * rng.uniform(-1, 1, (samples, 2)), first


def parity(rng: np.random.Generator, bits: Annotated[int, Interval(ge=1, le=16)] = 4):  # noqa: ARG001
    """All patterns of n bits, of class 1 if the number of ones is odd.

    Args:
        bits: n; there are 2^n examples.
    """
    patterns = np.array(list(itertools.product([0, 1], repeat=bits)))
    return patterns, patterns.sum(axis=1) % 2


def chocolate(rng: np.random.Generator, samples: Samples = 500):
    """The lecture's toy example: amount of chocolate, uniform in [0, 10], and whether the person was happy (class 1).

    Args:
        samples: number of examples; P(happy | x) = 1 / (1 + e^-(x - 5)).
    """
    amount = rng.uniform(0, 10, (samples, 1))
    return amount, rng.uniform(size=samples) < 1 / (1 + np.exp(5 - amount[:, 0]))


def sine(rng: np.random.Generator, samples: Samples = 500, noise: Noise = 0.0):
    """Regression of y = sin x, for x uniform in [-pi, pi].

    Args:
        samples: number of examples.
        noise: standard deviation of the Gaussian noise added to y.
    """
    x = rng.uniform(-np.pi, np.pi, (samples, 1))
    return x, np.sin(x) + noise * rng.standard_normal((samples, 1))


class Generator(NamedTuple):
    """A synthetic dataset.

    make: the function that generates the examples and their targets.
    shape: shape of one example, from the settings.
    targets: description of the targets; for a text, they have the shape of an example.
    size: number of examples, from the settings.
    vocabulary: for a text, the characters that may occur.
    """

    make: Callable[..., tuple[np.ndarray, np.ndarray]]
    shape: Callable[[Mapping[str, Any]], tuple[int, ...]]
    targets: Targets
    size: Callable[[Mapping[str, Any]], int] = lambda settings: settings["samples"]
    vocabulary: str | None = None


_TWO_CLASSES = Targets("classes", 2)
SUPPLIED = ("rng",)
"""The parameters of the generators that are not settings."""

GENERATORS: Mapping[str, Generator] = MappingProxyType(
    {
        "xor": Generator(xor, lambda settings: (2,), _TWO_CLASSES),
        "circle": Generator(circle, lambda settings: (2,), _TWO_CLASSES),
        "gauss": Generator(gauss, lambda settings: (2,), _TWO_CLASSES),
        "spiral": Generator(spiral, lambda settings: (2,), _TWO_CLASSES),
        "parity": Generator(
            parity,
            lambda settings: (settings["bits"],),
            Targets("classes", 2, ("even", "odd")),
            lambda settings: 2 ** settings["bits"],
        ),
        "chocolate": Generator(chocolate, lambda settings: (1,), Targets("classes", 2, ("unhappy", "happy"))),
        "sine": Generator(sine, lambda settings: (1,), Targets("values", 1)),
        "sentences": Generator(
            grammar.sentences,
            lambda settings: (settings["block"],),
            Targets("classes", len(grammar.VOCABULARY), tuple(grammar.VOCABULARY)),
            vocabulary=grammar.VOCABULARY,
        ),
    }
)
"""The synthetic datasets by name."""


@dataclass(frozen=True)
class SyntheticSource(DataSource):
    """A synthetic dataset with its settings."""

    name: str
    settings: Mapping[str, Any]

    def spec(self) -> DatasetSpec:
        """Describe the dataset."""
        _, shape_of, targets, size_of, vocabulary = GENERATORS[self.name]
        shape, size = shape_of(self.settings), size_of(self.settings)
        if vocabulary is None:
            return DatasetSpec(self.name, shape, targets, size)
        targets = targets._replace(shape=shape)
        return DatasetSpec(self.name, shape, targets, size, tokens=True, ordered=True, vocabulary=vocabulary)

    def read(self, seed: int) -> Arrays:
        """Generate the dataset, a function of the seed and the settings."""
        generator = GENERATORS[self.name]
        x, y = generator.make(np.random.default_rng(seed), **self.settings)
        if generator.vocabulary is not None:
            return Arrays(x, y)
        return Arrays(x.astype(np.float32), y.astype(np.int32 if generator.targets.kind == "classes" else np.float32))

    def default_normalization(self, spec: DatasetSpec) -> Normalization:  # noqa: ARG002
        """Return none: the formulas determine the range of the examples."""
        return "none"

    def default_target_normalization(self, spec: DatasetSpec) -> TargetNormalization:  # noqa: ARG002
        """Return none: the formulas determine the range of the targets."""
        return "none"


def source(name: str, settings: Mapping[str, Any]) -> DataSource:
    """Return the data source of a dataset with these settings."""
    return SyntheticSource(name, settings)
