"""Expressions: what is read, and how every other text is refused, with a caret under the place."""

import contextlib

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fnet.trace.expression import ExpressionError, build
from fnet.trace.functions import FUNCTIONS
from fnet.trace.parser import check_values, parse, parse_values


def names(source, **known):
    program = parse(source, known)
    return {step.name: program.written(number) for number, step in enumerate(program.steps) if step.varies}


def value(source, **values):
    return float(build(parse(source, values), {name: np.array(v, float) for name, v in values.items()})[-1])


def refused(source, message, marked):
    """The marked part of the source stands over the carets."""
    with pytest.raises(ExpressionError) as error:
        parse(source)
    first, line, carets = str(error.value).split("\n")
    assert message in first
    assert line[len(carets) - len(carets.lstrip()) : len(carets)] == marked
    assert error.value.exit_status == 2


def test_shared_subexpressions_are_found_and_named_as_in_the_lecture():
    assert names("sqrt(x**2+exp(x**2)) + cos(x**2+exp(x**2))") == {
        "x": "x", "a": "x ** 2", "b": "exp(a)", "c": "a + b", "d": "sqrt(c)", "e": "cos(c)", "f": "d + e",
    }  # fmt: skip


def test_sums_products_and_extremes_are_shared_in_either_order_differences_are_not():
    assert len(names("(x+y)*(y+x) + (x*y)*(y*x) + max(x,y)*max(y,x)")) == 2 + 3 + 3 + 2
    assert list(names("(x-y)*(y-x)").values()) == ["x", "y", "x - y", "y - x", "a * b"]


def test_names_are_assigned_kept_and_skipped():
    assert names("q = x + y; f = q * z") == {"x": "x", "y": "y", "z": "z", "q": "x + y", "f": "q * z"}
    assert list(names("a*b + c")) == ["a", "b", "d", "c", "e"]
    assert "a1" in names("+".join(f"sin({n}*x)" for n in range(1, 20)))


