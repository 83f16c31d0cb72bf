"""The training loss of one batch, computed by hand and by JAX."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnet.core.layer import Layer, walk
from fnet.core.traversal import leaves
from fnet.gradcheck.compare_leaves import nested
from fnet.gradcheck.rounding import as_precision
from fnet.gradcheck.rules import LossByHand
from fnet.gradcheck.trees import differentiable, examples, named, replaced
from fnet.losses import Loss
from fnet.reference import network as reference
from fnet.reference.rule import Rule
from fnet.regularization import Penalties
from fnet.train.score import score_sums
from fnet.train.state import Batch
from fnet.train.step import objective


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
        """Map (leaves, {"state", "x", "y", "key", "mask"}) to the values."""
        if not self.train:
            batch = Batch(data["x"], data["y"], data["mask"])
            sums, count = score_sums(self.loss, self.forward(arrays, data)[0], batch)
            return (sums.loss / count)[None]
        params, x = self._arguments(arrays, data)
        evaluate = objective(self.net, self.loss, regularization=self.regularization)
        total, (_, metrics) = evaluate(params, data["state"], Batch(x, data["y"], data["mask"]), data["key"])
        return jnp.stack([total, metrics.loss, metrics.penalty][: len(self.parts)])

    def forward(self, arrays: Sequence[jax.Array], data: Mapping[str, Any]) -> tuple[Any, Any]:
        """Return the network's outputs and its new state."""
        params, x = self._arguments(arrays, data)
        return self.net.apply(params, data["state"], x, train=self.train, key=data["key"], mask=data["mask"])

    def _arguments(self, arrays: Sequence[jax.Array], data: Mapping[str, Any]) -> tuple[Any, Any]:
        """Return the parameters and the input."""
        given = dict(zip((*self.inputs, *self.names), arrays, strict=True))
        params = nested({name: array for name, array in given.items() if name not in self.inputs})
        return params, replaced("input", data["x"], {name: given[name] for name in self.inputs})


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

    def function(self, train: bool = True) -> LossFunction:
        """Return the loss in training or evaluation mode."""
        names = tuple(name for name, _ in leaves(self.net, self.params))
        return LossFunction(self.net, self.loss, self.regularization, names, differentiable("input", self.x), train)

    def points(self) -> dict[str, np.ndarray]:
        """Return the leaves to differentiate with respect to."""
        return dict(self.function().leaves(self.params, self.x))

    def constants(self) -> list[str]:
        """List the leaves of frozen layers, whose gradient is 0 by definition."""
        frozen = ["/".join((*path, "")) for path, layer in walk(self.net) if layer.kind == "frozen"]
        return [name for name in self.points() if any(name.startswith(path) for path in frozen)]

    def data(self, mask: np.ndarray | None = None) -> dict[str, Any]:
        """Return the other inputs of the loss; by default all examples are real."""
        mask = np.ones(examples(self.x), bool) if mask is None else mask
        return {"state": self.state, "x": self.x, "y": self.y, "key": self.key, "mask": mask}

    def by_jax(self, precision: str, *, train: bool = True, mask: np.ndarray | None = None) -> ByJax:
        """Compute the values and gradients of every part by JAX."""
        f, points = self.function(train), self.points()
        with jax.enable_x64(precision == "float64"):
            arrays, data = jax.tree.map(lambda a: as_precision(a, precision), (list(points.values()), self.data(mask)))
            outputs, state, values, gradients = jax.tree.map(np.asarray, _values_and_gradients(f, arrays, data))
        by_part = [dict(zip(points, part, strict=True)) for part in zip(*gradients, strict=True)]
        return ByJax(outputs, state, values, by_part or [{} for _ in f.parts])

    def by_hand(
        self, regularization: Penalties = Penalties(), *, train: bool = True, mask: np.ndarray | None = None
    ) -> reference.Result:
        """Compute the loss and its gradients by hand."""
        return reference.loss_and_gradients(
            self.net,
            self.params,
            self.x,
            self.y,
            self.loss_by_hand,
            state=self.state,
            noise=self.noise if train else {},
            mask=mask,
            train=train,
            regularization=regularization,
            rules=self.rules,
        )


@functools.partial(jax.jit, static_argnames="f")
def _values_and_gradients(f, arrays, data):
    values, pull = jax.vjp(lambda arrays: f(arrays, data), arrays)
    # In a loop over the values the backward pass is compiled only once.
    gradients = lax.map(lambda unit: pull(unit)[0], jnp.eye(len(f.parts), dtype=values.dtype))
    return *f.forward(arrays, data), values, gradients
