"""`fnet trace`: the lectures' worked numbers, options, messages and exit statuses."""

import json

import numpy as np
import pytest
from cli.calls import call, output_of

from fnet.report.graph_svg import draw
from fnet.trace import functions
from fnet.trace.compare import trace
from fnet.trace.functions import FUNCTIONS

NESTED = "sqrt(x**2+exp(x**2)) + cos(x**2+exp(x**2))"


@pytest.fixture(autouse=True)
def _no_cache_on_disk(monkeypatch):
    monkeypatch.setattr("fnet.cli.trace.start_jax", lambda: None)


def printed(*arguments):
    return output_of("trace", *arguments)


def table(text):
    """Return the cells of each node's row, without continuation lines."""
    rows = [[cell.strip() for cell in line.split("│")] for line in text.splitlines() if "│" in line]
    return {row[0]: row for row in rows if row[0]}


# The lectures' worked numbers


@pytest.mark.parametrize("expression", ["(x+y)*z", "q = x + y; f = q*z"])
def test_upstream_times_local_gradient(expression):
    """Item 1: q=3, f=-12; df/dz=3, df/dq=-4, df/dx=-4, df/dy=-4."""
    q, f = ("q", "f") if "q" in expression else ("a", "b")
    rows = table(printed(expression, "x=-2", "y=5", "z=-4"))
    assert {name: row[2] for name, row in rows.items()} == {"x": "-2", "y": "5", "z": "-4", q: "3", f: "-12"}
    for column in (5, 6):
        assert {name: row[column] for name, row in rows.items()} == {"x": "-4", "y": "-4", "z": "3", q: "-4", f: "1"}
    assert rows[f][3] == f"d{f}/d{q} = z = -4"


@pytest.mark.parametrize(
    ("expression", "messages"),
    [("3*(x+y)", ["3", "3"]), ("3*(x*y)", ["15", "6"]), ("3*max(x,y)", ["0", "3"]), ("3*(x-y)", ["3", "-3"])],
)
def test_gates(expression, messages):
    """Item 2: add distributes, multiply swaps, max routes the gradient."""
    rows = table(printed(expression, "x=2", "y=5"))
    assert [rows[name][4] for name in "xy"] == [f"from a: {message}" for message in messages]


def test_the_messages_of_a_copied_value_add_up():
    out = printed("x*y + x", "x=2", "y=5")
    assert table(out)["x"][5] == "6"
    assert "x is used twice, by a and b: the messages add up" in out


def test_shared_subexpressions_of_the_lecture():
    """Item 4, with its names and digits."""
    rows = table(printed(NESTED, "x=2"))
    operations = {
        "x": "variable",
        "a": "x ** 2",
        "b": "exp(a)",
        "c": "a + b",
        "d": "sqrt(c)",
        "e": "cos(c)",
        "f": "d + e",
    }
    assert {name: row[1] for name, row in rows.items()} == operations
    values = {"a": "4", "b": "54.598", "c": "58.598", "d": "7.6549", "e": "-0.46", "f": "7.194"}
    gradients = {"e": "1", "d": "1", "c": "-0.822", "b": "-0.822", "a": "-45.717", "x": "-182.87"}
    for column, expected in ((2, values), (5, gradients), (6, gradients)):
        for name, digits in expected.items():
            places = len(digits.partition(".")[2])
            assert f"{float(rows[name][column]):.{places}f}" == digits or rows[name][column].startswith(digits)


def test_first_and_second_derivative_over_two_branches():
    """Item 6: 6 x^2 + 4 e^(2x) and 12 x + 8 e^(2x)."""
    result = json.loads(printed("2*x**3 + 2*exp(2*x)", "x=0.7", "--order", 2, "--json"))
    first, second = 6 * 0.7**2 + 4 * np.exp(1.4), 12 * 0.7 + 8 * np.exp(1.4)
    assert result["nodes"][0]["gradient"] == pytest.approx(first, rel=1e-14)
    assert [entry["value"] for entry in result["second"]] == [pytest.approx(second, rel=1e-14)]
    assert [entry["jax_value"] for entry in result["second"]] == [pytest.approx(second, rel=1e-14)]
    out = printed("2*x**3 + 2*exp(2*x)", "x=0.7", "--order", 2)
    assert f"d²f/dx²           │  {second:.5g} │ {second:.5g} │ ok" in out


