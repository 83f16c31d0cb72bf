"""The table of all layers: the settings that each is tested with, and the shapes of the examples.

Some tests use only the first network of each kind. All of them are compared with the hand-written reference, and the
reference with numeric differences.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

import fnet


class Case(NamedTuple):
    """A network of one kind of layer, the shape of its examples, and the mask of a batch of three of them.

    A layer that takes several values has a tuple of shapes. `masks` are further inputs: Boolean arrays.
    """

    make: Callable[[], fnet.Layer]
    in_shape: tuple
    mask: np.ndarray | None = None
    masks: tuple[np.ndarray, ...] = ()


STEPS = np.array([[True, True, False], [True, True, True], [False, False, False]])
"""A (batch, time) mask: a short sequence, a full one, and one without real steps."""

GAPS = np.array([[True, True, True], [False, True, True], [True, False, True]])
"""A (batch, time) mask with masked steps at the start and in the middle."""

CASES: dict[str, list[Case]] = {
    "dense": [
        Case(lambda: fnet.dense(3), (4,)),
        Case(lambda: fnet.dense(3, bias=False), (4,)),
        Case(lambda: fnet.dense(2, init="orthogonal"), (5, 4)),
        Case(lambda: fnet.dense(1, init="he_normal"), (2, 3, 2)),
    ],
    "conv": [
        Case(lambda: fnet.conv(3, 3), (5, 4, 2)),
        Case(lambda: fnet.conv(2, (3, 2), stride=2), (5, 4, 3)),
        Case(lambda: fnet.conv(2, 2, stride=(3, 1), padding="valid"), (6, 4, 2)),
        Case(lambda: fnet.conv(2, 3, padding=((2, 0), (1, 3)), stride=2), (5, 4, 2)),
        Case(lambda: fnet.conv(2, (2, 3), padding=2, dilation=2, bias=False), (4, 5, 1)),
        Case(lambda: fnet.conv(4, 3, dilation=(1, 2), groups=2), (5, 6, 4)),
        Case(lambda: fnet.conv(6, 3, stride=2, groups=3), (5, 5, 3)),
        Case(lambda: fnet.conv(2, 1, stride=2, padding="valid"), (6, 5, 3)),
    ],
    "conv_1d": [
        Case(lambda: fnet.conv_1d(3, 3), (6, 2)),
        Case(lambda: fnet.conv_1d(2, 4, stride=3), (7, 2)),
        Case(lambda: fnet.conv_1d(4, 2, padding="valid", dilation=3, groups=2, bias=False), (7, 4)),
        Case(lambda: fnet.conv_1d(2, 3, padding=(4, 0), stride=2), (5, 2)),
        Case(lambda: fnet.conv_1d(2, 3, padding=1), (5, 2)),
        Case(lambda: fnet.conv_1d(2, 2, stride=2), (3, 2), STEPS),
    ],
    "conv_transpose": [
        Case(lambda: fnet.conv_transpose(3, 3), (3, 4, 2)),
        Case(lambda: fnet.conv_transpose(2, (4, 3), stride=2), (3, 2, 3)),
        Case(lambda: fnet.conv_transpose(2, 2, stride=3, bias=False), (2, 3, 2)),
        Case(lambda: fnet.conv_transpose(2, 3, stride=(2, 1), padding="valid"), (2, 3, 2)),
        Case(lambda: fnet.conv_transpose(2, 4, stride=2, padding=((1, 0), (2, 1))), (3, 3, 2)),
    ],
    "max_pool": [
        Case(lambda: fnet.max_pool(2), (4, 6, 2)),
        Case(lambda: fnet.max_pool(3, stride=2), (7, 5, 2)),
        Case(lambda: fnet.max_pool((2, 3), stride=(1, 2), padding="same"), (4, 5, 2)),
        Case(lambda: fnet.max_pool(2, padding="same"), (5, 2)),
        Case(lambda: fnet.max_pool(2), (2, 4, 2, 3)),
        Case(lambda: fnet.max_pool(2, stride=1, padding="same"), (3, 2), STEPS),
    ],
    "avg_pool": [
        Case(lambda: fnet.avg_pool(2), (4, 5, 2)),
        Case(lambda: fnet.avg_pool(3, stride=2, padding="same"), (6, 5, 2)),
        Case(lambda: fnet.avg_pool((3, 2), stride=1), (4, 4, 1)),
        Case(lambda: fnet.avg_pool(2, stride=3), (8, 2)),
        Case(lambda: fnet.avg_pool(2, stride=1), (3, 2), STEPS),
    ],
    "global_max_pool": [
        Case(fnet.global_max_pool, (3, 4, 2)),
        Case(fnet.global_max_pool, (3, 2), STEPS),
        Case(fnet.global_max_pool, (3, 2, 2), GAPS),
    ],
    "global_avg_pool": [
        Case(fnet.global_avg_pool, (3, 4, 2)),
        Case(fnet.global_avg_pool, (3, 2), STEPS),
        Case(fnet.global_avg_pool, (3, 2, 2), GAPS),
        Case(fnet.global_avg_pool, (4, 3), mask=np.array([True, False, True])),
    ],
    "flatten": [Case(fnet.flatten, (2, 3, 2)), Case(fnet.flatten, (4,)), Case(fnet.flatten, ())],
    "reshape": [
        Case(lambda: fnet.reshape((3, 2, 2)), (4, 3)),
        Case(lambda: fnet.reshape((2, -1)), (3, 2, 2)),
        Case(lambda: fnet.reshape((-1,)), (3, 2)),
        Case(lambda: fnet.reshape(()), (1, 1)),
    ],
    "permute": [
        Case(lambda: fnet.permute((3, 1, 2)), (2, 3, 4)),
        Case(lambda: fnet.permute((2, 1)), (2, 3)),
        Case(lambda: fnet.permute((4, 2, 1, 3)), (1, 2, 3, 2)),
    ],
    "zero_pad": [
        Case(lambda: fnet.zero_pad(((0, 1), (2, 3))), (3, 2, 2)),
        Case(lambda: fnet.zero_pad(1), (3, 2, 2)),
        Case(lambda: fnet.zero_pad(2), (3, 2)),
        Case(lambda: fnet.zero_pad(((1, 0), (0, 0), (0, 2))), (2, 1, 2, 2)),
        Case(lambda: fnet.zero_pad(0), (3, 2, 2)),
    ],
    "upsample": [
        Case(fnet.upsample, (3, 2, 2)),
        Case(lambda: fnet.upsample((1, 3)), (2, 2, 2)),
        Case(lambda: fnet.upsample(3), (3, 2)),
        Case(lambda: fnet.upsample((2, 1, 3)), (1, 2, 2, 2)),
    ],
    "batch_norm": [
        Case(fnet.batch_norm, (2, 2, 3)),
        Case(fnet.batch_norm, (4,)),
        Case(lambda: fnet.batch_norm(momentum=0.5, eps=0.1), (3, 2)),
        Case(lambda: fnet.batch_norm(scale=False), (4,)),
        Case(lambda: fnet.batch_norm(shift=False), (2, 3)),
        Case(lambda: fnet.batch_norm(scale=False, shift=False), (4,)),
        Case(fnet.batch_norm, (4,), np.array([True, True, False])),
        Case(fnet.batch_norm, (2, 2, 2), np.array([True, False, True])),
        Case(fnet.batch_norm, (3, 2), STEPS),
        Case(fnet.batch_norm, (3, 2, 2), STEPS),
        Case(fnet.batch_norm, (2,), STEPS),
        Case(fnet.batch_norm, (2, 2), np.zeros(3, bool)),
    ],
    "layer_norm": [
        Case(fnet.layer_norm, (2, 4)),
        Case(fnet.layer_norm, (4,)),
        Case(lambda: fnet.layer_norm(eps=0.1), (2, 2, 3)),
        Case(lambda: fnet.layer_norm(scale=False), (4,)),
        Case(lambda: fnet.layer_norm(shift=False), (4,)),
        Case(lambda: fnet.layer_norm(scale=False, shift=False), (4,)),
    ],
    "group_norm": [
        Case(lambda: fnet.group_norm(2), (2, 3, 4)),
        Case(lambda: fnet.group_norm(1), (3, 2)),
        Case(lambda: fnet.group_norm(3), (2, 2, 3)),
        Case(lambda: fnet.group_norm(2), (6,)),
        Case(lambda: fnet.group_norm(2, eps=0.1, scale=False), (3, 4)),
        Case(lambda: fnet.group_norm(2, shift=False), (3, 4)),
        Case(lambda: fnet.group_norm(2), (3, 4), STEPS),
        Case(lambda: fnet.group_norm(2), (3, 2, 4), STEPS),
        Case(lambda: fnet.group_norm(2), (4,), STEPS),
        Case(lambda: fnet.group_norm(2), (3, 4), np.array([True, True, False])),
    ],
    "rms_norm": [
        Case(fnet.rms_norm, (2, 4)),
        Case(fnet.rms_norm, (4,)),
        Case(lambda: fnet.rms_norm(eps=0.1), (2, 2, 3)),
        Case(lambda: fnet.rms_norm(scale=False), (4,)),
    ],
    "rnn": [
        Case(lambda: fnet.rnn(3), (4, 2)),
        Case(lambda: fnet.rnn(2, activation="sigmoid", reverse=True), (3, 2), STEPS),
        Case(lambda: fnet.rnn(3, activation="relu", sequence=False), (3, 2), GAPS),
        Case(lambda: fnet.rnn(2, sequence=False, reverse=True), (1, 3), np.array([True, True, False])),
    ],
    "gru": [
        Case(lambda: fnet.gru(3), (4, 2)),
        Case(lambda: fnet.gru(2, reverse=True), (3, 2), STEPS),
        Case(lambda: fnet.gru(3, sequence=False), (3, 2), GAPS),
        Case(lambda: fnet.gru(2, sequence=False, reverse=True), (3, 2), STEPS),
    ],
    "lstm": [
        Case(lambda: fnet.lstm(3), (4, 2)),
        Case(lambda: fnet.lstm(2, reverse=True), (3, 2), STEPS),
        Case(lambda: fnet.lstm(3, sequence=False, forget_bias=0.0), (3, 2), GAPS),
        Case(lambda: fnet.lstm(2, sequence=False, reverse=True), (3, 2), STEPS),
    ],
    "bidirectional": [
        Case(lambda: fnet.bidirectional(fnet.lstm(2)), (3, 2), STEPS),
        Case(lambda: fnet.bidirectional(fnet.gru(2, sequence=False), combine="add", name="both"), (3, 2), STEPS),
        Case(lambda: fnet.repeat(fnet.bidirectional(fnet.rnn(2), combine="multiply"), times=2), (3, 2), GAPS),
    ],
    "attention": [
        Case(lambda: fnet.attention(2), (3, 4)),
        Case(lambda: fnet.attention(1, causal=True, bias=False), (3, 2)),
        Case(lambda: fnet.attention(3, init="orthogonal"), (3, 3), STEPS),
        Case(lambda: fnet.attention(2, causal=True), (3, 4), GAPS),
        Case(lambda: fnet.attention(2, rate=0.4), (3, 4), STEPS),
    ],
    "cross_attention": [
        Case(lambda: fnet.cross_attention(2), ((3, 4), (2, 3))),
        Case(lambda: fnet.cross_attention(1, bias=False, rate=0.4), ((2, 2), (3, 3), (3,)), masks=(STEPS,)),
        Case(lambda: fnet.cross_attention(2, init="orthogonal"), ((3, 4), (3, 4), (3,)), STEPS, masks=(GAPS,)),
    ],
    "positions": [Case(lambda: fnet.positions(5), (3, 2)), Case(lambda: fnet.positions(3, std=1.0), (3, 2))],
    "sinusoidal_positions": [
        Case(fnet.sinusoidal_positions, (3, 4)),
        Case(lambda: fnet.sinusoidal_positions(10.0), (2, 3)),
    ],
    "transformer": [
        Case(lambda: fnet.transformer(4, 2, causal=True), (3, 4)),
        Case(lambda: fnet.transformer(3, 1, hidden=2, rate=0.3, name="block"), (3, 3), STEPS),
    ],
    "embedding": [
        Case(lambda: fnet.embedding(5, 3), (4,)),
        Case(lambda: fnet.embedding(4, 2, std=1.0), (2, 3)),
        Case(lambda: fnet.serial(fnet.permute((2, 1)), fnet.embedding(4, 2), fnet.dense(2)), (2, 3)),
    ],
    "one_hot": [
        Case(lambda: fnet.one_hot(4), (3,)),
        Case(lambda: fnet.parallel(fnet.one_hot(4), fnet.embedding(5, 4), combine="add"), (3,)),
    ],
    "tied": [
        Case(lambda: fnet.tied(fnet.embedding(5, 3), fnet.tanh(), fnet.dense(3)), (4,)),
        Case(lambda: fnet.tied(fnet.embedding(4, 2), fnet.lstm(2, sequence=False)), (3,), STEPS),
        Case(lambda: fnet.tied(fnet.embedding(4, 2)), (3,)),
    ],
    "dropout": [
        Case(lambda: fnet.dropout(0.4), (8,)),
        Case(lambda: fnet.dropout(0.7), (3, 2, 2)),
        Case(lambda: fnet.dropout(0.0), (4,)),
    ],
    "spatial_dropout": [
        Case(lambda: fnet.spatial_dropout(0.4), (2, 2, 5)),
        Case(lambda: fnet.spatial_dropout(0.7), (3, 4)),
        Case(lambda: fnet.spatial_dropout(0.5), (8,)),
        Case(lambda: fnet.spatial_dropout(0), (2, 3)),
    ],
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
    "gelu": [Case(fnet.gelu, (5,)), Case(lambda: fnet.gelu(approximate=False), (5,))],
    "lambda_layer": [
        Case(lambda: fnet.lambda_layer(jax.nn.mish), (5,)),
        Case(lambda: fnet.lambda_layer("jax.nn.glu"), (2, 4)),
    ],
    "residual": [
        Case(lambda: fnet.residual(fnet.dense(4), fnet.tanh(), fnet.dense(4)), (4,)),
        Case(lambda: fnet.residual(fnet.residual(fnet.swish()), fnet.dense(3)), (2, 3)),
    ],
    "parallel": [
        Case(lambda: fnet.parallel(fnet.dense(2), fnet.serial(fnet.tanh(), fnet.dense(3))), (4,)),
        Case(lambda: fnet.parallel(fnet.dense(3), fnet.identity(), combine="add"), (2, 3)),
        Case(lambda: fnet.parallel(fnet.dense(3), fnet.sigmoid(), fnet.dense(3), combine="multiply"), (3,)),
    ],
    "repeat": [
        Case(lambda: fnet.repeat(fnet.dense(3), fnet.tanh(), times=3), (3,)),
        Case(lambda: fnet.repeat(fnet.residual(fnet.dense(2)), times=2, name="trunk"), (2,)),
        Case(lambda: fnet.repeat(fnet.dense(3), fnet.tanh(), times=3, scan=True), (3,)),
        Case(lambda: fnet.repeat(fnet.batch_norm(), fnet.dense(2), times=2, scan=True), (3, 2), STEPS),
        Case(
            lambda: fnet.repeat(fnet.repeat(fnet.swish(), fnet.dense(2), times=2, scan=True), times=2, scan=True), (2,)
        ),
    ],
    "remat": [Case(lambda: fnet.remat(fnet.dense(3), fnet.tanh(), fnet.batch_norm()), (4,))],
    "precision": [
        Case(lambda: fnet.precision(fnet.dense(3), fnet.batch_norm(), compute="float32"), (4,)),
        Case(lambda: fnet.precision(fnet.embedding(5, 3), fnet.tanh(), compute="float32"), (2,)),
    ],
    "frozen": [
        Case(lambda: fnet.frozen(fnet.dense(3), fnet.batch_norm(), fnet.dropout(0.5)), (4,)),
        Case(lambda: fnet.serial(fnet.dense(2), fnet.frozen(fnet.dense(3)), fnet.tanh(), fnet.dense(2)), (4,)),
    ],
    "graph": [
        Case(
            lambda: fnet.graph(
                fnet.dense(3, name="left"),
                fnet.serial(fnet.dense(3), fnet.tanh(), name="right"),
                fnet.dense(2),
                nodes={
                    "out": ("dense_2", "both"),
                    "a": ("left", "input"),
                    "b": ("right", "a"),
                    "c": ("right", "b"),
                    "product": ("multiply", "a", "c"),
                    "both": ("concatenate", "product", "b", "input"),
                },
                output="out",
            ),
            (4,),
        ),
        Case(lambda: fnet.graph(nodes={"y": ("add", "input", "input", "input")}), (3,)),
        Case(
            lambda: fnet.graph(
                fnet.dense(4, name="f"),
                nodes={"a": ("f", "input"), "b": ("f", "a"), "y": ("multiply", "b", "input", "a")},
            ),
            (4,),
        ),
    ],
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


WITHOUT_RULE = {"lambda_layer"}
"""Kinds of layers without a hand-written derivative."""

BY_HAND = [(name, case) for name, case in ALL if name.partition("-")[0] not in WITHOUT_RULE]


def inputs(rng: np.random.Generator, case: Case, batch: int = 3):
    """Return random examples whose entries are not close to the kinks at 0; indices if the network takes indices.

    The first and the last index are excluded, so that an index plus or minus 1 is also in range.
    """
    if (number := case.make().indices) is not None:
        return rng.integers(1, number - 1, (batch, *case.in_shape))

    def draw(shape):
        x = rng.standard_normal((batch, *shape))
        return x + 0.1 * np.sign(x)

    if not case.in_shape or isinstance(case.in_shape[0], int):
        return draw(case.in_shape)
    arrays = case.in_shape[: len(case.in_shape) - len(case.masks)]
    return (*map(draw, arrays), *(mask[:batch] for mask in case.masks))


def is_real(x) -> bool:
    """Return whether an array contains real numbers, not indices or Booleans."""
    return np.issubdtype(x.dtype, np.floating)


def on_reals(f, x):
    """Apply a function to the real arrays of an input; indices and Booleans stay as they are."""
    return jax.tree.map(lambda part: f(part) if is_real(part) else part, x)
