"""`trace` detects wrong derivatives, without false alarms."""

import ast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fnet.trace import functions, parser
from fnet.trace.compare import JAX_FUNCTIONS, trace
from fnet.trace.functions import FUNCTIONS
from fnet.trace.nodes import Operation


def with_wrong_derivative(operation, position, change):
    formula, derivative = operation.derivatives[position]
    derivatives = list(operation.derivatives)
    derivatives[position] = formula, lambda *nodes: change(derivative(*nodes))
    return operation._replace(derivatives=tuple(derivatives))


WRONG = [
    (kind, position, change)
    for kind in (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow, ast.MatMult)
    for position, change in ((0, "sign"), (1, "0.1 %"))
]


@pytest.mark.parametrize(("kind", "position", "change"), WRONG)
def test_a_wrong_derivative_of_an_operator_is_detected(kind, position, change, monkeypatch):
    changed = with_wrong_derivative(parser._OPERATORS[kind], position, lambda d: -d if change == "sign" else 1.001 * d)
    monkeypatch.setitem(parser._OPERATORS, kind, changed)
    result = trace("sum([1, 2] * ((x + y) * (x - y) / y ** x @ x))", ["x=[1.5, 2]", "y=[1.7, 1.2]"])
    assert not result.ok
    assert "hand and JAX disagree at: " in result.verdict


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - {"dot", "relu", "transpose"}))
def test_a_wrong_derivative_of_a_function_is_detected(name, monkeypatch):
    count, operation = next(iter(FUNCTIONS[name].operations.items()))
    changed = with_wrong_derivative(operation, 0, lambda d: 1.001 * d)
    monkeypatch.setitem(FUNCTIONS, name, FUNCTIONS[name]._replace(operations={count: changed}))
    argument = "x * [0.3, 0.5]" if changed.elementwise is False else "x"
    result = trace(
        f"sum({name}({argument}) * 3.0)" if name != "softmax" else f"sum([1, 2] * {name}({argument}))", ["x=1.3"]
    )
    assert not result.ok
    assert not result.nodes[0].ok


def test_a_wrong_value_is_detected(monkeypatch):
    wrong = functions.sin._replace(forward=lambda a: np.sin(a) + 1e-6)
    monkeypatch.setitem(FUNCTIONS, "sin", functions.Function({1: wrong}))
    assert [node.name for node in trace("3*sin(x)", ["x=0.5"]).nodes if not node.ok] == ["a", "b"]


def test_a_wrong_second_derivative_is_detected(monkeypatch):
    """The gradient is correct, but its graph is not: a constant has no second derivative."""
    changed = with_wrong_derivative(functions.exp, 0, lambda d: float(d))
    monkeypatch.setitem(FUNCTIONS, "exp", functions.Function({1: changed}))
    result = trace("exp(x)", ["x=0.5"], order=2)
    assert all(node.ok for node in result.nodes)
    assert result.verdict == "hand and JAX disagree at: second derivative x, x"


@pytest.mark.parametrize(
    ("expression", "values"),
    [
        ("((1 + x) - 1)**2", ["x=1e-9"]),
        ("sigmoid(30*x) + tanh(18*x) + gelu(-8*x) + elu(-30*x) + swish(-30*x)", ["x=1.1"]),
        ("exp(x) * sigmoid(-x)", ["x=35"]),
        ("exp(x)**2 - exp(2*x) + x", ["x=12.3"]),
        ("(x - y)**3 / (x - y)", ["x=1", "y=1.000001"]),
        ("tan(x)", ["x=1.5707963"]),
        ("sum(softmax(w * x) * [1, 2, 3])", ["w=[10, 20, 30]", "x=1.3"]),
        ("x**0 + y**1 + (0*x)**2", ["x=0", "y=0"]),
        ("6.6e-34 * x", ["x=5e14"]),
        ("x**100", ["x=1.1"]),
    ],
)
def test_no_false_alarm_where_rounding_errors_are_large(expression, values):
    result = trace(expression, values, order=2)
    assert result.ok, result.verdict


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    st.recursive(
        st.sampled_from(["x", "y", "2", "0.3"]),
        lambda parts: st.one_of(
            st.tuples(parts, st.sampled_from("+-*"), parts).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
            st.tuples(st.sampled_from(["sin", "tanh", "sigmoid", "relu", "abs"]), parts).map(
                lambda p: f"{p[0]}({p[1]})"
            ),
            parts.map(lambda p: f"sin({p})**2"),
        ),
        max_leaves=10,
    )
)
def test_no_false_alarm_for_random_expressions(expression):
    result = trace(f"x*y + {expression}", ["x=0.83", "y=-1.37"])
    assert result.ok, result.verdict


def test_jax_has_a_function_for_every_operation():
    operations = {operation.name for function in FUNCTIONS.values() for operation in function.operations.values()}
    assert operations | {operation.name for operation in parser._OPERATORS.values()} | {"negative"} == set(
        JAX_FUNCTIONS
    )
    assert all(isinstance(operation, Operation) for operation in parser._OPERATORS.values())
