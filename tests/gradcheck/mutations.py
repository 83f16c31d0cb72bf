"""Typical mistakes in backward passes: the place of each, and the diagnosis that the check must return."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import fnet
from fnet.reference.rule import Rule, rule_of

BATCH = 6


class Problem(NamedTuple):
    net: fnet.Layer
    loss: str
    in_shape: tuple[int, ...]
    penalties: fnet.Penalties = fnet.Penalties()


PROBLEMS = {
    "mlp": Problem(
        fnet.serial(fnet.dense(5), fnet.tanh(), fnet.dense(5), fnet.leaky_relu(0.1), fnet.dense(3)),
        "cross_entropy",
        (4,),
    ),
    "kinks": Problem(fnet.serial(fnet.relu(), fnet.dense(3), fnet.sigmoid(), fnet.dense(2)), "mse", (5,)),
    "penalized": Problem(
        fnet.serial(fnet.dense(4), fnet.tanh(), fnet.dense(2)), "mse", (3,), fnet.Penalties(l1=0.02, l2=0.3)
    ),
    "images": Problem(
        fnet.serial(fnet.conv(4, 3), fnet.tanh(), fnet.avg_pool(2), fnet.max_pool(2), fnet.flatten(), fnet.dense(3)),
        "cross_entropy",
        (9, 8, 2),
    ),
    "normalized": Problem(
        fnet.serial(fnet.dense(5), fnet.batch_norm(), fnet.tanh(), fnet.dense(4), fnet.layer_norm(), fnet.dense(3)),
        "cross_entropy",
        (4,),
    ),
    "combined": Problem(
        fnet.serial(
            fnet.dense(4),
            fnet.residual(fnet.dense(4), fnet.tanh()),
            fnet.dropout(0.4),
            fnet.parallel(fnet.dense(2), fnet.dense(2), combine="multiply"),
            fnet.parallel(fnet.identity(), fnet.dense(3)),
            fnet.graph(
                fnet.dense(5, name="shared"),
                nodes={"a": ("shared", "input"), "b": ("shared", "a"), "y": ("add", "a", "b")},
            ),
            fnet.softmax(),
        ),
        "mse",
        (3,),
    ),
}


def inputs(problem: Problem):
    """Return perturbed parameters, the state and a batch; for "kinks" some inputs are exactly 0."""
    rng = np.random.default_rng(3)
    params, state = problem.net.init(jax.random.key(1), problem.in_shape)
    params = jax.tree.map(lambda leaf: np.asarray(leaf) + 0.3 * rng.standard_normal(leaf.shape), params)
    x = rng.standard_normal((BATCH, *problem.in_shape))
    if problem is PROBLEMS["kinks"]:
        x[::2, 1:3] = 0.0
    out = problem.net.shape(problem.in_shape)
    y = rng.integers(0, out[-1], BATCH) if problem.loss == "cross_entropy" else rng.standard_normal((BATCH, *out))
    return params, state, x, y


class Mutation(NamedTuple):
    """A mistake and its expected diagnosis.

    problem, kind, change: the problem, the kind of layer whose rule is changed, and the change.
    layer, what: the layer and its result in which the check must locate the mistake.
    words: regular expression that matches the diagnosis.
    """

    name: str
    problem: str
    kind: str
    change: Callable
    layer: str
    what: str
    words: str


def leaf(name: str, f: Callable) -> Callable:
    """Return a change of the gradient of one leaf."""

    def change(backward, layer, scope, cache, g):
        dx, gradients = backward(layer, scope, cache, g)
        return dx, gradients | {name: f(gradients[name])}

    return change


def dx(f: Callable) -> Callable:
    """Return a change of the gradient of the input."""

    def change(backward, layer, scope, cache, g):
        input_gradient, gradients = backward(layer, scope, cache, g)
        return f(input_gradient), gradients

    return change


def entry(index: tuple[int, ...], factor: float) -> Callable:
    """Return a function that scales one entry."""

    def f(gradient):
        gradient = gradient.copy()
        gradient[index] *= factor
        return gradient

    return f


def square_only(f: Callable) -> Callable:
    return lambda w: f(w) if w.ndim == 2 and w.shape[0] == w.shape[1] else w


def without_leaf(backward, layer, scope, cache, g):
    input_gradient, gradients = backward(layer, scope, cache, g)
    return input_gradient, {"w": gradients["w"]}


def stale(backward, layer, scope, x, g):
    """Use the inputs of other examples, as from an earlier forward pass."""
    input_gradient, _ = backward(layer, scope, x, g)
    return input_gradient, backward(layer, scope, np.roll(x, 1, axis=0), g)[1]


def wrong_kink(backward, layer, scope, z, g):
    """relu'(0) = 1."""
    return np.where(z >= 0, g, 0.0), {}


