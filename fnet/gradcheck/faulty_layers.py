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

from fnet.core.layer import Layer, walk
from fnet.core.traversal import Application, leaves, loop_paths, recorded, recording
from fnet.gradcheck.compare_leaves import Part, compare_arrays, compare_leaves, nested
from fnet.gradcheck.diagnosis import Context, diagnose
from fnet.gradcheck.modes import pairs, state_rows
from fnet.gradcheck.problem import Mode, Problem, constants_of
from fnet.gradcheck.report import Culprit, LeafReport
from fnet.gradcheck.rules import layers_without_rule, loss_by_hand
from fnet.gradcheck.trees import differentiable, examples, named, replaced
from fnet.reference import network as reference
from fnet.reference.rule import Scope, expanded
from fnet.train.score import flatten_steps, without_padding
from fnet.train.state import Batch

TOLERANCE = 1e-9
"""The maximum relative difference that passes between a layer's results by hand and by JAX."""

SAMPLES = 6
"""The number of entries of each array that are compared with finite differences."""


class Call(NamedTuple):
    """A layer, the arguments and outputs of its application in the forward pass, and the dropout masks inside it."""

    layer: Layer
    arguments: Application
    noise: Any


def find_faulty_layers(problem: Problem, mode: Mode) -> list[Culprit]:
    """Find the layers, and the loss, whose own forward or backward pass is wrong, in the order of the description.

    Args:
        problem: the arguments of the check that failed.
        mode: the mode that failed.
    """
    with jax.enable_x64(True):
        mask = jnp.asarray(problem.mask_of(mode))
        batch = without_padding(Batch(problem.x, jax.tree.map(jnp.asarray, problem.y), mask))
        calls, outputs = _record_calls(problem, mode.train, batch)
        culprits: dict[tuple[str, ...], list[Culprit]] = {}
        for path in sorted(calls, key=len, reverse=True):
            if not any(other[: len(path)] == path for other in culprits):
                mistakes = _check_layer(path, calls[path], problem)
                if mistakes:
                    culprits[path] = mistakes
        scored = flatten_steps(outputs, batch.y, mask)
        loss_culprits = _check_loss(problem, *scored[:2]) if isinstance(scored[0], jax.Array) else []
    return [culprit for path in calls for culprit in culprits.get(path, [])] + loss_culprits


def _record_calls(problem: Problem, train: bool, batch: Batch) -> tuple[dict[tuple[str, ...], Call], Any]:
    """Return every layer's call in JAX's forward pass, containers first, and the network's outputs.

    The layers inside a layer without a hand-written rule are not listed: the rule by JAX covers them.
    """
    net = recording(problem.net, lambda _, __, application: application)
    outputs, state = net.apply(problem.params, problem.state, batch.x, train=train, key=problem.key, mask=batch.mask)
    applications = dict(recorded(state))
    opaque = [path for path, _ in layers_without_rule(problem.net)]
    loops = loop_paths(problem.net)
    calls: dict[tuple[str, ...], Call] = {}
    for path, layer in walk(problem.net):
        if path in applications and not any(path[: len(outer)] == outer != path for outer in opaque):
            application = applications[path]
            noise = functools.reduce(lambda tree, name: tree.get(name, {}), path, problem.noise if train else {})
            for _ in filter(lambda loop: path[: len(loop)] == loop != path, loops):
                # What the layers in a loop record is stacked: the first repetition is checked.
                application, noise = jax.tree.map(lambda stacked: stacked[0], (application, noise))
            calls[path] = Call(layer, application, noise)
    return calls, outputs


@dataclasses.dataclass(frozen=True)
class Projection:
    """<g, layer(params, x)> for a cotangent g, as a function of the input and the parameters.

    names: names of the parameters' leaves.
    inputs: names of the inputs to differentiate with respect to; an input of integers cannot be differentiated.
    """

    layer: Layer
    names: tuple[str, ...]
    inputs: tuple[str, ...]
    train: bool

    def __call__(self, arrays: Sequence[jax.Array], data: Mapping[str, Any]) -> jax.Array:
        """Map (leaves, {"x", "state", "key", "mask", "g"}) to an array of shape (1,)."""
        products = jax.tree.map(lambda y, g: jnp.sum(y * g), self.forward(arrays, data)[0], data["g"])
        return jnp.asarray(sum(jax.tree.leaves(products)))[None]

    def forward(self, arrays: Sequence[jax.Array], data: Mapping[str, Any]) -> tuple[Any, Any]:
        """Return layer(params, x) and the new state."""
        count = len(self.inputs)
        x = replaced("input", data["x"], dict(zip(self.inputs, arrays[:count], strict=True)))
        params = nested(dict(zip(self.names, arrays[count:], strict=True)))
        return self.layer.apply(params, data["state"], x, train=self.train, key=data["key"], mask=data["mask"])