def test_constants_are_written_as_they_are_and_shadowed_by_values():
    assert names("2*pi*x + k")["a"] == "(2 * pi) * x"
    assert names("x * -0.5")["a"] == "x * (-0.5)"
    assert names("k = 1e-3; k*x")["a"] == "k * x"
    assert value("e*x", x=2) == pytest.approx(2 * np.e)
    assert value("e*x", x=2, e=3) == 6


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("-x**2", -9), ("2**-x", 0.125), ("x**2**0.5", 3 ** 2**0.5), ("+x - -x", 6), ("1/2*x", 1.5),
        ("sum([1, -2, 3.5]*x)", 7.5), ("mean([[1, 2], [3, 4]])*x", 7.5),
        ("leaky_relu(-x) + leaky_relu(-x, 0.1)", -0.33), ("max([1, 5, 2]) + min([1, 5]) + max(x, 4)", 10),
        ("sum(transpose([[1, 2]]) @ [3] * x)", 27),
        ("ln(exp(x)) + logistic(0*x)", 3.5),
        ("(x +\n 1)", 4), ("y = x;\n  y*y", 9), ("ſ = x; ſ", 3), ("x * sum(softmax([1, 5]))", 3),
    ],
)  # fmt: skip
def test_values_are_pythons(source, expected):
    assert value(source, x=3) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(
    ("source", "message", "marked"),
    [
        ("sine(x) + 1", "unknown function 'sine'; did you mean 'sin'?", "sine"),
        ("1 + x.T", "attributes have no place in an expression", "x.T"),
        ("__import__('os').system('ls')", "attributes have no place", "__import__('os').system"),
        ("1 + eval('x')", "unknown function 'eval'", "eval"),
        ("open(x)", "unknown function 'open'", "open"),
        ("(lambda: x)()", "only a function can be called", "lambda: x"),
        ("[y for y in x]", "this has no place in an expression", "[y for y in x]"),
        ("x[0]", "indexing has no place", "x[0]"),
        ("x if x else 1", "'if' has no place", "x if x else 1"),
        ("(x, x)", "a tuple has no place", "(x, x)"),
        ("x > 1", "comparisons have no place", "x > 1"),
        ("x and x", "'and' and 'or' have no place", "x and x"),
        ("f'{x}'", "text has no place", "f'{x}'"),
        ("'a' * x", "'a' has no place in an expression: it is no real number", "'a'"),
        ("True * x", "True has no place", "True"),
        ("2j * x", "2j has no place", "2j"),
        ("x^2", "powers are written with **", "x^2"),
        ("x // 2", "write / for a division", "x // 2"),
        ("x % 2", "there is no remainder", "x % 2"),
        ("~x", "this has no place in an expression", "~x"),
        ("2x", "syntax error: a product is written with *, as in 2*x", "2"),
        ("3 * 2(x)", "only a function can be called; a product is written with *", "2"),
        ("(x", "syntax error: '(' was never closed", "("),
        ("x))", "syntax error: unmatched ')'", ")"),
        ("sin + x", "'sin' is a function: write sin(…)", "sin"),
        ("sin(x, 2)", "sin takes 1 argument, but got 2", "sin(x, 2)"),
        ("sin(a=x)", "sin takes no named arguments", "x"),
        ("sin(*x)", "this has no place", "*x"),
        ("max(x, x, x)", "max takes 1 or 2 arguments, but got 3", "max(x, x, x)"),
        ("leaky_relu()", "leaky_relu takes 1 or 2 arguments, but got 0", "leaky_relu()"),
        ("1e999 * x", "the number exceeds the largest in float64", "1e999"),
        ("é * sine(x)", "unknown function 'sine'", "sine"),
        ("[1, [2]] * x", "the rows of an array have one length", "[1, [2]]"),
        ("[] * x", "an array has at least one entry", "[]"),
        ("[1, x] * x", "the entries of an array are numbers", "x"),
        ("q = x + 1; 3 * x", "'q' is not used in the result", "q = x + 1"),
        ("q = x; q = 2; q", "'q' has a value already", "q"),
        ("q = x; x = 2; q", "'x' has a value already", "x"),
        ("sin = x; sin", "'sin' is a function; choose another name", "sin"),
        ("a = b = x", "one name is assigned at a time", "a"),
        ("x + 1; x", "this line has no effect: give it a name", "x + 1"),
        ("x += 1", "this has no place", "x += 1"),
        ("import os", "this has no place", "import os"),
        ("x\nsine(x)", "this line has no effect", "x"),
    ],
)  # fmt: skip
def test_refused_with_the_place(source, message, marked):
    refused(source, message, marked)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "the expression is empty"),
        ("   \n", "the expression is empty"),
        ("x**2 +", "syntax error: invalid syntax"),
        ("(" * 150 + "x" + ")" * 150, ""),
        ("(" * 1000 + "x" + ")" * 1000, "nested too deeply"),
        ("-" * 5000 + "x", "nested too deeply"),
        ("+".join(["x"] * 400), "nested too deeply: at most 150 operations stand inside one another"),
        ("+".join(["x"] * 9000), "nested too deeply"),
        ("sin(" * 300 + "x" + ")" * 300, "nested too deeply"),
        ("x" * 30_000, "an expression has at most 20,000 characters"),
        ("1" * 5000 + "*x", "syntax error: the number has too many digits"),
        ("1" * 400 + "*x", "the number exceeds the largest in float64"),
        ("[" + "1," * 2000 + "]*x", "an array has at most 1,000 entries"),
        ("x\0", "syntax error: source code string cannot contain null bytes"),
        (";".join(f"v{n} = sin({'v' + str(n - 1) if n else 'x'})" for n in range(1100)), "at most 300 steps"),
    ],
    ids=lambda text: text[:12],
)
def test_too_much_is_refused(source, message):
    if not message:
        parse(source)
        return
    with pytest.raises(ExpressionError, match=message) as error:
        parse(source)
    assert max(map(len, str(error.value).split("\n"))) < 140


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.text(st.sampled_from("xy12.+-*/@()[],=; \nesinabqw_'\\éλ"), max_size=25))
def test_no_text_makes_anything_but_a_program_or_a_message(source):
    with contextlib.suppress(ExpressionError):
        assert parse(source).steps


