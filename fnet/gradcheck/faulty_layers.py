"""Search for the layers that cause a wrong gradient: each is checked alone, with correct input and random cotangent.

A wrong cotangent makes the gradients of all earlier layers wrong, so the check of a whole network does not show which
backward pass contains the mistake. With its input from JAX's forward pass and a random cotangent, a layer's result
depends only on its own rule. A container is faulty if its results are wrong and those of all layers inside are correct.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fnet.core.layer import Layer
from fnet.core.traversal import leaves, rewire
from fnet.gradcheck.compare_leaves import Part, compare_arrays, compare_leaves, nested
from fnet.gradcheck.diagnosis import Context, diagnose
from fnet.gradcheck.report import Culprit, LeafReport
from fnet.losses import Loss
from fnet.reference import network as reference
from fnet.reference.rule import Scope

TOLERANCE = 1e-9
"""The maximum relative difference that passes between a layer's results by hand and by JAX."""

SAMPLES = 6
"""The number of entries of each array that are compared with finite differences."""


class Call(NamedTuple):
    """A layer and its arguments in the forward pass."""

    layer: Layer
    params: Any
    state: Any
    x: Any
    key: jax.Array | None
    mask: jax.Array | None


def find_faulty_layers(
    net: Layer,
    loss: Loss,
    loss_by_hand: Callable[..., tuple[np.ndarray, np.ndarray]],
    params: Any,
    state: Any,
    noise: Mapping[str, Any],
    x: np.ndarray,
    y: np.ndarray,
    key: jax.Array,
    *,
    loss_name: str,
) -> list[Culprit]:
    """Find the layers, and the loss, whose own forward or backward pass is wrong, in the order of the description.

    Args:
        net, params, state, noise, x, y, key: the arguments of the check that failed, in float64.
        loss, loss_by_hand: the loss on the two sides.
        loss_name: the name of the loss.
    """
    with jax.enable_x64(True):
        calls, outputs = _record_calls(net, params, state, x, key)
        culprits: dict[tuple[str, ...], list[Culprit]] = {}
        for path in sorted(calls, key=len, reverse=True):
            if not any(other[: len(path)] == path for other in culprits):
                mistakes = _check_layer(path, calls[path], noise)
                if mistakes:
                    culprits[path] = mistakes
        loss_culprits = _check_loss(loss, loss_by_hand, outputs, y, loss_name)
    return [culprit for path in calls for culprit in culprits.get(path, [])] + loss_culprits


def _record_calls(
    net: Layer, params: Any, state: Any, x: Any, key: jax.Array
) -> tuple[dict[tuple[str, ...], Call], Any]:
    """Return every layer's call in JAX's forward pass, containers first, and the network's outputs."""
    calls: dict[tuple[str, ...], Call] = {}

    def recording(path: tuple[str, ...], layer: Layer) -> Layer:
        def apply(params, state, x, *, train, key=None, mask=None):
            calls.setdefault(path, Call(layer, params, state, x, key, mask))
            return layer.apply(params, state, x, train=train, key=key, mask=mask)

        return dataclasses.replace(layer, apply=apply)

    mask = jnp.ones(len(x), bool)
    outputs, _ = rewire(net, recording).apply(params, state, jnp.asarray(x), train=True, key=key, mask=mask)
    return calls, np.asarray(outputs)


@dataclasses.dataclass(frozen=True)
class Projection:
    """<g, layer(params, x)> for a cotangent g, as a function of the input and the parameters.

    names: names of the parameters' leaves.
    with_input: whether to differentiate with respect to the input; an input of integers cannot be differentiated.
    """

    layer: Layer
    names: tuple[str, ...]
    with_input: bool

    def __call__(self, arrays: Sequence[jax.Array], data: Mapping[str, Any]) -> jax.Array:
        """Map (leaves, {"x", "state", "key", "mask", "g"}) to an array of shape (1,)."""
        return jnp.sum(self.outputs(arrays, data) * data["g"])[None]

    def outputs(self, arrays: Sequence[jax.Array], data: Mapping[str, Any]) -> jax.Array:
        """Return layer(params, x)."""
        x, *arrays = arrays if self.with_input else (data["x"], *arrays)
        params = nested(dict(zip(self.names, arrays, strict=True)))
        return self.layer.apply(params, data["state"], x, train=True, key=data["key"], mask=data["mask"])[0]


