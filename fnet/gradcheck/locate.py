"""Where a mistake begins: every layer checked by itself, given the right input and a random cotangent.

A wrong cotangent spoils the gradients of all that comes before it, so the rows of a whole network's check do not tell
which backward pass is at fault. Scope its input from JAX's forward pass and a cotangent that is drawn, a layer's own is
right or wrong by itself. A container is at fault when its own results are wrong and those of all its layers are right.
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
from fnet.core.traversal import leaves, map_layers
from fnet.gradcheck.diagnosis import Context, diagnosed
from fnet.gradcheck.examine import Part, contrast, examine, nested
from fnet.gradcheck.report import Culprit, Row
from fnet.losses import Loss
from fnet.reference import network as reference
from fnet.reference.rule import Scope

TOLERANCE = 1e-9
"""The greatest relative difference between a layer's backward pass by hand and JAX's."""

SAMPLES = 6
"""How many entries of each array decide who is wrong."""


class Call(NamedTuple):
    """What a layer was given in the forward pass."""

    layer: Layer
    params: Any
    state: Any
    x: Any
    key: jax.Array | None
    mask: jax.Array | None


def culprits(
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
    name: str,
) -> list[Culprit]:
    """The layers, and the loss, whose own backward or forward pass is wrong, in the order of the description.

    Args:
        net, params, state, noise, x, y, key: of the check that went wrong, in float64.
        loss, loss_by_hand: on the two sides.
        name: of the loss.
    """
    with jax.enable_x64(True):
        calls, outputs = _calls(net, params, state, x, key)
        found: dict[tuple[str, ...], list[Culprit]] = {}
        for path in sorted(calls, key=len, reverse=True):
            if not any(other[: len(path)] == path for other in found):
                wrong = _wrong(path, calls[path], noise)
                if wrong:
                    found[path] = wrong
        of_loss = _of_loss(loss, loss_by_hand, outputs, y, name)
    return [culprit for path in calls for culprit in found.get(path, [])] + of_loss


def _calls(net: Layer, params: Any, state: Any, x: Any, key: jax.Array) -> tuple[dict[tuple[str, ...], Call], Any]:
    """Every layer's call in JAX's forward pass, containers before what they contain, and the network's outputs."""
    calls: dict[tuple[str, ...], Call] = {}

    def recording(path: tuple[str, ...], layer: Layer) -> Layer:
        def apply(params, state, x, *, train, key=None, mask=None):
            calls.setdefault(path, Call(layer, params, state, x, key, mask))
            return layer.apply(params, state, x, train=train, key=key, mask=mask)

        return dataclasses.replace(layer, apply=apply)

    mask = jnp.ones(len(x), bool)
    outputs, _ = map_layers(net, recording).apply(params, state, jnp.asarray(x), train=True, key=key, mask=mask)
    return calls, np.asarray(outputs)


@dataclasses.dataclass(frozen=True)
class Projection:
    """<g, layer(params, x)> for a cotangent g, as a function of the input and the parameters."""

    layer: Layer
    names: tuple[str, ...]
    with_input: bool

    def __call__(self, arrays: Sequence[jax.Array], data: Mapping[str, Any]) -> jax.Array:
        """(leaves, {"x", "state", "key", "mask", "g"}) -> (1,)."""
        return jnp.sum(self.outputs(arrays, data) * data["g"])[None]

    def outputs(self, arrays: Sequence[jax.Array], data: Mapping[str, Any]) -> jax.Array:
        """layer(params, x)."""
        x, *arrays = arrays if self.with_input else (data["x"], *arrays)
        params = nested(dict(zip(self.names, arrays, strict=True)))
        return self.layer.apply(params, data["state"], x, train=True, key=data["key"], mask=data["mask"])[0]