@pytest.mark.parametrize(
    ("text", "expected"),
    [("x=2", 2), ("x = -2.5e-3", -0.0025), ("x=pi/2", np.pi / 2), ("x=sqrt(2)", 2**0.5), ("x=[1,-2]", [1, -2]),
     ("x=[[1, 2], [3, 4]]", [[1, 2], [3, 4]]), ("x=.5", 0.5)],
)  # fmt: skip
def test_given_values(text, expected):
    assert parse_values([text])["x"].tolist() == expected


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["2"], "a value is given as NAME=NUMBER, as in x=2\n    2\n    ^"),
        (["a b=2"], "a value is given as NAME=NUMBER, as in x=2\n    a b=2\n    ^^^"),
        (["if=2"], "a value is given as NAME=NUMBER"),
        (["x="], "'x' is given no number\n    x=\n      ^"),
        (["x=y"], "'y' is no number\n    x=y\n      ^"),
        (["x=inf"], "'inf' is no number"),
        (["x=nan"], "'nan' is no number"),
        (["x=1/0"], "division by zero\n    x=1/0\n      ^^^"),
        (["x=1e999"], "the number exceeds the largest in float64, 1.8e308\n    x=1e999\n      ^^^^^"),
        (["x=1", "x=2"], "'x' is given two values"),
        (["sin=1"], "'sin' is a function, and cannot be given a value"),
    ],
)
def test_given_values_that_are_refused(texts, message):
    with pytest.raises(ExpressionError) as error:
        parse_values(texts)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("source", "values", "message"),
    [
        ("x + yy", {"x": 1}, "no value is given for 'yy': add yy=…\n    x + yy\n        ^^"),
        ("x + beta", {"x": 1, "betta": 2}, "no value is given for 'beta': add beta=…; is it 'betta'?"),
        ("x", {"x": 1, "xx": 2}, "the expression has no variable 'xx'; did you mean 'x'?\n    xx=2\n    ^^"),
        ("x", {"x": 1, "w": [1, 2]}, "the expression has no variable 'w'; known: x"),
        ("1 + 2", {}, "there is no variable to take a gradient of\n    1 + 2\n    ^^^^^"),
    ],
)
def test_values_and_variables_match(source, values, message):
    with pytest.raises(ExpressionError) as error:
        check_values(parse(source), {name: np.array(value) for name, value in values.items()})
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("2 + 1/(x - 2)", "division by zero, where x - 2 = 0\n    2 + 1/(x - 2)\n        ^^^^^^^^^"),
        ("log(x - 3)", "logarithm of a number that is not positive, where x - 3 = -1\n"),
        ("sqrt(1 - x)", "square root of a negative number, where 1 - x = -1\n"),
        ("exp(x*1000)", "overflow: the result exceeds the largest number in float64, 1.8e308, where x*1000 = 2000\n"),
        ("x**1e10", "overflow: the result exceeds"),
        ("x + 2**10**10", "overflow: the result exceeds"),
        ("(-x)**0.5", "a negative number to a power that is not whole, where -x = -2\n"),
        ("x @ 2", "matmul: the shapes () and () do not fit\n"),
        ("sum(x * [1, 2] * [1, 2, 3])", "multiply: the shapes (2,) and (3,) do not fit\n"),
        ("sum(softmax(x))", "softmax: the shapes () do not fit\n"),
    ],
)
def test_values_that_do_not_exist_are_refused_with_the_place(source, message):
    with pytest.raises(ExpressionError) as error:
        value(source, x=2)
    assert message in str(error.value)


ATOMS = st.sampled_from(["x", "y", "z", "pi"])
SMOOTH = ("sin", "cos", "tanh", "exp", "sqrt", "log")


def combined(parts):
    return st.one_of(
        st.tuples(parts, st.sampled_from("+-*/"), parts).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
        st.tuples(st.sampled_from(SMOOTH), parts).map(lambda p: f"{p[0]}({p[1]})"),
        st.tuples(parts, st.sampled_from(["2", "3", "0.5", "-1"])).map(lambda p: f"{p[0]} ** {p[1]}"),
        parts.map(lambda p: f"-{p}"),
    )


@settings(max_examples=120, deadline=None, derandomize=True)
@given(st.recursive(ATOMS, combined, max_leaves=12))
def test_random_expressions_have_the_value_that_python_gives_them(source):
    functions = {name: getattr(np, name) for name in SMOOTH}
    point = {"x": np.float64(0.7), "y": np.float64(1.9), "z": np.float64(2)}
    with np.errstate(all="ignore"):
        expected = eval(source, {**functions, "pi": np.float64(np.pi)}, point)
    try:
        found = value(source, **point)
    except ExpressionError:
        assume(not np.isfinite(expected))
    else:
        assert found == pytest.approx(float(expected), rel=1e-12)


def test_every_function_has_a_name_that_an_expression_can_use():
    assert all(name.isidentifier() for name in FUNCTIONS)