def wrong_slope(backward, layer, scope, z, g):
    return g * np.where(z >= 0, layer.settings["slope"], 1.0), {}


def spread(backward, layer, scope, cache, g):
    """Spread the gradient evenly, as average pooling does."""
    input_gradient, _ = backward(layer, scope, cache, g)
    return np.broadcast_to(input_gradient.mean(axis=(1, 2), keepdims=True), input_gradient.shape), {}


def without_shortcut(backward, layer, scope, cache, g):
    input_gradient, gradients = backward(layer, scope, cache, g)
    return input_gradient - g, gradients


def last_branch_only(backward, layer, scope, cache, g):
    """Overwrite the gradient of the first branch instead of adding to it."""
    outputs, caches = cache
    *_, (name, child) = layer.children
    share = g if layer.settings["combine"] == "add" else g[..., -outputs[-1].shape[-1] :]
    if layer.settings["combine"] == "multiply":
        share = g * np.prod(outputs[:-1], axis=0)
    input_gradient, _ = rule_of(child).backward(child, scope.child(name), caches[-1], share)
    return input_gradient, backward(layer, scope, cache, g)[1]


def not_swapped(backward, layer, scope, cache, g):
    """Multiply the cotangent by the branch's own output, not by the output of the other branch."""
    outputs, caches = cache
    if layer.settings["combine"] != "multiply":
        return backward(layer, scope, cache, g)
    return backward(layer, scope, (outputs[::-1], caches), g)


def used_once(backward, layer, scope, cache, g):
    """Return only the gradient of the earlier use of a layer that is used twice, not the sum."""
    nodes, _, _, caches, _ = cache
    input_gradient, _ = backward(layer, scope, cache, g)
    first = next(node for node in nodes if node.operation == "shared")
    child = dict(layer.children)["shared"]
    # The earlier use receives the cotangent of a, which is g plus the one from b.
    from_b, _ = rule_of(child).backward(child, scope.child("shared"), caches["b"], g)
    _, gradients = rule_of(child).backward(child, scope.child("shared"), caches[first.name], g + from_b)
    return input_gradient, {"shared": gradients}


def diagonal_only(backward, layer, scope, y, g):
    """Use only the diagonal of the softmax's Jacobian."""
    return g * y * (1 - y), {}


def not_rescaled(backward, layer, scope, cache, g):
    return backward(layer, scope, cache, g)[0] * (1 - layer.settings["rate"]), {}


def not_masked(backward, layer, scope, cache, g):
    return g / (1 - layer.settings["rate"]), {}


def no_square(backward, layer, scope, z, g):
    """tanh' = 1 - tanh, without the square."""
    return g * (1 - np.tanh(z)), {}


def no_derivative(backward, layer, scope, z, g):
    return g, {}


def without_term(term: str) -> Callable:
    """Return a change that omits one of batch norm's terms: through the mean, through the variance, or the scale."""

    def change(backward, layer, scope, cache, g):
        input_gradient, gradients = backward(layer, scope, cache, g)
        scaled = g * scope.params["scale"]
        full, n = input_gradient, len(g)
        # dx = s (u - mean(u) - xhat mean(u xhat)) with u = scale g and s = 1 / std.
        u = scaled - scaled.mean(axis=0)
        xhat = cached_xhat(gradients["scale"], g, scope, layer, cache)
        right = u - xhat * (scaled * xhat).mean(axis=0)
        s = np.sum(full * right, axis=0) / np.sum(right * right, axis=0)
        assert n == BATCH
        if term == "mean":
            return full + s * scaled.mean(axis=0), gradients
        if term == "variance":
            return s * u, gradients
        return full / scope.params["scale"], gradients

    return change


