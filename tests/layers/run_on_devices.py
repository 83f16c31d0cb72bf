"""Apply every layer on two devices in several contexts and print, as JSON, which layers fail in which context.

The test of this folder runs it in a process of its own, because the number of devices is fixed when JAX starts.
"""

import functools
import json
import sys
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from layers.cases import CASES, FIRST, Case, inputs

import fnet
from fnet.core.traversal import map_layers

BATCH = 4

TOLERANCE = 1e-12
"""Largest error relative to the largest entry, in float64."""


VARIANTS = {"conv": (3, 6), "conv_transpose": (1,)}
"""Further cases: padding by numbers and strides, groups, and a transposed convolution with a stride."""

MASKED = ("attention", "batch_norm", "global_avg_pool", "group_norm", "lstm", "repeat")
"""Kinds of which a case with a mask is included."""


def cases() -> Iterator[tuple[str, Case]]:
    """Yield the first case of every kind, further 2-D convolutions, and a masked case of layers that mix examples."""
    yield from FIRST.items()
    for kind, others in CASES.items():
        for number, case in enumerate(others):
            if number in VARIANTS.get(kind, ()):
                yield f"{kind}-{number}", case
        if kind in MASKED:
            yield f"{kind}-masked", next(case for case in others if case.mask is not None)


class Problem:
    """A layer with its arrays in float64: parameters, state, examples, a mask, and the tangents of all of them."""

    def __init__(self, case: Case):
        rng = np.random.default_rng(5)
        self.net = case.make()
        params, self.state = self.net.init(jax.random.key(1), case.in_shape)
        draw = lambda leaf: jnp.asarray(leaf + 0.1 * rng.standard_normal(leaf.shape), jnp.float64)  # noqa: E731
        x = jax.tree.map(jnp.asarray, inputs(rng, case, BATCH))
        self.indices = x if self.net.indices is not None else None
        self.variables = jax.tree.map(draw, params), None if self.indices is not None else x
        self.tangents = jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape)), self.variables)
        self.mask = None if case.mask is None else jnp.asarray(np.concatenate([case.mask, case.mask[:1]]))
        self.weights = jnp.asarray(rng.standard_normal((BATCH, *self.net.shape(case.in_shape))))

    def shards(self) -> Any:
        """Return a tree like the arguments of `evaluate`, with the specification of each leaf."""
        whole = functools.partial(jax.tree.map, lambda _: P())
        batch = functools.partial(jax.tree.map, lambda _: P("data"))
        params, x = self.variables
        variables = whole(params), batch(x)
        return variables, variables, whole(self.state), batch(self.indices), batch(self.mask), batch(self.weights)

    def arguments(self) -> Any:
        """Return the arguments of `evaluate`."""
        return self.variables, self.tangents, self.state, self.indices, self.mask, self.weights


def evaluate(net: fnet.Layer, mean: Any, variables, tangents, state, indices, mask, weights):
    """Return outputs and new state, the tangent of the outputs, the mean loss and its gradients."""

    def apply(variables):
        params, x = variables
        x = indices if x is None else x
        return net.apply(params, state, x, train=True, key=jax.random.key(2), mask=mask)

    def loss(variables):
        return mean(jnp.mean(weights * apply(variables)[0] ** 2))

    y, new_state = apply(variables)
    _, y_dot = jax.jvp(lambda variables: apply(variables)[0], (variables,), (tangents,))
    return y, new_state, y_dot, *jax.value_and_grad(loss)(variables)


def on_one_device(problem: Problem):
    """Return the result on a single device."""
    return jax.jit(functools.partial(evaluate, problem.net, lambda loss: loss))(*problem.arguments())


def on_mesh(kind: AxisType, problem: Problem):
    """Return the result of the whole batch, sharded over a mesh whose axis is of this type."""
    mesh = jax.make_mesh((2,), ("data",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        place = lambda spec, leaf: jax.device_put(leaf, NamedSharding(mesh, spec))  # noqa: E731
        arguments = jax.tree.map(place, problem.shards(), problem.arguments())
        return jax.jit(functools.partial(evaluate, problem.net, lambda loss: loss))(*arguments)


def name_axis(path: str, layer: fnet.Layer) -> fnet.Layer:
    """Return a batch normalization over the axis of the mesh; other layers as they are."""
    if layer.kind != "batch_norm":
        return layer
    return fnet.batch_norm(**{**layer.settings, "axis_name": "data"}, name=layer.name)


def in_shard_map(problem: Problem):
    """Return the result of a `jax.shard_map` over the batch."""
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    net = map_layers(name_axis, problem.net)
    variables, _, state, _, _, batch = problem.shards()
    f = functools.partial(evaluate, net, functools.partial(jax.lax.pmean, axis_name="data"))
    mapped = jax.shard_map(f, mesh=mesh, in_specs=problem.shards(), out_specs=(batch, state, batch, P(), variables))
    return jax.jit(mapped)(*problem.arguments())


def shard_by_shard(problem: Problem):
    """Return the result of both halves one after the other, for layers that draw random numbers of the batch's size."""
    halves = []
    for rows in (slice(0, 2), slice(2, 4)):
        part = lambda spec, leaf, rows=rows: leaf[rows] if spec == P("data") else leaf  # noqa: E731
        arguments = jax.tree.map(part, problem.shards(), problem.arguments())
        halves.append(jax.jit(functools.partial(evaluate, problem.net, lambda loss: loss))(*arguments))
    (y, state, y_dot, loss, (dp, dx)), (y_2, _, y_dot_2, loss_2, (dp_2, dx_2)) = halves
    join = lambda *parts: jnp.concatenate(parts)  # noqa: E731
    mean = lambda *values: sum(values) / 2  # noqa: E731
    return (
        join(y, y_2),
        state,
        join(y_dot, y_dot_2),
        mean(loss, loss_2),
        (jax.tree.map(mean, dp, dp_2), join(dx, dx_2) / 2),
    )


def draws(net: fnet.Layer) -> bool:
    """Return whether a layer draws random numbers in training."""
    return net.draw is not None or any(draws(child) for _, child in net.children)


CONTEXTS = {
    "auto": functools.partial(on_mesh, AxisType.Auto),
    "explicit": functools.partial(on_mesh, AxisType.Explicit),
    "shard_map": in_shard_map,
}


def error_of(expected, actual) -> str:
    """Return a description of the first difference, or an empty text."""
    if jax.tree.structure(expected) != jax.tree.structure(actual):
        return f"expected the structure {jax.tree.structure(expected)}, got {jax.tree.structure(actual)}"
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(expected), jax.tree.leaves(actual), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        if a.shape != b.shape or np.max(np.abs(a - b), initial=0) > TOLERANCE * max(1, np.max(np.abs(a), initial=0)):
            return f"{jax.tree_util.keystr(path)}: expected {a.ravel()[:3]}, got {b.ravel()[:3]}"
    return ""


def main() -> None:
    """Print a dict of failures for every context: the name of the case and what went wrong."""
    failures = {context: {} for context in CONTEXTS}
    for name, case in cases():
        problem = Problem(case)
        whole = on_one_device(problem)
        for context, run in CONTEXTS.items():
            per_shard = context == "shard_map" and draws(problem.net)
            try:
                error = error_of(shard_by_shard(problem) if per_shard else whole, run(problem))
            except Exception as exception:
                error = f"{type(exception).__name__}: {exception}"
            if error:
                failures[context][name] = error
    json.dump(failures, sys.stdout)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_disable_most_optimizations", True)
    main()
