"""The training loss of one batch, computed by hand and by JAX."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnet.core.layer import Layer
from fnet.core.traversal import frozen_paths, leaves
from fnet.gradcheck.compare_leaves import nested
from fnet.gradcheck.diagnosis import Context
from fnet.gradcheck.rounding import as_precision, values_and_gradients
from fnet.gradcheck.rules import LossByHand, layers_without_rule
from fnet.gradcheck.trees import differentiable, examples, named, replaced
from fnet.losses import Loss
from fnet.reference import network as reference
from fnet.reference.rule import Rule
from fnet.regularization import Penalties
from fnet.train.score import score_sums, without_padding
from fnet.train.state import Batch
from fnet.train.step import objective


class Mode(NamedTuple):
    """A way to apply the network to the batch.

    part: its name in the report.
    train: whether the network is in training mode.
    mask: (batch,) or (batch, time), True for real examples or steps; None if all are real.
    weight: (batch,), the weights of the examples; None if all are 1.
    """

    part: str = "total"
    train: bool = True
    mask: np.ndarray | None = None
    weight: np.ndarray | None = None


TRAINING = Mode()


@dataclasses.dataclass(frozen=True)
class LossFunction:
    """The loss of a batch as a function of the parameters' leaves and the input.

    In training mode it is the training loss. With penalties, its values are the total, the data loss and the penalty.
    In evaluation mode it is the data loss alone. It is hashable, so that it is compiled once per network.

    names: names of the parameters' leaves, in the order of the description.
    inputs: names of the inputs to differentiate with respect to; an input of integers cannot be differentiated.
    """

    net: Layer
    loss: Loss
    regularization: Penalties
    names: tuple[str, ...]
    inputs: tuple[str, ...]
    train: bool = True

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the names of the values."""
        if not self.train:
            return ("data loss",)
        return ("total", "data loss", "penalty") if self.regularization.penalizes else ("total",)

    def leaves(self, params: Any, x: Any) -> list[tuple[str, Any]]:
        """List the input, if differentiated, and the parameters, with their names, in the order of the description."""
        inputs = named("input", x)
        return [(name, inputs[name]) for name in self.inputs if name in inputs] + list(leaves(self.net, params))

    def __call__(self, arrays: Sequence[jax.Array], data: Mapping[str, Any]) -> jax.Array:
        """Map (leaves, {"state", "x", "y", "key", "mask", "weight"}) to the values."""
        params, x = self._arguments(arrays, data)
        batch = Batch(x, data["y"], data["mask"], data["weight"])
        if not self.train:
            sums, count = score_sums(self.loss, self.forward(arrays, data)[0], batch)
            return (sums.loss / count)[None]
        evaluate = objective(self.net, self.loss, regularization=self.regularization)
        total, (_, metrics) = evaluate(params, data["state"], batch, data["key"])
        return jnp.stack([total, metrics.loss, metrics.penalty][: len(self.parts)])

    def forward(self, arrays: Sequence[jax.Array], data: Mapping[str, Any]) -> tuple[Any, Any]:
        """Return the network's outputs and its new state."""
        params, x = self._arguments(arrays, data)
        x = without_padding(Batch(x, data["y"], data["mask"])).x
        return self.net.apply(params, data["state"], x, train=self.train, key=data["key"], mask=data["mask"])

    def _arguments(self, arrays: Sequence[jax.Array], data: Mapping[str, Any]) -> tuple[Any, Any]:
        """Return the parameters and the input."""
        count = len(self.inputs)
        params = nested(dict(zip(self.names, arrays[count:], strict=True)))
        return params, replaced("input", data["x"], dict(zip(self.inputs, arrays[:count], strict=True)))


class ByJax(NamedTuple):
    """The outputs, the new state, the value of every part, and the gradient of each value as a dict of leaves."""

    outputs: Any
    state: Any
    values: np.ndarray
    gradients: list[dict[str, np.ndarray]]


