"""Expressions: valid ones, and the errors for all others, with carets under the place."""

import contextlib

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fnet.trace.expression import ExpressionError, build
from fnet.trace.functions import FUNCTIONS
from fnet.trace.parser import parse


def names(source, **known):
    program = parse(source, known)
    return {step.name: program.formula(number) for number, step in enumerate(program.steps) if step.varies}


def value(source, **values):
    return float(build(parse(source, values), {name: np.array(v, float) for name, v in values.items()})[-1])


def assert_error(source, message, marked):
    """Assert that parsing fails with the message, and that the carets are under the marked part of the source."""
    with pytest.raises(ExpressionError) as error:
        parse(source)
    first, line, carets = str(error.value).split("\n")
    assert message in first
    assert line[len(carets) - len(carets.lstrip()) : len(carets)] == marked
    assert error.value.exit_status == 2


def test_shared_subexpressions_are_one_step_with_the_names_of_the_lecture():
    assert names("sqrt(x**2+exp(x**2)) + cos(x**2+exp(x**2))") == {
        "x": "x", "a": "x ** 2", "b": "exp(a)", "c": "a + b", "d": "sqrt(c)", "e": "cos(c)", "f": "d + e",
    }  # fmt: skip


def test_commutative_operations_are_shared_in_either_order():
    assert len(names("(x+y)*(y+x) + (x*y)*(y*x) + max(x,y)*max(y,x)")) == 2 + 3 + 3 + 2
    assert list(names("(x-y)*(y-x)").values()) == ["x", "y", "x - y", "y - x", "a * b"]


def test_assigned_names_are_used_and_taken_letters_are_skipped():
    assert names("q = x + y; f = q * z") == {"x": "x", "y": "y", "z": "z", "q": "x + y", "f": "q * z"}
    assert list(names("a*b + c")) == ["a", "b", "d", "c", "e"]
    assert "a1" in names("+".join(f"sin({n}*x)" for n in range(1, 20)))


