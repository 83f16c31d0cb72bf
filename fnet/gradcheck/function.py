"""Gradients that the user derived by hand, for a function of their own."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnet.gradcheck.diagnosis import Context
from fnet.gradcheck.examine import SAMPLES, Part, examine
from fnet.gradcheck.report import Report


class BadFunction(ValueError):
    """The function or the gradients that were handed over cannot be compared."""

    exit_status = 2


def compare(
    gradients: Any,
    f: Callable[[Any], Any],
    params: Any,
    *,
    batch: int | None = None,
    tolerance: float = 1e-8,
    samples: int = SAMPLES,
) -> Report:
    """Compares gradients of one's own with JAX's and with differences, leaf by leaf.

    Everything is computed in float64: parameters and gradients are copied to it.

    Args:
        gradients: df/dp for every leaf p of the parameters, in the same structure.
        f: params -> a number, computed by JAX.
        params: any pytree of numbers.
        batch: the number of examples, if f is a mean over some: a diagnosis names it.
        tolerance: the greatest relative difference between the two gradients that passes.
        samples: how many entries of each leaf are compared with differences: all, or a seeded sample of a larger leaf.

    Raises:
        BadFunction: when f does not give one real number, is not differentiable at the parameters, or the gradients are
            not of the structure of the parameters.

    >>> x = np.array([[1.0, 2.0], [3.0, 5.0], [4.0, 1.0]])
    >>> y = np.array([1.0, 0.0, 2.0])
    >>> w = np.array([0.5, -1.0])
    >>> error = x @ w - y
    >>> compare(2 / 3 * x.T @ error, lambda w: jnp.mean((x @ w - y) ** 2), w).ok
    True
    >>> print(compare(2 * x.T @ error, lambda w: jnp.mean((x @ w - y) ** 2), w, batch=3).rows[0].diagnosis)
    norm ratio 3 = batch: mean and sum mixed up
    """
    names, points = _named(params)
    for name, point in points.items():
        if not np.issubdtype(point.dtype, np.floating):
            raise BadFunction(f"{name} is of dtype {point.dtype}: a function is only differentiated by real numbers")
    mine = _gradients(gradients, params, names)
    points = {name: point.astype(np.float64) for name, point in points.items()}
    structure = jax.tree.structure(params)

    def of_leaves(arrays: Sequence[jax.Array], _: Any) -> jax.Array:
        return jnp.asarray(f(jax.tree.unflatten(structure, arrays)))[None]

    with jax.enable_x64(True):
        arrays = [jnp.asarray(point) for point in points.values()]
        _check_value(f, jax.tree.unflatten(structure, arrays))
        value, pull = jax.vjp(functools.partial(of_leaves, _=None), arrays)
        by_jax = dict(zip(names, map(np.asarray, pull(jnp.ones_like(value))[0]), strict=True))
    if not np.isfinite(value).all():
        raise BadFunction(f"the function is {float(value[0])} at the parameters: there is nothing to differentiate")
    for name, gradient in by_jax.items():
        if not np.isfinite(gradient).all():
            place = [int(n) for n in np.argwhere(~np.isfinite(gradient))[0]]
            raise BadFunction(
                f"the function is not differentiable at the parameters: JAX's derivative with respect to {name}{place} "
                f"is {gradient[tuple(place)]}"
            )
    rows = examine(
        of_leaves,
        points,
        None,
        [Part("total", mine, by_jax)],
        samples=samples,
        tolerance=tolerance,
        context=lambda name, _: Context(name, batch),
    )
    return Report(rows, tolerance)


def _named(tree: Any) -> tuple[list[str], dict[str, np.ndarray]]:
    """Names such as "dense_1/w" of the leaves of a pytree, and the leaves; "value" for a tree that is one leaf."""
    entries, _ = jax.tree_util.tree_flatten_with_path(tree)
    if not entries:
        raise BadFunction("the parameters are an empty tree: there is nothing to differentiate by")
    named = {jax.tree_util.keystr(path, simple=True, separator="/") or "value": leaf for path, leaf in entries}
    try:
        return list(named), {name: np.asarray(leaf) for name, leaf in named.items()}
    except (TypeError, ValueError) as error:
        raise BadFunction(f"the parameters hold something that is not an array of numbers: {error}") from error


def _gradients(gradients: Any, params: Any, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The gradients under the names of the parameters."""
    if jax.tree.structure(gradients) != jax.tree.structure(params):
        given, _ = _named(gradients)
        missing = [name for name in names if name not in given]
        others = [name for name in given if name not in names]
        said = "; ".join(
            f"{what}: {', '.join(which)}" for what, which in (("missing", missing), ("not parameters", others)) if which
        )
        structure = said or f"{jax.tree.structure(gradients)} where {jax.tree.structure(params)} is expected"
        raise BadFunction(f"the gradients are not of the structure of the parameters: {structure}")
    _, mine = _named(gradients)
    return {name: gradient.astype(np.float64) for name, gradient in mine.items()}


def _check_value(f: Callable[[Any], Any], params: Any) -> None:
    """That the function gives one real number."""
    try:
        value = jax.eval_shape(f, params)
    except jax.errors.ConcretizationTypeError as error:
        raise BadFunction(
            "JAX cannot trace the function: it turns a traced array into a Python number or a NumPy array, or branches "
            f"on its value; use jax.numpy and jnp.where ({str(error).splitlines()[0]})"
        ) from error
    except jax.errors.TracerArrayConversionError as error:
        raise BadFunction(
            "JAX cannot trace the function: it hands a traced array to NumPy; use jax.numpy instead "
            f"({str(error).splitlines()[0]})"
        ) from error
    leaves = jax.tree.leaves(value)
    if len(leaves) != 1 or leaves[0].shape != () or jax.tree.structure(value) != jax.tree.structure(0):
        shapes = ", ".join(str(leaf.shape) for leaf in leaves) or "nothing"
        raise BadFunction(
            f"the function must give one number, of shape (), and gives {shapes}; take a sum or a mean of it"
        )
    if not jnp.issubdtype(leaves[0].dtype, jnp.floating):
        raise BadFunction(f"the function gives a {leaves[0].dtype}: only a real number has a gradient")