def cached_xhat(scale_gradient, g, scope, layer, cache):
    """Return the normalized input, searched for in the cache of the reference."""
    candidates = [a for a in jax.tree.leaves(cache) if isinstance(a, np.ndarray) and a.shape == g.shape]
    return next(a for a in candidates if np.allclose((a * g).sum(axis=0), scale_gradient))


DENSE = [
    ("sign of dw", leaf("w", lambda w: -w), "w", "sign flipped"),
    ("dw transposed", leaf("w", square_only(np.transpose)), "w", "^transposed$"),
    ("dw of another shape", leaf("w", lambda w: w.T if w.shape[0] != w.shape[1] else w), "w", r"^transposed: \("),
    ("dw twice", leaf("w", lambda w: 2 * w), "w", "norm ratio 2: a factor of 2"),
    ("mean for sum in dw", leaf("w", lambda w: w / BATCH), "w", r"norm ratio 1/6 = 1/batch: mean in place of sum"),
    ("sum for mean in db", leaf("b", lambda b: b * BATCH), "b", r"norm ratio 6 = batch: sum in place of mean"),
    ("db zero", leaf("b", lambda b: 0 * b), "b", "bias gradient missing"),
    ("db left out", without_leaf, "b", "no gradient by hand"),
    ("0.1 % of dw", leaf("w", lambda w: 1.001 * w), "w", r"norm ratio 1\.001: the same factor"),
    ("one entry of dw", leaf("w", entry((1, 2), 1.5)), "w", r"1 of \d+ entries is wrong, at \[1, 2\]"),
    ("one row of dw", leaf("w", entry((0,), 0.0)), "w", "only entries with index 0 of axis 0"),
    ("db on the wrong axis", leaf("b", lambda b: np.full_like(b, b.sum())), "b", "wrong axis: every entry is the sum"),
    ("columns of dw reversed", leaf("w", lambda w: w[:, ::-1]), "w", "flipped along axis 1"),
    ("off by one", leaf("w", lambda w: np.roll(w, 1, axis=0)), "w", "shifted by one along axis 0"),
    ("stale input", stale, "w", "unrelated|a term is missing or extra"),
    ("NaN in dw", leaf("w", entry((2, 1), np.nan)), "w", r"NaN or infinite in 1 of \d+ entries, first at \[2, 1\]"),
    ("half of dx", dx(lambda d: d / 2), "input", "norm ratio 1/2: a factor of 2"),
    ("dx reversed", dx(lambda d: d[:, ::-1]), "input", "flipped along axis 1"),
]

