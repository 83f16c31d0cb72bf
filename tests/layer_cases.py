"""The table of all layers: which settings each is tested with, on examples of which shape.

The first network of a kind stands for the kind in the cross-cutting tests; all of them are held to agree with the
hand-written reference and with numeric differences.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

import fnet


class Case(NamedTuple):
    """A network of one kind of layer, the shape of its examples, and the mask of a batch of three of them."""

    make: Callable[[], fnet.Layer]
    in_shape: tuple[int, ...]
    mask: np.ndarray | None = None


CASES: dict[str, list[Case]] = {
    "dense": [
        Case(lambda: fnet.dense(3), (4,)),
        Case(lambda: fnet.dense(3, bias=False), (4,)),
        Case(lambda: fnet.dense(2, init="orthogonal"), (5, 4)),
        Case(lambda: fnet.dense(1, init="he_normal"), (2, 3, 2)),
    ],
    "flatten": [Case(fnet.flatten, (2, 3, 2)), Case(fnet.flatten, (4,)), Case(fnet.flatten, ())],
    "identity": [Case(fnet.identity, (5,))],
    "sigmoid": [Case(fnet.sigmoid, (5,)), Case(fnet.sigmoid, (2, 3))],
    "tanh": [Case(fnet.tanh, (5,))],
    "relu": [Case(fnet.relu, (5,))],
    "leaky_relu": [
        Case(fnet.leaky_relu, (5,)),
        Case(lambda: fnet.leaky_relu(0.1), (5,)),
        Case(lambda: fnet.leaky_relu(0.0), (5,)),
    ],
    "elu": [Case(fnet.elu, (5,)), Case(lambda: fnet.elu(0.3), (5,))],
    "softmax": [Case(fnet.softmax, (5,)), Case(fnet.softmax, (2, 3))],
    "swish": [Case(fnet.swish, (5,))],
    "gelu": [Case(fnet.gelu, (5,)), Case(lambda: fnet.gelu("exact"), (5,))],
    "serial": [
        Case(lambda: fnet.serial(fnet.dense(3), fnet.tanh(), fnet.dense(2)), (4,)),
        Case(fnet.serial, (4,)),
        Case(
            lambda: fnet.serial(
                fnet.flatten(),
                fnet.serial(fnet.dense(3), fnet.serial(fnet.swish(), fnet.dense(4, bias=False)), name="block"),
                fnet.serial(fnet.dense(2), fnet.softmax()),
            ),
            (2, 2),
        ),
    ],
}

FIRST = {kind: cases[0] for kind, cases in CASES.items()}
ALL = [(f"{kind}-{number}", case) for kind, cases in CASES.items() for number, case in enumerate(cases)]


def inputs(rng: np.random.Generator, case: Case, batch: int = 3) -> np.ndarray:
    """Examples without symmetry, whose entries keep away from the kinks at 0."""
    x = rng.standard_normal((batch, *case.in_shape))
    return x + 0.1 * np.sign(x)