class Problem(NamedTuple):
    """A network, its loss on both sides, and the arguments of the loss, in float64.

    loss, loss_by_hand: the loss by JAX and by hand, and its name.
    rules: rules of layers that have no hand-written rule.
    noise: the dropout masks.
    """

    net: Layer
    loss: Loss
    loss_by_hand: LossByHand
    loss_name: str
    regularization: Penalties
    rules: Mapping[Layer, Rule]
    params: Any
    state: Any
    noise: Any
    x: Any
    y: Any
    key: jax.Array

    def has_rule(self, name: str) -> bool:
        """Return whether the layer of a leaf, or the network of an input, has a hand-written rule."""
        return not any(not path or name.startswith("/".join((*path, ""))) for path, _ in layers_without_rule(self.net))

    def context(self, name: str) -> Context:
        """Return the context of the diagnosis of a leaf's gradient."""
        return Context(name.rpartition("/")[2], examples(self.x), has_rule=self.has_rule(name))

    def function(self, train: bool = True) -> LossFunction:
        """Return the loss in training or evaluation mode."""
        names = tuple(name for name, _ in leaves(self.net, self.params))
        return LossFunction(self.net, self.loss, self.regularization, names, differentiable("input", self.x), train)

    def points(self) -> dict[str, np.ndarray]:
        """Return the leaves to differentiate with respect to."""
        return dict(self.function().leaves(self.params, self.x))

    def at(self, points: Mapping[str, np.ndarray]) -> "Problem":
        """Return the problem with these leaves in place of its own."""
        params = nested({name: points[name] for name, _ in leaves(self.net, self.params)})
        return self._replace(params=params, x=replaced("input", self.x, points))

    def constants(self) -> list[str]:
        """List the leaves of frozen layers, whose gradient is 0 by definition."""
        return constants_of(self.net, self.function().names)

    def mask_of(self, mode: Mode) -> np.ndarray:
        """Return the mask of a mode, also if all examples are real."""
        return np.ones(examples(self.x), bool) if mode.mask is None else mode.mask

    def data(self, mode: Mode = TRAINING) -> dict[str, Any]:
        """Return the other inputs of the loss.

        In training mode there always are weights, so that all modes with a mask of examples are compiled once.
        """
        weight = np.ones(examples(self.x)) if mode.weight is None and mode.train else mode.weight
        rest = {"mask": self.mask_of(mode), "weight": weight}
        return {"state": self.state, "x": self.x, "y": self.y, "key": self.key, **rest}

    def by_jax(self, precision: str, mode: Mode = TRAINING) -> ByJax:
        """Compute the values and gradients of every part by JAX."""
        f, points = self.function(mode.train), self.points()
        with jax.enable_x64(precision == "float64"):
            arrays, data = jax.tree.map(lambda a: as_precision(a, precision), (list(points.values()), self.data(mode)))
            outputs, state, values, gradients = jax.tree.map(np.asarray, _values_and_gradients(f, arrays, data))
        by_part = [dict(zip(points, part, strict=True)) for part in zip(*gradients, strict=True)]
        return ByJax(outputs, state, values, by_part or [{} for _ in f.parts])

    def forward_by_jax(self, precision: str, mode: Mode) -> tuple[Any, Any, np.ndarray]:
        """Return the outputs, the new state, and the value of every part."""
        points = list(self.points().values())
        with jax.enable_x64(precision == "float64"):
            arrays, data = jax.tree.map(lambda a: as_precision(a, precision), (points, self.data(mode)))
            return jax.tree.map(np.asarray, _forward(self.function(mode.train), arrays, data))

    def by_hand(self, regularization: Penalties = Penalties(), mode: Mode = TRAINING) -> reference.Result:
        """Compute the loss and its gradients by hand."""
        return reference.loss_and_gradients(
            self.net,
            self.params,
            self.x,
            self.y,
            self.loss_by_hand,
            state=self.state,
            noise=self.noise if mode.train else {},
            mask=mode.mask,
            weight=mode.weight,
            train=mode.train,
            regularization=regularization,
            rules=self.rules,
        )


@functools.partial(jax.jit, static_argnames="f")
def _forward(f, arrays, data):
    return *f.forward(arrays, data), f(arrays, data)


@functools.partial(jax.jit, static_argnames="f")
def _values_and_gradients(f, arrays, data):
    return *f.forward(arrays, data), *values_and_gradients(lambda arrays: f(arrays, data), arrays)


def constants_of(net: Layer, names: Sequence[str]) -> list[str]:
    """List the leaves inside the frozen layers of a network."""
    frozen = ["".join(f"{name}/" for name in path) for path in frozen_paths(net)]
    return [name for name in names if any(name.startswith(path) for path in frozen)]
