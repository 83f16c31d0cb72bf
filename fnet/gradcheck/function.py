"""Check of gradients that a user derived by hand, for any function."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fnet.core.wording import first_line
from fnet.gradcheck.compare_leaves import ROUNDING_LIMITS, SAMPLES, Part, check_choice, compare_leaves
from fnet.gradcheck.diagnosis import Context
from fnet.gradcheck.report import Report
from fnet.gradcheck.rounding import gradients_of

TOLERANCES = {"float64": 1e-8, "float32": 1e-4}
"""The default maximum relative difference that passes, by the precision of JAX's gradient."""


class BadFunction(ValueError):
    """The function or its gradients cannot be compared."""

    exit_status = 2


def compare(
    gradients: Any,
    f: Callable[[Any], Any],
    params: Any,
    *,
    batch: int | None = None,
    tolerance: float | None = None,
    samples: int = SAMPLES,
    precision: Literal["float64", "float32"] = "float64",
    kinks: Literal["include", "exclude"] = "include",
) -> Report:
    """Compare your own gradients with JAX's and with finite differences, leaf by leaf.

    Parameters and gradients are converted to float64, and everything is computed in float64, except JAX's gradient if
    the precision is float32. The rounding errors of that gradient are measured, and a difference below them passes.

    A complex leaf z = x + i y is compared as two real leaves, "z/real" and "z/imaginary". The gradient must follow
    JAX's convention, which is that of `jax.grad`: dL/dx - i dL/dy. Many texts use its conjugate.

    Args:
        gradients: df/dp for every leaf p of the parameters, in the same structure.
        f: params -> real scalar, traceable by JAX.
        params: any pytree of real or complex numbers.
        batch: the number of examples if f is a mean over them; used in diagnoses.
        tolerance: the maximum relative difference that passes between your gradient and JAX's; by default 1e-8, and
            1e-4 in float32.
        samples: the number of entries of each leaf to compare with finite differences; a larger leaf is sampled with a
            fixed seed.
        precision: the precision of JAX's gradient. float32 is for gradients that you computed in float32 too.
        kinks: at a kink of f, such as that of |w| at 0, several values may serve as the derivative. With "include" your
            gradient must have the value that JAX uses there. With "exclude" such an entry is skipped and counted, as is
            an entry at which JAX's derivative is not finite. Up to 1,000 entries per leaf that differ are examined.

    Raises:
        BadFunction: if f does not return a real scalar or is not differentiable at the parameters, or if the gradients
            and the parameters have different structures.
        ValueError: for an unknown precision or treatment of kinks.

    >>> x = np.array([[1.0, 2.0], [3.0, 5.0], [4.0, 1.0]])
    >>> y = np.array([1.0, 0.0, 2.0])
    >>> w = np.array([0.5, -1.0])
    >>> error = x @ w - y
    >>> compare(2 / 3 * x.T @ error, lambda w: jnp.mean((x @ w - y) ** 2), w).ok
    True
    >>> print(compare(2 * x.T @ error, lambda w: jnp.mean((x @ w - y) ** 2), w, batch=3).rows[0].diagnosis)
    norm ratio 3 = batch: sum in place of mean
    """
    check_choice("compare", "precision", precision, TOLERANCES)
    check_choice("compare", "kinks", kinks, ("include", "exclude"))
    tolerance = TOLERANCES[precision] if tolerance is None else tolerance
    leaves = _named(params)
    for name, leaf in leaves.items():
        if not np.issubdtype(leaf.dtype, np.inexact):
            raise BadFunction(
                f"{name} has dtype {leaf.dtype}: gradients exist only with respect to real and complex numbers"
            )
    by_hand = _named_gradients(gradients, params, leaves)
    pairs = {name: np.iscomplexobj(leaf) for name, leaf in leaves.items()}
    points = _real_leaves(leaves, pairs)
    by_hand = _real_leaves(by_hand, pairs, sign=-1.0)
    f_of_leaves = _Function(f, jax.tree.structure(params), tuple(pairs.values()))
    by_jax = _gradients_by_jax(f_of_leaves, points, precision)
    if kinks == "exclude":
        by_hand, by_jax = _without_undefined(by_hand, by_jax)
    else:
        _check_defined(by_jax)
    rows = compare_leaves(
        f_of_leaves,
        points,
        None,
        [Part("total", by_hand, by_jax)],
        samples=samples,
        tolerance=tolerance,
        precision=precision,
        rounding=ROUNDING_LIMITS[precision],
        exclude_kinks=kinks == "exclude",
        context=lambda name, _: Context(name, batch),
    )
    return Report(rows, tolerance, precision)


