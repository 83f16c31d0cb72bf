"""Values such as `x=2`: parsing, errors, and checks against the variables of an expression."""

import numpy as np
import pytest

from fnet.trace.expression import ExpressionError
from fnet.trace.parser import parse
from fnet.trace.values import check_values, parse_values


@pytest.mark.parametrize(
    ("text", "expected"),
    [("x=2", 2), ("x = -2.5e-3", -0.0025), ("x=pi/2", np.pi / 2), ("x=sqrt(2)", 2**0.5), ("x=[1,-2]", [1, -2]),
     ("x=[[1, 2], [3, 4]]", [[1, 2], [3, 4]]), ("x=.5", 0.5)],
)  # fmt: skip
def test_values_are_parsed(text, expected):
    assert parse_values([text])["x"].tolist() == expected


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["2"], "a value is written as NAME=NUMBER, such as x=2\n    2\n    ^"),
        (["a b=2"], "a value is written as NAME=NUMBER, such as x=2\n    a b=2\n    ^^^"),
        (["if=2"], "a value is written as NAME=NUMBER"),
        (["x="], "'x' has no value: a number is missing\n    x=\n      ^"),
        (["x=y"], "'y' is not a number\n    x=y\n      ^"),
        (["x=inf"], "'inf' is not a number"),
        (["x=nan"], "'nan' is not a number"),
        (["x=1/0"], "division by zero\n    x=1/0\n      ^^^"),
        (["x=1e999"], "the number exceeds the largest float64, 1.8e308\n    x=1e999\n      ^^^^^"),
        (["x=1", "x=2"], "'x' has two values"),
        (["sin=1"], "'sin' is a function and cannot have a value"),
    ],
)
def test_invalid_values(texts, message):
    with pytest.raises(ExpressionError) as error:
        parse_values(texts)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("source", "values", "message"),
    [
        ("x + yy", {"x": 1}, "the variable 'yy' has no value: add yy=…\n    x + yy\n        ^^"),
        ("x + beta", {"x": 1, "betta": 2}, "the variable 'beta' has no value: add beta=…; did you mean 'betta'?"),
        ("x", {"x": 1, "xx": 2}, "the expression has no variable 'xx'; did you mean 'x'?\n    xx=2\n    ^^"),
        ("x", {"x": 1, "w": [1, 2]}, "the expression has no variable 'w'; known: x"),
        ("1 + 2", {}, "the expression has no variable to take a gradient with respect to\n    1 + 2\n    ^^^^^"),
    ],
)
def test_values_must_match_the_variables(source, values, message):
    with pytest.raises(ExpressionError) as error:
        check_values(parse(source), {name: np.array(value) for name, value in values.items()})
    assert message in str(error.value)