def _check_layer(path: tuple[str, ...], call: Call, problem: Problem) -> list[Culprit]:
    """Check the forward pass, the new state and the backward pass of one layer."""
    layer, arguments, noise = call
    train, label = bool(arguments.train), "/".join(path)
    params, state, x, mask = jax.tree.map(np.asarray, (arguments.params, arguments.state, arguments.x, arguments.mask))
    scope = Scope(params, state, noise if train else {}, train, mask, {}, problem.rules)
    parameters = dict(leaves(layer, params))
    f = Projection(layer, tuple(parameters), differentiable("input", x), train)
    inputs = named("input", x)
    points = {name: inputs[name] for name in f.inputs} | parameters
    data = {"x": arguments.x, "state": arguments.state, "key": arguments.key, "mask": arguments.mask}
    outputs, pull, new_state = jax.vjp(lambda arrays: f.forward(arrays, data), list(points.values()), has_aux=True)
    y, cache = reference.forward(layer, scope, x)
    for hand, jaxs in pairs("output", y, jax.tree.map(np.asarray, outputs)).values():
        diagnosis = _forward_mistake(hand, jaxs)
        if diagnosis:
            return [Culprit(label, layer.kind, "output", "forward", diagnosis)]
    wrong = [row for row in state_rows(layer, scope.new_state, dict(leaves(layer, new_state)), TOLERANCE) if not row.ok]
    if wrong:
        return [Culprit(label, layer.kind, row.name, "forward", row.diagnosis) for row in wrong]
    rng = np.random.default_rng(zlib.crc32(label.encode()))
    g = jax.tree.map(lambda output: rng.standard_normal(output.shape), outputs)
    dx, gradients = reference.backward(layer, scope, cache, g)
    by_hand = named("input", dx) | dict(leaves(layer, gradients))
    cotangents = jax.tree.map(lambda part, output: jnp.asarray(part, output.dtype), g, outputs)
    by_jax = dict(zip(points, map(np.asarray, pull(cotangents)[0]), strict=True))
    has_rule = expanded(layer) not in problem.rules
    context = functools.partial(_context, examples(x), jax.tree.leaves(g)[0].shape, has_rule)
    constants = constants_of(layer, f.names)
    wrong = _wrong_leaves(f, points, data | {"g": g}, Part("total", by_hand, by_jax), context, constants)
    return [_culprit(label, layer.kind, row, has_rule) for row in wrong]


def _culprit(label: str, kind: str, row: LeafReport, has_rule: bool) -> Culprit:
    """Return the mistake of a row; without a rule by hand, it is JAX's."""
    return Culprit(label, kind, row.name, row.verdict if has_rule else "by JAX", row.diagnosis)


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
    constants: Sequence[str] = (),
) -> list[LeafReport]:
    """List the leaves with a wrong gradient; finite differences are not computed if hand and JAX agree."""
    agree = all(compare_arrays(name, part.by_hand.get(name), leaf, TOLERANCE).ok for name, leaf in part.by_jax.items())
    if agree and context("input", "total").has_rule:
        return []
    reports = compare_leaves(
        f, points, data, [part], samples=SAMPLES, tolerance=TOLERANCE, constants=constants, context=context
    )
    return [report for report in reports if not report.ok]


def _context(batch: int, outputs: tuple[int, ...], has_rule: bool, name: str, _: str) -> Context:
    positions = int(np.prod(outputs[1:-1]))
    sizes = {"positions": positions, "batch * positions": batch * positions}
    return Context(name.rpartition("/")[2], batch, sizes, has_rule=has_rule)


@dataclasses.dataclass(frozen=True)
class SumOfLosses:
    """The sum of the losses L_i of all examples, as a function of the outputs."""

    function: Callable[..., jax.Array]

    def __call__(self, arrays: Sequence[jax.Array], data: Any) -> jax.Array:
        """Map (outputs, targets) to an array of shape (1,)."""
        return jnp.sum(self.function(arrays[0], data))[None]


def _check_loss(problem: Problem, outputs: Any, y: Any) -> list[Culprit]:
    """Check the values of the loss and their derivatives with respect to the outputs."""
    outputs, y, name, function = np.asarray(outputs), np.asarray(y), problem.loss_name, problem.loss.function
    losses, cotangents = problem.loss_by_hand(outputs, y)
    expected, pull = jax.vjp(lambda outputs: function(outputs, jnp.asarray(y)), jnp.asarray(outputs))
    diagnosis = _forward_mistake(losses, np.asarray(expected))
    if diagnosis:
        return [Culprit("loss", name, "output", "forward", diagnosis)]
    part = Part("total", {"input": cotangents}, {"input": np.asarray(pull(jnp.ones_like(expected))[0])})
    _, has_rule = loss_by_hand(problem.loss)
    context = Context("input", len(y), {"outputs": int(np.prod(outputs.shape[1:]))}, has_rule=has_rule)
    wrong = _wrong_leaves(SumOfLosses(function), {"input": outputs}, y, part, lambda *_: context)
    return [_culprit("loss", name, row, has_rule) for row in wrong]
