"""`fnet trace`: the lectures' worked numbers, what is printed, and what is refused."""

import ast
import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from fnet.cli.app import app
from fnet.report.graph_svg import draw
from fnet.report.layout import arrange
from fnet.trace import functions, parser
from fnet.trace.compare import JAX_FUNCTIONS, trace
from fnet.trace.functions import FUNCTIONS
from fnet.trace.graph import Operation

NESTED = "sqrt(x**2+exp(x**2)) + cos(x**2+exp(x**2))"


@pytest.fixture(autouse=True)
def _no_cache_on_disk(monkeypatch):
    monkeypatch.setattr("fnet.cli.trace.start_jax", lambda: None)


def call(*arguments):
    return CliRunner().invoke(app, ["trace", *map(str, arguments)])


def printed(*arguments, status=0):
    result = call(*arguments)
    assert result.exit_code == status, result.output
    return result.stdout


def table(text):
    """The cells of each row by its node, without the lines that continue a row."""
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


def test_copy_adds():
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
    """Item 8: dLoss/din_5 = 2 (a5 - y) g'(in_5), and the others from it."""
    wiring = (
        "in3 = w13*x1 + w23*x2; a3 = sigmoid(in3); in4 = w14*x1 + w24*x2; a4 = sigmoid(in4);"
        "in5 = w35*a3 + w45*a4; a5 = sigmoid(in5); loss = (y - a5)**2"
    )
    given = {"x1": 1.0, "x2": 0.5, "w13": 0.3, "w23": -0.8, "w14": 1.1, "w24": 0.4, "w35": 0.9, "w45": -1.2, "y": 1.0}
    nodes = json.loads(printed(wiring, *(f"{name}={number}" for name, number in given.items()), "--json"))["nodes"]
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


# What is printed


def test_steps_show_one_message_at_a_time():
    lines = printed(NESTED, "x=2", "--steps").splitlines()
    assert "  c = a + b = 58.598" in lines
    backward = lines[lines.index("backward, a message at a time: upstream times local") + 1 :][:9]
    assert backward == [
        "  df/df = 1",
        "  f → d: df/df * df/dd = 1 * 1 = 1",
        "  f → e: df/df * df/de = 1 * 1 = 1",
        "  e → c: df/de * de/dc = 1 * -0.8876 = -0.8876; the first part of df/dc = -0.8876",
        "  d → c: df/dd * dd/dc = 1 * 0.065317 = 0.065317; added up, df/dc = -0.82228",
        "  c → a: df/dc * dc/da = -0.82228 * 1 = -0.82228; the first part of df/da = -0.82228",
        "  c → b: df/dc * dc/db = -0.82228 * 1 = -0.82228",
        "  b → a: df/db * db/da = -0.82228 * 54.598 = -44.895; added up, df/da = -45.717",
        "  a → x: df/da * da/dx = -45.717 * 4 = -182.87",
    ]


def test_arrays():
    out = printed("sum((w @ x - t)**2)", "w=[[1,2],[3,4]]", "x=[1,-1]", "t=[0,0.5]")
    assert table(out)["w"][5] == "[[-2 2] [-3 3]]"
    assert "da/dw: sends g x^T" in out
    assert "a → w: g x^T, g = dd/da, = [[-2 2] [-3 3]]" in printed(
        "sum((w @ x - t)**2)", "w=[[1,2],[3,4]]", "x=[1,-1]", "t=[0,0.5]", "--steps"
    )
    assert "(3, 4): 1 … 1" in printed("sum(w)*s", f"w={[[1] * 4] * 3}", "s=1")


def test_kinks_are_said():
    out = printed("abs(x) + max(x, y)", "x=0", "y=0")
    assert "a lies at a kink: abs'(0) is taken as 1, as JAX takes it" in out
    assert "b lies at a kink: max of equal numbers sends half to each, as JAX takes it" in out


def test_json_holds_everything():
    result = json.loads(printed(NESTED, "x=2", "--json"))
    assert result["ok"] is True
    assert [node["name"] for node in result["nodes"]] == list("xabcdef")
    assert all(node["jax_gradient"] == pytest.approx(node["gradient"], rel=1e-12) for node in result["nodes"])
    for node in result["nodes"][:-1]:
        received = [message["value"] for message in result["messages"] if message["to"] == node["name"]]
        assert sum(received) == pytest.approx(node["gradient"], rel=1e-14)


def test_an_expression_may_begin_with_a_minus():
    assert table(printed("-x**2", "x=3"))["x"][5] == "-6"