def test_neurons_wired_one_by_one():
    """Item 8: dLoss/din_5 = 2 (a5 - y) g'(in_5), and the other gradients follow from it."""
    wiring = (
        "in3 = w13*x1 + w23*x2; a3 = sigmoid(in3); in4 = w14*x1 + w24*x2; a4 = sigmoid(in4);"
        "in5 = w35*a3 + w45*a4; a5 = sigmoid(in5); loss = (y - a5)**2"
    )
    inputs = {"x1": 1.0, "x2": 0.5, "w13": 0.3, "w23": -0.8, "w14": 1.1, "w24": 0.4, "w35": 0.9, "w45": -1.2, "y": 1.0}
    nodes = json.loads(printed(wiring, *(f"{name}={number}" for name, number in inputs.items()), "--json"))["nodes"]
    value = {node["name"]: node["value"] for node in nodes}
    slope = {node["name"]: node["gradient"] for node in nodes}
    a3, a4, a5 = (value[name] for name in ("a3", "a4", "a5"))
    in5 = 2 * (a5 - 1) * a5 * (1 - a5)
    in3, in4 = in5 * 0.9 * a3 * (1 - a3), in5 * -1.2 * a4 * (1 - a4)
    expected = {
        "in5": in5, "w35": a3 * in5, "w45": a4 * in5, "in3": in3, "in4": in4,
        "w13": in3 * 1.0, "w23": in3 * 0.5, "w14": in4 * 1.0, "w24": in4 * 0.5, "x1": in3 * 0.3 + in4 * 1.1,
    }  # fmt: skip
    assert {name: slope[name] for name in expected} == pytest.approx(expected, rel=1e-13)


# Output


def test_steps_show_one_message_at_a_time():
    lines = printed(NESTED, "x=2", "--steps").splitlines()
    assert "  c = a + b = 58.598" in lines
    backward = lines[lines.index("backward, one message at a time: upstream gradient times local derivative") + 1 :][:9]
    assert backward == [
        "  df/df = 1",
        "  f → d: df/df * df/dd = 1 * 1 = 1",
        "  f → e: df/df * df/de = 1 * 1 = 1",
        "  e → c: df/de * de/dc = 1 * -0.8876 = -0.8876; partial sum: df/dc = -0.8876",
        "  d → c: df/dd * dd/dc = 1 * 0.065317 = 0.065317; sum: df/dc = -0.82228",
        "  c → a: df/dc * dc/da = -0.82228 * 1 = -0.82228; partial sum: df/da = -0.82228",
        "  c → b: df/dc * dc/db = -0.82228 * 1 = -0.82228",
        "  b → a: df/db * db/da = -0.82228 * 54.598 = -44.895; sum: df/da = -45.717",
        "  a → x: df/da * da/dx = -45.717 * 4 = -182.87",
    ]


def test_arrays():
    out = printed("sum((w @ x - t)**2)", "w=[[1,2],[3,4]]", "x=[1,-1]", "t=[0,0.5]")
    assert table(out)["w"][5] == "[[-2 2] [-3 3]]"
    assert "da/dw: sends g x^T" in out
    assert "a → w: g x^T with g = dd/da gives [[-2 2] [-3 3]]" in printed(
        "sum((w @ x - t)**2)", "w=[[1,2],[3,4]]", "x=[1,-1]", "t=[0,0.5]", "--steps"
    )
    assert "(3, 4): 1 … 1" in printed("sum(w)*s", f"w={[[1] * 4] * 3}", "s=1")


