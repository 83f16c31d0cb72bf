"""Recording of the branch that a computation takes at every kink, such as those of relu, max pooling, |w| and a hinge.

A function with kinks is smooth as long as no comparison in it changes its outcome. So the function is traced, and
evaluated with the outcomes of its comparisons as additional results: two points for which all outcomes are equal lie on
the same smooth piece. This does not need a list of layers with kinks, and works for any function that JAX can trace.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, Literal

COMPARISONS = {"gt", "lt", "ge", "le", "eq", "ne", "argmax", "argmin", "sign", "floor", "ceil", "round"}
"""Primitives whose result is itself an outcome if their operands are floating-point numbers."""


def with_branches(function: Callable[..., Any]) -> Callable[..., tuple[Any, list[jax.Array]]]:
    """Transform a function to also return the outcomes of all comparisons inside it.

    Comparisons in smooth computations are included, such as the shift by the maximum in a softmax: equal outcomes imply
    the same smooth piece, but different outcomes do not imply a kink. Branches of `lax.cond` and loops of unknown
    length are not inspected.

    >>> value, branches = with_branches(lambda x: jnp.sum(jnp.maximum(x, 0.0) * jnp.abs(x)))(jnp.array([-1.0, 2.0]))
    >>> float(value), [branch.tolist() for branch in branches]
    (4.0, [[False, True], [-1.0, 1.0]])
    """

    def both(*arguments: Any) -> tuple[Any, list[jax.Array]]:
        traced, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
        results, branches = _evaluate(traced, jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(shape), results), branches

    return both


def _evaluate(traced: ClosedJaxpr, arguments: Sequence[Any]) -> tuple[list[Any], list[jax.Array]]:
    """Return the results of a traced function and the outcomes of its comparisons."""
    jaxpr = traced.jaxpr
    values: dict[Any, Any] = dict(zip(jaxpr.constvars, traced.consts, strict=True))
    values |= zip(jaxpr.invars, arguments, strict=True)
    branches: list[jax.Array] = []

    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, Literal) else values[variable]

    for equation in jaxpr.eqns:
        operands = [read(variable) for variable in equation.invars]
        results, outcomes = _apply(equation, operands)
        values |= zip(equation.outvars, results, strict=True)
        branches += outcomes
    return [read(variable) for variable in jaxpr.outvars], branches


def _apply(equation: Any, operands: list[Any]) -> tuple[list[Any], list[jax.Array]]:
    """Return the results of one primitive and the outcomes of the comparisons in it."""
    name, parameters = equation.primitive.name, equation.params
    inner = parameters.get("jaxpr") or parameters.get("call_jaxpr")
    if name == "scan":
        return _scan(equation, operands)
    if inner is not None and name not in ("while", "cond"):
        inner = inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ())
        return _evaluate(inner, operands)
    results = equation.primitive.bind(*operands, **parameters)
    results = list(results) if equation.primitive.multiple_results else [results]
    floating = bool(operands) and jnp.issubdtype(jnp.result_type(operands[0]), jnp.floating)
    return results, _outcomes(name, operands, results[0], parameters.get("axes", ())) if floating else []


def _outcomes(name: str, operands: list[Any], result: Any, axes: tuple[int, ...]) -> list[jax.Array]:
    first = operands[0]
    if name in COMPARISONS:
        return [result]
    if name == "abs":
        return [jnp.sign(first)]
    if name in ("max", "min"):
        return [first > operands[1]]
    if name in ("reduce_max", "reduce_min"):
        return [first == jnp.expand_dims(result, axes)]
    if name in ("cummax", "cummin"):
        return [first == result]
    if name == "clamp":
        low, x, high = operands
        return [x < low, x > high]
    if name == "sort":
        return [jnp.argsort(first)]
    return []


def _scan(equation: Any, operands: list[Any]) -> tuple[list[Any], list[jax.Array]]:
    """Run a scan whose body also returns the outcomes of every step.

    Its operands are constants, carries and rows, in this order. Only rows and stacked results have the axis of steps,
    which their counterparts in the body do not have. This identifies them, because the names of the parameters that
    count them differ between JAX versions.
    """
    parameters, traced = equation.params, equation.params["jaxpr"]
    carries = sum(
        len(outer.aval.shape) == len(inner.shape) for outer, inner in _pairs(equation.outvars, traced.out_avals)
    )
    rows = sum(len(outer.aval.shape) > len(inner.shape) for outer, inner in _pairs(equation.invars, traced.in_avals))
    constants = len(operands) - carries - rows

    def body(carry: list[Any], row: list[Any]) -> tuple[list[Any], Any]:
        results, outcomes = _evaluate(traced, [*operands[:constants], *carry, *row])
        return results[:carries], (results[carries:], outcomes)

    last, (stacked, outcomes) = lax.scan(
        body,
        operands[constants : constants + carries],
        operands[constants + carries :],
        length=parameters["length"],
        reverse=parameters["reverse"],
    )
    return [*last, *stacked], outcomes


def _pairs(outer: Sequence[Any], inner: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(outer, inner, strict=True)