@dataclasses.dataclass(frozen=True, eq=False)
class _Function:
    """The function of real leaves, in which every complex leaf is a pair of leaves, its real and imaginary part."""

    function: Callable[[Any], Any]
    structure: Any
    is_complex: Sequence[bool]

    def params(self, arrays: Sequence[jax.Array]) -> Any:
        """Return the parameters with these real leaves."""
        parts = iter(arrays)
        leaves = [lax.complex(next(parts), next(parts)) if paired else next(parts) for paired in self.is_complex]
        return jax.tree.unflatten(self.structure, leaves)

    def __call__(self, arrays: Sequence[jax.Array], _: Any = None) -> jax.Array:
        """Map (leaves, anything) to an array of shape (1,)."""
        return jnp.asarray(self.function(self.params(arrays)))[None]


def _real_leaves(leaves: Mapping[str, np.ndarray], is_complex: Mapping[str, bool], sign: float = 1.0) -> dict[str, Any]:
    """Return float64 leaves, in which a complex leaf is replaced by its real part and its imaginary part times a sign.

    For a gradient the sign is -1: JAX's gradient with respect to z = x + i y is dL/dx - i dL/dy.
    """
    real: dict[str, Any] = {}
    for name, leaf in leaves.items():
        if is_complex[name]:
            real[f"{name}/real"] = np.real(leaf).astype(np.float64)
            real[f"{name}/imaginary"] = sign * np.imag(leaf).astype(np.float64)
        else:
            real[name] = leaf.astype(np.float64)
    return real


def _gradients_by_jax(f: _Function, points: Mapping[str, np.ndarray], precision: str) -> dict[str, np.ndarray]:
    """Differentiate f with respect to every leaf.

    Raises:
        BadFunction: if it is not a function with one real value, which is finite at these points.
    """
    with jax.enable_x64(precision == "float64"):
        _check_value(f.function, f.params([jnp.asarray(point) for point in points.values()]))
    value, gradients = gradients_of(f, list(points.values()), None, precision)
    if not np.isfinite(value).all():
        raise BadFunction(f"the function is {float(value[0])} at the parameters: it cannot be differentiated there")
    return {name: gradient[0] for name, gradient in zip(points, gradients, strict=True)}


def _check_defined(by_jax: Mapping[str, np.ndarray]) -> None:
    """Check that JAX's gradients are finite."""
    for name, gradient in by_jax.items():
        if not np.isfinite(gradient).all():
            index = [int(n) for n in np.argwhere(~np.isfinite(gradient))[0]]
            raise BadFunction(
                f"the function is not differentiable at the parameters: JAX's derivative with respect to {name}{index} "
                f"is {gradient[tuple(index)]}; kinks='exclude' skips such entries"
            )


def _without_undefined(by_hand: Mapping[str, np.ndarray], by_jax: Mapping[str, np.ndarray]) -> tuple[dict, dict]:
    """Set both gradients to 0 where JAX's is not finite."""
    defined = {name: np.isfinite(gradient) for name, gradient in by_jax.items()}
    hand = {
        name: np.where(defined[name], gradient, 0.0) if gradient.shape == defined[name].shape else gradient
        for name, gradient in by_hand.items()
    }
    return hand, {name: np.where(defined[name], gradient, 0.0) for name, gradient in by_jax.items()}


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
    """Return the gradients by the names of the parameters."""
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
    return _named(gradients)


def _check_value(f: Callable[[Any], Any], params: Any) -> None:
    """Check that the function returns a real scalar."""
    try:
        value = jax.eval_shape(f, params)
    except jax.errors.ConcretizationTypeError as error:
        raise BadFunction(
            "JAX cannot trace the function: it converts a traced array to a Python number or a NumPy array, or "
            f"branches on its value; use jax.numpy and jnp.where ({first_line(error)})"
        ) from error
    except jax.errors.TracerArrayConversionError as error:
        raise BadFunction(
            "JAX cannot trace the function: it passes a traced array to NumPy; use jax.numpy instead "
            f"({first_line(error)})"
        ) from error
    leaves = jax.tree.leaves(value)
    if len(leaves) != 1 or leaves[0].shape != () or jax.tree.structure(value) != jax.tree.structure(0):
        shapes = ", ".join(str(leaf.shape) for leaf in leaves) or "nothing"
        raise BadFunction(
            f"the function must return one number of shape (), but returns {shapes}; take its sum or mean"
        )
    if not jnp.issubdtype(leaves[0].dtype, jnp.floating):
        raise BadFunction(f"the function returns a value of dtype {leaves[0].dtype}: only a real number has a gradient")
