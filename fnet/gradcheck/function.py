"""Check of gradients that a user derived by hand, for any function."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnet.gradcheck.compare_leaves import SAMPLES, Part, compare_leaves
from fnet.gradcheck.diagnosis import Context
from fnet.gradcheck.report import Report


class BadFunction(ValueError):
    """The function or its gradients cannot be compared."""

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
    """Compare your own gradients with JAX's and with finite differences, leaf by leaf.

    Parameters and gradients are converted to float64, and everything is computed in float64.

    Args:
        gradients: df/dp for every leaf p of the parameters, in the same structure.
        f: params -> scalar, traceable by JAX.
        params: any pytree of numbers.
        batch: the number of examples if f is a mean over them; used in diagnoses.
        tolerance: the maximum relative difference that passes between your gradient and JAX's.
        samples: the number of entries of each leaf to compare with finite differences; a larger leaf is sampled with a
            fixed seed.

    Raises:
        BadFunction: if f does not return a real scalar or is not differentiable at the parameters, or if the gradients
            and the parameters have different structures.

    >>> x = np.array([[1.0, 2.0], [3.0, 5.0], [4.0, 1.0]])
    >>> y = np.array([1.0, 0.0, 2.0])
    >>> w = np.array([0.5, -1.0])
    >>> error = x @ w - y
    >>> compare(2 / 3 * x.T @ error, lambda w: jnp.mean((x @ w - y) ** 2), w).ok
    True
    >>> print(compare(2 * x.T @ error, lambda w: jnp.mean((x @ w - y) ** 2), w, batch=3).rows[0].diagnosis)
    norm ratio 3 = batch: sum in place of mean
    """
    points = _named(params)
    for name, point in points.items():
        if not np.issubdtype(point.dtype, np.floating):
            raise BadFunction(f"{name} has dtype {point.dtype}: gradients exist only with respect to real numbers")
    by_hand = _named_gradients(gradients, params, points)
    points = {name: point.astype(np.float64) for name, point in points.items()}
    structure = jax.tree.structure(params)

    def f_of_leaves(arrays: Sequence[jax.Array], _: Any = None) -> jax.Array:
        return jnp.asarray(f(jax.tree.unflatten(structure, arrays)))[None]

    by_jax = _gradients_by_jax(f, f_of_leaves, structure, points)
    rows = compare_leaves(
        f_of_leaves,
        points,
        None,
        [Part("total", by_hand, by_jax)],
        samples=samples,
        tolerance=tolerance,
        context=lambda name, _: Context(name, batch),
    )
    return Report(rows, tolerance)


def _gradients_by_jax(
    f: Callable[[Any], Any], f_of_leaves: Callable[..., jax.Array], structure: Any, points: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Differentiate f with respect to every leaf.

    Raises:
        BadFunction: if it cannot be differentiated at these points.
    """
    with jax.enable_x64(True):
        arrays = [jnp.asarray(point) for point in points.values()]
        _check_value(f, jax.tree.unflatten(structure, arrays))
        value, pull = jax.vjp(f_of_leaves, arrays)
        gradients = dict(zip(points, map(np.asarray, pull(jnp.ones_like(value))[0]), strict=True))
    if not np.isfinite(value).all():
        raise BadFunction(f"the function is {float(value[0])} at the parameters: it cannot be differentiated there")
    for name, gradient in gradients.items():
        if not np.isfinite(gradient).all():
            index = [int(n) for n in np.argwhere(~np.isfinite(gradient))[0]]
            raise BadFunction(
                f"the function is not differentiable at the parameters: JAX's derivative with respect to {name}{index} "
                f"is {gradient[tuple(index)]}"
            )
    return gradients


def _named(tree: Any) -> dict[str, np.ndarray]:
    """Return the leaves of a pytree by name, such as "dense_1/w"; a tree that is a single leaf is named "value"."""
    entries, _ = jax.tree_util.tree_flatten_with_path(tree)
    if not entries:
        raise BadFunction("the parameters are an empty tree: there is nothing to differentiate with respect to")
    named = {jax.tree_util.keystr(path, simple=True, separator="/") or "value": leaf for path, leaf in entries}
    try:
        return {name: np.asarray(leaf) for name, leaf in named.items()}
    except (TypeError, ValueError) as error:
        raise BadFunction(f"a leaf of the parameters is not an array of numbers: {error}") from error


def _named_gradients(gradients: Any, params: Any, points: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the gradients in float64, by the names of the parameters."""
    if jax.tree.structure(gradients) != jax.tree.structure(params):
        names = _named(gradients)
        missing = [name for name in points if name not in names]
        extra = [name for name in names if name not in points]
        differences = [
            f"{label}: {', '.join(n)}" for label, n in (("missing", missing), ("not parameters", extra)) if n
        ]
        detail = "; ".join(differences) or (
            f"expected {jax.tree.structure(params)}, got {jax.tree.structure(gradients)}"
        )
        raise BadFunction(f"the gradients must have the structure of the parameters: {detail}")
    return {name: gradient.astype(np.float64) for name, gradient in _named(gradients).items()}


def _check_value(f: Callable[[Any], Any], params: Any) -> None:
    """Check that the function returns a real scalar."""
    try:
        value = jax.eval_shape(f, params)
    except jax.errors.ConcretizationTypeError as error:
        raise BadFunction(
            "JAX cannot trace the function: it converts a traced array to a Python number or a NumPy array, or "
            f"branches on its value; use jax.numpy and jnp.where ({str(error).splitlines()[0]})"
        ) from error
    except jax.errors.TracerArrayConversionError as error:
        raise BadFunction(
            "JAX cannot trace the function: it passes a traced array to NumPy; use jax.numpy instead "
            f"({str(error).splitlines()[0]})"
        ) from error
    leaves = jax.tree.leaves(value)
    if len(leaves) != 1 or leaves[0].shape != () or jax.tree.structure(value) != jax.tree.structure(0):
        shapes = ", ".join(str(leaf.shape) for leaf in leaves) or "nothing"
        raise BadFunction(
            f"the function must return one number of shape (), but returns {shapes}; take its sum or mean"
        )
    if not jnp.issubdtype(leaves[0].dtype, jnp.floating):
        raise BadFunction(f"the function returns a value of dtype {leaves[0].dtype}: only a real number has a gradient")