# A wrong derivative is found


def planted(operation, position, change):
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
def test_a_wrong_derivative_of_an_operator_is_found(kind, position, change, monkeypatch):
    changed = planted(parser._OPERATORS[kind], position, lambda d: -d if change == "sign" else 1.001 * d)
    monkeypatch.setitem(parser._OPERATORS, kind, changed)
    result = trace("sum([1, 2] * ((x + y) * (x - y) / y ** x @ x))", ["x=[1.5, 2]", "y=[1.7, 1.2]"])
    assert not result.ok
    assert "hand and JAX disagree at: " in result.verdict


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - {"dot", "relu", "transpose"}))
def test_a_wrong_derivative_of_a_function_is_found(name, monkeypatch):
    count, operation = next(iter(FUNCTIONS[name].operations.items()))
    changed = planted(operation, 0, lambda d: 1.001 * d)
    monkeypatch.setitem(FUNCTIONS, name, FUNCTIONS[name]._replace(operations={count: changed}))
    argument = "x * [0.3, 0.5]" if changed.pointwise is False else "x"
    result = trace(
        f"sum({name}({argument}) * 3.0)" if name != "softmax" else f"sum([1, 2] * {name}({argument}))", ["x=1.3"]
    )
    assert not result.ok
    assert not result.rows[0].ok


def test_a_wrong_gradient_exits_with_1_and_shows_both(monkeypatch):
    monkeypatch.setitem(FUNCTIONS, "sin", functions.Function({1: planted(functions.sin, 0, lambda d: -d)}))
    out = printed("3*sin(x)", "x=0.5", status=1)
    assert table(out)["x"][-1] == "WRONG"
    assert table(out)["a"][-1] == "ok"
    assert "-2.63274768567112" in out
    assert out.splitlines()[-1] == "hand and JAX disagree at: x"


def test_a_wrong_value_is_found(monkeypatch):
    wrong = functions.sin._replace(forward=lambda a: np.sin(a) + 1e-6)
    monkeypatch.setitem(FUNCTIONS, "sin", functions.Function({1: wrong}))
    assert [row.name for row in trace("3*sin(x)", ["x=0.5"]).rows if not row.ok] == ["a", "b"]


def test_a_wrong_second_derivative_is_found(monkeypatch):
    """The slope is right, but its graph is not: a constant has no second derivative."""
    changed = planted(functions.exp, 0, lambda d: float(d))
    monkeypatch.setitem(FUNCTIONS, "exp", functions.Function({1: changed}))
    result = trace("exp(x)", ["x=0.5"], order=2)
    assert all(row.ok for row in result.rows)
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
def test_no_false_alarm_where_rounding_is_large(expression, values):
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