def test_kinks_are_reported():
    out = printed("abs(x) + max(x, y)", "x=0", "y=0")
    assert "a is at a kink: abs'(0) is taken as 1, as in JAX" in out
    assert "b is at a kink: max of equal numbers sends half of the gradient to each, as in JAX" in out


def test_json_contains_everything():
    result = json.loads(printed(NESTED, "x=2", "--json"))
    assert result["ok"] is True
    assert [node["name"] for node in result["nodes"]] == list("xabcdef")
    assert all(node["jax_gradient"] == pytest.approx(node["gradient"], rel=1e-12) for node in result["nodes"])
    for node in result["nodes"][:-1]:
        received = [message["value"] for message in result["messages"] if message["to"] == node["name"]]
        assert sum(received) == pytest.approx(node["gradient"], rel=1e-14)


def test_an_expression_may_begin_with_a_minus():
    assert table(printed("-x**2", "x=3"))["x"][5] == "-6"


def test_a_wrong_gradient_exits_with_1_and_shows_both_sides(monkeypatch):
    wrong_sin = functions.sin._replace(derivatives=(("cos({a})", lambda y, a: -functions.cos(a)),))
    monkeypatch.setitem(FUNCTIONS, "sin", functions.Function({1: wrong_sin}))
    result = call("trace", "3*sin(x)", "x=0.5")
    assert result.exit_code == 1
    out = result.stdout
    assert table(out)["x"][-1] == "WRONG"
    assert table(out)["a"][-1] == "ok"
    assert "-2.63274768567112" in out
    assert out.splitlines()[-1] == "hand and JAX disagree at: x"


def test_the_drawing_is_deterministic_and_replaces_a_file(tmp_path):
    file = tmp_path / "graph.svg"
    file.write_text("something else")
    out = printed(NESTED, "x=2", "--svg", file)
    assert table(out)
    assert file.read_text() == draw(trace(NESTED, ["x=2"]))
    assert [path.name for path in tmp_path.iterdir()] == ["graph.svg"]


# Errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sine(x)", "x=2"], "error: unknown function 'sine'; did you mean 'sin'?\n    sine(x)\n    ^^^^\n"),
        (["x + y", "x=2"], "error: the variable 'y' has no value: add y=…\n    x + y\n        ^\n"),
        (["x", "x=2", "z=2"], "error: the expression has no variable 'z'; known: x\n"),
        (["1/(x-2)", "x=2"], "error: division by zero, where x-2 = 0\n    1/(x-2)\n    ^^^^^^^\n"),
        (
            ["3 + sqrt(x)", "x=0"],
            "the derivative of sqrt is not finite here (division by zero)\n    3 + sqrt(x)\n        ^^^^^^^\n",
        ),
        (
            ["x*2", "x=[1, 2]"],
            "error: only a scalar has a gradient, but the result has shape (2,): take sum(…)",
        ),
        (["x**1.5", "x=0", "--order", "2"], "error: the derivative of power is not finite here"),
        (
            ["sum(x)", f"x={[1] * 13}", "--order", "2"],
            "second derivatives are limited to 12 numbers, but the expression has 13",
        ),
        (["+".join(f"sin({n}*x)" for n in range(1, 40)), "x=1", "--order", "2"], "limited to 60 steps"),
        (["x*x", "x=1", "--setps"], "no such option: --setps"),
        (
            ["x*x", "x=1", "--svg", "/no/such/folder/x.svg"],
            "error: the drawing cannot be written to '/no/such/folder/x.svg'",
        ),
        (["x*x", "x=1", "--svg", "/"], "error: the drawing cannot be written to '/': it is not a regular file"),
        (["-" * 1 + "(" * 2000 + "x", "x=1"], "nested too deeply"),
    ],
)
def test_an_invalid_request_exits_with_2(arguments, message):
    result = call("trace", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