def _wrong(path: tuple[str, ...], call: Call, noise: Mapping[str, Any]) -> list[Culprit]:
    """What is wrong with one layer's passes by themselves."""
    layer, x = call.layer, np.asarray(call.x)
    own = functools.reduce(lambda tree, name: tree.get(name, {}), path, noise)
    params, state = jax.tree.map(np.asarray, (call.params, call.state))
    given = Scope(params, state, own, True, None if call.mask is None else np.asarray(call.mask))
    named = list(leaves(layer, params))
    f = Projection(layer, tuple(name for name, _ in named), not np.issubdtype(x.dtype, np.integer))
    points = dict([("input", x)] * f.with_input + named)
    data = {"x": call.x, "state": call.state, "key": call.key, "mask": call.mask}
    outputs, pull = jax.vjp(lambda arrays: f.outputs(arrays, data), list(points.values()))
    g = np.random.default_rng(zlib.crc32("/".join(path).encode())).standard_normal(outputs.shape)
    y, cache = reference.forward(layer, given, x)
    label = "/".join(path)
    forward = contrast("output", y, np.asarray(outputs), TOLERANCE, context=Context("output", len(x)))
    if not forward.ok:
        return [Culprit(label, layer.kind, "output", "forward", _said(forward, y, np.asarray(outputs)))]
    dx, gradients = reference.backward(layer, given, cache, g)
    by_jax = dict(zip(points, map(np.asarray, pull(jnp.asarray(g, outputs.dtype))[0]), strict=True))
    by_hand = dict([("input", dx)] * f.with_input + list(leaves(layer, gradients)))
    part = Part("total", by_hand, by_jax)
    rows = [contrast(name, by_hand.get(name), leaf, TOLERANCE) for name, leaf in by_jax.items()]
    if all(row.ok for row in rows):
        return []
    context = functools.partial(_context, len(x), g.shape)
    rows = examine(f, points, data | {"g": g}, [part], samples=SAMPLES, tolerance=TOLERANCE, context=context)
    return [Culprit(label, layer.kind, row.name, row.verdict, row.diagnosis) for row in rows if not row.ok]


def _context(batch: int, outputs: tuple[int, ...], name: str, _: str) -> Context:
    positions = int(np.prod(outputs[1:-1]))
    return Context(name.rpartition("/")[2], batch, {"positions": positions, "batch * positions": batch * positions})


def _said(row: Row, by_hand: np.ndarray, by_jax: np.ndarray) -> str:
    return row.diagnosis or diagnosed(np.asarray(by_hand), by_jax, Context(row.name, len(by_jax)))


@dataclasses.dataclass(frozen=True)
class SumOfLosses:
    """sum_i L_i, as a function of the outputs."""

    function: Callable[..., jax.Array]

    def __call__(self, arrays: Sequence[jax.Array], data: Any) -> jax.Array:
        """(outputs, targets) -> (1,)."""
        return jnp.sum(self.function(arrays[0], data))[None]


def _of_loss(loss: Loss, by_hand: Callable[..., Any], outputs: np.ndarray, y: np.ndarray, name: str) -> list[Culprit]:
    """What is wrong with the loss by itself: its values, or their derivatives with respect to the outputs."""
    losses, cotangents = by_hand(outputs, y)
    expected, pull = jax.vjp(lambda outputs: loss.function(outputs, jnp.asarray(y)), jnp.asarray(outputs))
    forward = contrast("output", losses, np.asarray(expected), TOLERANCE)
    if not forward.ok:
        return [Culprit("loss", name, "output", "forward", _said(forward, losses, np.asarray(expected)))]
    part = Part("total", {"input": cotangents}, {"input": np.asarray(pull(jnp.ones_like(expected))[0])})
    if contrast("input", part.by_hand["input"], part.by_jax["input"], TOLERANCE).ok:
        return []
    context = Context("input", len(y), {"outputs": int(np.prod(outputs.shape[1:]))})
    points = {"input": outputs}
    rows = examine(
        SumOfLosses(loss.function), points, y, [part],
        samples=SAMPLES, tolerance=TOLERANCE, context=lambda *_: context,
    )  # fmt: skip
    return [Culprit("loss", name, row.name, row.verdict, row.diagnosis) for row in rows if not row.ok]