# What is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sine(x)", "x=2"], "error: unknown function 'sine'; did you mean 'sin'?\n    sine(x)\n    ^^^^\n"),
        (["x + y", "x=2"], "error: no value is given for 'y': add y=…\n    x + y\n        ^\n"),
        (["x", "x=2", "z=2"], "error: the expression has no variable 'z'; known: x\n"),
        (["1/(x-2)", "x=2"], "error: division by zero, where x-2 = 0\n    1/(x-2)\n    ^^^^^^^\n"),
        (
            ["3 + sqrt(x)", "x=0"],
            "the derivative of sqrt is no finite number here (division by zero)\n    3 + sqrt(x)\n        ^^^^^^^\n",
        ),
        (["x*2", "x=[1, 2]"], "error: the result has the shape (2,), but a gradient is taken of one number"),
        (["x**1.5", "x=0", "--order", "2"], "error: the derivative of power is no finite number here"),
        (
            ["sum(x)", f"x={[1] * 13}", "--order", "2"],
            "second derivatives are taken of at most 12 numbers, but there are 13",
        ),
        (["+".join(f"sin({n}*x)" for n in range(1, 40)), "x=1", "--order", "2"], "of at most 60 steps"),
        (["x*x", "x=1", "--setps"], "no such option: --setps"),
        (
            ["x*x", "x=1", "--svg", "/no/such/folder/x.svg"],
            "error: the drawing cannot be written to '/no/such/folder/x.svg'",
        ),
        (["x*x", "x=1", "--svg", "/"], "error: the drawing cannot be written to '/': it is not a regular file"),
        (["-" * 1 + "(" * 2000 + "x", "x=1"], "nested too deeply"),
    ],
)
def test_a_wrong_request_exits_with_2(arguments, message):
    result = call(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


# The drawing


def drawn(expression, *values):
    return ET.fromstring(draw(trace(expression, values)))


SVG = "{http://www.w3.org/2000/svg}"
DRAWN = [
    (NESTED, "x=2"),
    ("(x+y)*z", "x=-2", "y=5", "z=-4"),
    ("x", "x=1"),
    ("x*x", "x=3"),
    ("sum((w@x - t)**2) + 0.01*sum(abs(w)) + max(relu(x*x))", "w=[[1,2,-3],[0,1,1]]", "x=[1,-1.5,2e-3]",
     "t=[0.1234567,1]"),
    ("a_very_long_name_for_a_variable*another_one_that_is_long**2", "a_very_long_name_for_a_variable=1e-300",
     "another_one_that_is_long=123456.789"),
    ("+".join(f"sin({n}*x*y)" for n in range(1, 12)), "x=0.5", "y=3"),
]  # fmt: skip


@pytest.mark.parametrize("arguments", DRAWN, ids=lambda arguments: arguments[0][:20])
def test_nothing_in_the_drawing_overlaps_or_is_cut_off(arguments):
    svg = drawn(*arguments)
    width, height = (float(svg.get(name, "")) for name in ("width", "height"))
    boxes = []
    for rect in svg.iter(f"{SVG}rect"):
        if rect.get("x"):
            x, y, w, h = (float(rect.get(name, "")) for name in ("x", "y", "width", "height"))
            boxes.append((x, y, x + w, y + h))
    inside = [text for group in svg.iter(f"{SVG}g") for text in group.iter(f"{SVG}text")]
    texts = {True: [], False: []}
    for text in svg.iter(f"{SVG}text"):
        size = float(text.get("font-size", ""))
        length = len(text.text or "") * 0.602 * size
        x, y = float(text.get("x", "")), float(text.get("y", ""))
        left = x - length / 2 if text.get("text-anchor") == "middle" else x
        texts[text in inside].append((left, y - 0.75 * size, left + length, y + 0.2 * size))
    shapes = [*boxes, *texts[False]]
    for number, (left, top, right, bottom) in enumerate(shapes):
        assert left >= 0
        assert top >= 0
        assert right <= width
        assert bottom <= height
        for l2, t2, r2, b2 in shapes[:number]:
            assert right <= l2 or r2 <= left or bottom <= t2 or b2 <= top
    for left, top, right, bottom in texts[True]:
        assert any(l2 <= left and right <= r2 and t2 <= top and bottom <= b2 for l2, t2, r2, b2 in boxes)


def test_values_stand_above_the_edges_and_messages_below():
    svg = drawn(NESTED, "x=2")
    texts = {text.text: text for text in svg.iter(f"{SVG}text")}
    value, message = texts["54.598"], texts["-44.895"]
    assert value.get("font-style") is None
    assert message.get("font-style") == "italic"
    assert value.get("fill") != message.get("fill")
    above, below = (float(texts[name].get("y", "")) for name in ("2", "-182.87"))
    assert above < below
    assert texts["2"].get("x") == texts["-182.87"].get("x")
    for text in ("a = x ** 2", "df/da = -45.717", "f = d + e", "7.1943"):
        assert text in texts


def test_the_drawing_is_the_same_every_time_and_written_whole(tmp_path):
    file = tmp_path / "graph.svg"
    file.write_text("something else")
    out = printed(NESTED, "x=2", "--svg", file)
    assert table(out)
    assert file.read_text() == draw(trace(NESTED, ["x=2"]))
    assert [path.name for path in tmp_path.iterdir()] == ["graph.svg"]


def test_what_is_written_is_escaped():
    result = trace("x*x", ["x=1"])._replace(expression="a<b>&\"'")
    assert "a&lt;b&gt;&amp;" in draw(result)
    ET.fromstring(draw(result))


def test_columns_run_from_left_to_right_and_variables_stand_before_their_use():
    operands = {"x": [], "y": [], "a": ["x"], "b": ["a"], "c": ["b", "y"], "d": ["c", "x"]}
    layout = arrange(operands, dict.fromkeys(operands, 20.0), 10, 5)
    columns = {slot.node: slot.column for slot in layout.middles if not slot.towards}
    assert columns == {"x": 0, "a": 1, "b": 2, "y": 2, "c": 3, "d": 4}
    for (maker, node, _), links in layout.routes.items():
        assert [link.left.column for link in links] == list(range(columns[maker], columns[node]))
    for slots in layout.columns:
        middles = [layout.middles[slot] for slot in slots]
        assert middles == sorted(middles)
