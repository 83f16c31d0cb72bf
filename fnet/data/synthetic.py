"""Data made by formula: the plane sets of the TensorFlow playground, and the lectures' examples.

Each set is a function of a NumPy generator and its settings that returns the examples (n, ...) and their targets.
Plane points lie in about [-6, 6]^2.
"""

import itertools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

import numpy as np
from annotated_types import Ge, Interval

from fnet.data import grammar
from fnet.data.source import Arrays, Spec, Targets

Samples = Annotated[int, Ge(2)]
Noise = Annotated[float, Interval(ge=0, le=1)]


def xor(rng: np.random.Generator, samples: Samples = 500, noise: Noise = 0.0):
    """Points of a square, of class 1 where the coordinates have the same sign, else 0, with a gap along the axes.

    The playground's choice of classes: it is the negation of x1 XOR x2 for coordinates read as truth values.

    Args:
        samples: number of examples.
        noise: the class is that of the point moved by up to 5 times this in both directions.
    """
    points = rng.uniform(-5, 5, (samples, 2))
    points += np.where(points > 0, 0.3, -0.3)
    moved = points + noise * rng.uniform(-5, 5, (samples, 2))
    return points, moved[:, 0] * moved[:, 1] >= 0


def circle(rng: np.random.Generator, samples: Samples = 500, noise: Noise = 0.0):
    """A disc of radius 2.5 (class 1) inside a ring from 3.5 to 5 (class 0).

    Args:
        samples: number of examples.
        noise: the class is that of the point moved by up to 5 times this in both directions.
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
        noise: the variance of a cloud is 0.5 + 7 times this.
    """
    upper = np.arange(samples) < samples // 2
    center = np.where(upper, 2.0, -2.0)[:, None]
    return center + np.sqrt(0.5 + 7 * noise) * rng.standard_normal((samples, 2)), upper


def spiral(rng: np.random.Generator, samples: Samples = 500, noise: Noise = 0.0):
    """Two interleaved spirals of 1.75 turns, one a class.

    Args:
        samples: number of examples.
        noise: a point lies up to this far from its spiral in both directions.
    """
    first = np.arange(samples) < samples // 2
    position = np.concatenate([np.arange(n) / n for n in (samples // 2, samples - samples // 2)])
    angle = 1.75 * 2 * np.pi * position + np.where(first, 0, np.pi)
    points = 5 * position[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    return points + noise * rng.uniform(-1, 1, (samples, 2)), first


def parity(rng: np.random.Generator, bits: Annotated[int, Interval(ge=1, le=16)] = 4):  # noqa: ARG001
    """Every pattern of n bits once, of class 1 when the number of ones is odd.

    Args:
        bits: n; there are 2^n examples.
    """
    patterns = np.array(list(itertools.product([0, 1], repeat=bits)))
    return patterns, patterns.sum(axis=1) % 2


def chocolate(rng: np.random.Generator, samples: Samples = 500):
    """The lecture's toy: how much chocolate, uniform in [0, 10], and whether it made happy (class 1).

    Args:
        samples: number of examples; P(happy | x) = 1 / (1 + e^-(x - 5)).
    """
    amount = rng.uniform(0, 10, (samples, 1))
    return amount, rng.uniform(size=samples) < 1 / (1 + np.exp(5 - amount[:, 0]))


def sine(rng: np.random.Generator, samples: Samples = 500, noise: Noise = 0.0):
    """A regression: y = sin x for x uniform in [-pi, pi].

    Args:
        samples: number of examples.
        noise: standard deviation of the Gaussian noise added to y.
    """
    x = rng.uniform(-np.pi, np.pi, (samples, 1))
    return x, np.sin(x) + noise * rng.standard_normal((samples, 1))


class Generator(NamedTuple):
    """A synthetic set: how it is made, and what is known of it from its settings.

    vocabulary: of sets of text, whose targets are the tokens that follow.
    """

    make: Callable[..., tuple[np.ndarray, np.ndarray]]
    shape: Callable[[Mapping[str, Any]], tuple[int, ...]]
    targets: Targets
    size: Callable[[Mapping[str, Any]], int] = lambda settings: settings["samples"]
    vocabulary: str | None = None


_TWO_CLASSES = Targets("classes", 2)
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
"""The synthetic sets by name."""


def spec(name: str, settings: Mapping[str, Any]) -> Spec:
    """What is known of a set with these settings."""
    generator = GENERATORS[name]
    shape, size = generator.shape(settings), generator.size(settings)
    if generator.vocabulary is None:
        return Spec(name, shape, generator.targets, size)
    targets = generator.targets._replace(shape=shape)
    return Spec(name, shape, targets, size, dtype="int32", ordered=True, vocabulary=generator.vocabulary)


def load(name: str, settings: Mapping[str, Any], seed: int) -> Arrays:
    """The set made from a seed: the same seed and settings always give the same examples."""
    generator = GENERATORS[name]
    x, y = generator.make(np.random.default_rng(seed), **settings)
    if generator.vocabulary is not None:
        return Arrays(x, y)
    return Arrays(x.astype(np.float32), y.astype(np.int32 if generator.targets.kind == "classes" else np.float32))