MUTATIONS = [
    *(Mutation(name, "mlp", "dense", change, "dense_", what, words) for name, change, what, words in DENSE),
    Mutation("sign of tanh", "mlp", "tanh", dx(np.negative), "tanh_1", "input", "sign flipped"),
    Mutation("the square of tanh", "mlp", "tanh", no_square, "tanh_1", "input", "a term is missing|nearly correct"),
    Mutation("no derivative", "mlp", "tanh", no_derivative, "tanh_1", "input", "a term is missing|nearly correct"),
    Mutation("slopes exchanged", "mlp", "leaky_relu", wrong_slope, "leaky_relu_1", "input", "unrelated|term"),
    Mutation("at the kink", "kinks", "relu", wrong_kink, "relu_1", "input", "derivative at a kink"),
    Mutation("sigmoid scaled", "kinks", "sigmoid", dx(lambda d: 4 * d), "sigmoid_1", "input", "norm ratio 4"),
    Mutation("kernel flipped", "images", "conv", leaf("w", lambda w: w[::-1, ::-1]), "conv_1", "w", "flipped along"),
    Mutation(
        "height for width", "images", "conv", leaf("w", lambda w: w.transpose(1, 0, 2, 3)), "conv_1", "w", "transposed"
    ),
    Mutation("mean for sum in db", "images", "conv", leaf("b", lambda b: b / 72), "conv_1", "b", "1/72 = 1/positions"),
    Mutation("off by one", "images", "conv", dx(lambda d: np.roll(d, 1, 2)), "conv_1", "input", "shifted by one along"),
    Mutation("no dx", "images", "conv", dx(np.zeros_like), "conv_1", "input", "gradient of the input missing"),
    Mutation("area", "images", "avg_pool", dx(lambda d: 4 * d), "avg_pool_1", "input", "norm ratio 4: the same factor"),
    Mutation("all winners", "images", "max_pool", spread, "max_pool_1", "input", "wrong axis: "),
    Mutation("no mean", "normalized", "batch_norm", without_term("mean"), "batch_norm_1", "input", "term from a mean"),
    Mutation("no variance", "normalized", "batch_norm", without_term("variance"), "batch_norm_1", "input", "term"),
    Mutation("no scale", "normalized", "batch_norm", without_term(""), "batch_norm_1", "input", "index of axis 1"),
    Mutation(
        "mean for sum", "normalized", "batch_norm", leaf("shift", lambda b: b / 6), "batch_norm_1", "shift", "= 1/batch"
    ),
    Mutation(
        "row by row", "normalized", "layer_norm", dx(lambda d: d * np.arange(1, 7)[:, None]), "layer_norm_1", "input",
        "a different factor for each index of axis 0",
    ),
    Mutation("no shortcut", "combined", "residual", without_shortcut, "residual_1", "input", "term|unrelated"),
    Mutation("not rescaled", "combined", "dropout", not_rescaled, "dropout_1", "input", r"norm ratio 0\.6"),
    Mutation("not masked", "combined", "dropout", not_masked, "dropout_1", "input", "term|unrelated|entries"),
    Mutation("branch overwritten", "combined", "parallel", last_branch_only, "parallel_", "input", "term|unrelated"),
    Mutation("not swapped", "combined", "parallel", not_swapped, "parallel_1", "input", "term|unrelated"),
    Mutation("used once", "combined", "graph", used_once, "graph_1", "shared/w", "term|unrelated"),
    Mutation("diagonal", "combined", "softmax", diagonal_only, "softmax_1", "input", "term|unrelated"),
]  # fmt: skip


def with_mistake(rule: Rule, change: Callable) -> Rule:
    """Return the rule with its backward pass changed."""
    return Rule(rule.forward, lambda *arguments: change(rule.backward, *arguments))


# Mistakes in JAX: a layer with a wrong custom derivative.


def with_custom_derivative(change: Callable, base: fnet.Layer) -> fnet.Layer:
    """Return the layer with the same forward pass and changed gradients."""
    import dataclasses

    def apply(params, state, x, *, train, key=None, mask=None):
        @jax.custom_vjp
        def f(params, x):
            return base.apply(params, state, x, train=train, key=key, mask=mask)[0]

        def backward(saved, g):
            _, pull = jax.vjp(
                lambda params, x: base.apply(params, state, x, train=train, key=key, mask=mask)[0], *saved
            )
            return change(*pull(g))

        f.defvjp(lambda params, x: (f(params, x), (params, x)), backward)
        return f(params, x), state

    return dataclasses.replace(base, apply=apply)


IN_JAX = {
    "sign": (lambda p, x: (p, -x), "input", "sign flipped"),
    "0.1 %": (lambda p, x: (p | {"w": 1.001 * p["w"]}, x), "w", r"norm ratio 1\.001"),
    "mean for sum": (lambda p, x: (p | {"b": p["b"] / BATCH}, x), "b", "1/6 = 1/batch"),
    "one entry": (lambda p, x: (p | {"w": p["w"].at[1, 2].multiply(1.5)}, x), "w", r"entries is wrong, at \[1, 2\]"),
    "zero": (lambda p, x: (p | {"b": jnp.zeros_like(p["b"])}, x), "b", "bias gradient missing"),
    "reversed": (lambda p, x: (p, x[:, ::-1]), "input", "flipped along axis 1"),
}