def _check_layer(path: tuple[str, ...], call: Call, noise: Mapping[str, Any]) -> list[Culprit]:
    """Check the forward and the backward pass of one layer."""
    layer, x = call.layer, np.asarray(call.x)
    layer_noise = functools.reduce(lambda tree, name: tree.get(name, {}), path, noise)
    params, state = jax.tree.map(np.asarray, (call.params, call.state))
    scope = Scope(params, state, layer_noise, True, None if call.mask is None else np.asarray(call.mask))
    named = list(leaves(layer, params))
    f = Projection(layer, tuple(name for name, _ in named), not np.issubdtype(x.dtype, np.integer))
    points = dict([("input", x)] * f.with_input + named)
    data = {"x": call.x, "state": call.state, "key": call.key, "mask": call.mask}
    outputs, pull = jax.vjp(lambda arrays: f.outputs(arrays, data), list(points.values()))
    label = "/".join(path)
    y, cache = reference.forward(layer, scope, x)
    diagnosis = _forward_mistake(y, np.asarray(outputs))
    if diagnosis:
        return [Culprit(label, layer.kind, "output", "forward", diagnosis)]
    g = np.random.default_rng(zlib.crc32(label.encode())).standard_normal(outputs.shape)
    dx, gradients = reference.backward(layer, scope, cache, g)
    by_hand = dict([("input", dx)] * f.with_input + list(leaves(layer, gradients)))
    by_jax = dict(zip(points, map(np.asarray, pull(jnp.asarray(g, outputs.dtype))[0]), strict=True))
    context = functools.partial(_context, len(x), g.shape)
    wrong = _wrong_leaves(f, points, data | {"g": g}, Part("total", by_hand, by_jax), context)
    return [Culprit(label, layer.kind, report.name, report.verdict, report.diagnosis) for report in wrong]


def _forward_mistake(by_hand: np.ndarray, by_jax: np.ndarray) -> str:
    """Diagnose a wrong forward value; return "" for a correct one."""
    context = Context("output", len(by_jax))
    report = compare_arrays("output", by_hand, by_jax, TOLERANCE, context=context)
    return "" if report.ok else report.diagnosis or diagnose(np.asarray(by_hand), by_jax, context)


def _wrong_leaves(
    f: Callable[..., jax.Array],
    points: Mapping[str, np.ndarray],
    data: Any,
    part: Part,
    context: Callable[[str, str], Context],
) -> list[LeafReport]:
    """List the leaves with a wrong gradient; without any, finite differences are not computed."""
    if all(compare_arrays(name, part.by_hand.get(name), leaf, TOLERANCE).ok for name, leaf in part.by_jax.items()):
        return []
    reports = compare_leaves(f, points, data, [part], samples=SAMPLES, tolerance=TOLERANCE, context=context)
    return [report for report in reports if not report.ok]


def _context(batch: int, outputs: tuple[int, ...], name: str, _: str) -> Context:
    positions = int(np.prod(outputs[1:-1]))
    return Context(name.rpartition("/")[2], batch, {"positions": positions, "batch * positions": batch * positions})


@dataclasses.dataclass(frozen=True)
class SumOfLosses:
    """The sum of the losses L_i of all examples, as a function of the outputs."""

    function: Callable[..., jax.Array]

    def __call__(self, arrays: Sequence[jax.Array], data: Any) -> jax.Array:
        """Map (outputs, targets) to an array of shape (1,)."""
        return jnp.sum(self.function(arrays[0], data))[None]


def _check_loss(
    loss: Loss, by_hand: Callable[..., Any], outputs: np.ndarray, y: np.ndarray, name: str
) -> list[Culprit]:
    """Check the values of the loss and their derivatives with respect to the outputs."""
    losses, cotangents = by_hand(outputs, y)
    expected, pull = jax.vjp(lambda outputs: loss.function(outputs, jnp.asarray(y)), jnp.asarray(outputs))
    diagnosis = _forward_mistake(losses, np.asarray(expected))
    if diagnosis:
        return [Culprit("loss", name, "output", "forward", diagnosis)]
    part = Part("total", {"input": cotangents}, {"input": np.asarray(pull(jnp.ones_like(expected))[0])})
    context = Context("input", len(y), {"outputs": int(np.prod(outputs.shape[1:]))})
    wrong = _wrong_leaves(SumOfLosses(loss.function), {"input": outputs}, y, part, lambda *_: context)
    return [Culprit("loss", name, report.name, report.verdict, report.diagnosis) for report in wrong]