def test_constants_keep_their_text_and_values_shadow_them():
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
def test_values_agree_with_python(source, expected):
    assert value(source, x=3) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(
    ("source", "message", "marked"),
    [
        ("sine(x) + 1", "unknown function 'sine'; did you mean 'sin'?", "sine"),
        ("1 + x.T", "attributes are not allowed in an expression", "x.T"),
        ("__import__('os').system('ls')", "attributes are not allowed", "__import__('os').system"),
        ("1 + eval('x')", "unknown function 'eval'", "eval"),
        ("open(x)", "unknown function 'open'", "open"),
        ("(lambda: x)()", "only a function can be called", "lambda: x"),
        ("[y for y in x]", "this is not allowed in an expression", "[y for y in x]"),
        ("x[0]", "indexing is not allowed", "x[0]"),
        ("x if x else 1", "'if' is not allowed", "x if x else 1"),
        ("(x, x)", "a tuple is not allowed", "(x, x)"),
        ("x > 1", "comparisons are not allowed", "x > 1"),
        ("x and x", "'and' and 'or' are not allowed", "x and x"),
        ("f'{x}'", "text is not allowed", "f'{x}'"),
        ("'a' * x", "'a' is not allowed in an expression: it is not a real number", "'a'"),
        ("True * x", "True is not allowed", "True"),
        ("2j * x", "2j is not allowed", "2j"),
        ("x^2", "powers are written with **", "x^2"),
        ("x // 2", "division is written with /", "x // 2"),
        ("x % 2", "the remainder is not supported", "x % 2"),
        ("~x", "this is not allowed in an expression", "~x"),
        ("2x", "syntax error: a product is written with *, such as 2*x", "2"),
        ("3 * 2(x)", "only a function can be called; a product is written with *", "2"),
        ("(x", "syntax error: '(' was never closed", "("),
        ("x))", "syntax error: unmatched ')'", ")"),
        ("sin + x", "'sin' is a function: write sin(…)", "sin"),
        ("sin(x, 2)", "sin takes 1 argument, but got 2", "sin(x, 2)"),
        ("sin(a=x)", "sin does not take named arguments", "x"),
        ("sin(*x)", "this is not allowed", "*x"),
        ("max(x, x, x)", "max takes 1 or 2 arguments, but got 3", "max(x, x, x)"),
        ("leaky_relu()", "leaky_relu takes 1 or 2 arguments, but got 0", "leaky_relu()"),
        ("1e999 * x", "the number exceeds the largest float64", "1e999"),
        ("é * sine(x)", "unknown function 'sine'", "sine"),
        ("[1, [2]] * x", "the rows of an array must have the same length", "[1, [2]]"),
        ("[] * x", "the array is empty: it must have at least one entry", "[]"),
        ("[1, x] * x", "the entries of an array must be numbers", "x"),
        ("q = x + 1; 3 * x", "'q' is not used in the result", "q = x + 1"),
        ("q = x; q = 2; q", "'q' already has a value", "q"),
        ("q = x; x = 2; q", "'x' already has a value", "x"),
        ("sin = x; sin", "'sin' is a function; choose another name", "sin"),
        ("a = b = x", "assign to one name at a time", "a"),
        ("x + 1; x", "this line has no effect: give it a name", "x + 1"),
        ("x += 1", "this is not allowed", "x += 1"),
        ("import os", "this is not allowed", "import os"),
        ("x\nsine(x)", "this line has no effect", "x"),
    ],
)  # fmt: skip
def test_errors_show_the_place(source, message, marked):
    assert_error(source, message, marked)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "the expression is empty"),
        ("   \n", "the expression is empty"),
        ("x**2 +", "syntax error: invalid syntax"),
        ("(" * 150 + "x" + ")" * 150, ""),
        ("(" * 1000 + "x" + ")" * 1000, "nested too deeply"),
        ("-" * 5000 + "x", "nested too deeply"),
        ("+".join(["x"] * 400), "nested too deeply: the limit is 150 levels"),
        ("+".join(["x"] * 9000), "nested too deeply"),
        ("sin(" * 300 + "x" + ")" * 300, "nested too deeply"),
        ("x" * 30_000, "the expression has 30,000 characters; the limit is 20,000"),
        ("1" * 5000 + "*x", "syntax error: the number has too many digits"),
        ("1" * 400 + "*x", "the number exceeds the largest float64"),
        ("[" + "1," * 2000 + "]*x", "the array has too many entries; the limit is 1,000"),
        ("x\0", "syntax error: source code string cannot contain null bytes"),
        (
            ";".join(f"v{n} = sin({'v' + str(n - 1) if n else 'x'})" for n in range(1100)),
            "the limit is 300",
        ),
    ],
    ids=lambda text: text[:12],
)
def test_limits(source, message):
    if not message:
        parse(source)
        return
    with pytest.raises(ExpressionError, match=message) as error:
        parse(source)
    assert max(map(len, str(error.value).split("\n"))) < 140


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.text(st.sampled_from("xy12.+-*/@()[],=; \nesinabqw_'\\éλ"), max_size=25))
def test_any_text_gives_a_program_or_an_expression_error(source):
    with contextlib.suppress(ExpressionError):
        assert parse(source).steps


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("2 + 1/(x - 2)", "division by zero, where x - 2 = 0\n    2 + 1/(x - 2)\n        ^^^^^^^^^"),
        ("log(x - 3)", "logarithm of a number that is not positive, where x - 3 = -1\n"),
        ("sqrt(1 - x)", "square root of a negative number, where 1 - x = -1\n"),
        ("exp(x*1000)", "overflow: the result exceeds the largest float64, 1.8e308, where x*1000 = 2000\n"),
        ("x**1e10", "overflow: the result exceeds"),
        ("x + 2**10**10", "overflow: the result exceeds"),
        ("(-x)**0.5", "a negative number to a power that is not an integer, where -x = -2\n"),
        ("x @ 2", "matmul is not defined for shapes () and ()\n"),
        ("sum(x * [1, 2] * [1, 2, 3])", "multiply is not defined for shapes (2,) and (3,)\n"),
        ("sum(softmax(x))", "softmax is not defined for shapes ()\n"),
    ],
)
def test_undefined_values_show_the_place(source, message):
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
def test_values_of_random_expressions_agree_with_python(source):
    functions = {name: getattr(np, name) for name in SMOOTH}
    point = {"x": np.float64(0.7), "y": np.float64(1.9), "z": np.float64(2)}
    with np.errstate(all="ignore"):
        expected = eval(source, {**functions, "pi": np.float64(np.pi)}, point)
    try:
        actual = value(source, **point)
    except ExpressionError:
        assume(not np.isfinite(expected))
    else:
        assert actual == pytest.approx(float(expected), rel=1e-12)


def test_function_names_are_identifiers():
    assert all(name.isidentifier() for name in FUNCTIONS)
