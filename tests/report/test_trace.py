"""The printed output of a trace."""

import numpy as np
from rich.console import Console

from fnet.report.trace import as_data, print_trace
from fnet.trace.compare import trace


def printed(result, **options):
    console = Console(width=60, no_color=True)
    with console.capture() as capture:
        print_trace(console, result, **options)
    return capture.get().splitlines()


def test_the_table_is_as_wide_as_its_cells_and_brackets_are_not_markup():
    lines = printed(trace("sum([1, 2] * x) * cos(y) * exp(y) * sin(y)", ["x=[0.5, 0.25]", "y=0.5"]))
    assert lines[0].endswith("at x = [0.5 0.25], y = 0.5")
    assert any(line.startswith("a ") and "[1, 2] * x" in line and line.endswith("ok") for line in lines)
    assert "y is used 3 times, by c, e and g: the messages add up" in lines


def test_three_messages_are_summed_step_by_step():
    lines = printed(trace("sin(x) + cos(x) + exp(x)", ["x=0"]), steps=True)
    assert (
        lines.index("forward")
        < lines.index("  a = sin(x) = 0")
        < next(place for place, line in enumerate(lines) if line.startswith("backward"))
    )
    sums = [line.partition("; ")[2] for line in lines if " → x" in line]
    assert [text.partition(":")[0] for text in sums] == ["partial sum", "partial sum", "sum"]
    assert sums[-1] == "sum: de/dx = 2"


def test_a_wrong_node_shows_all_digits_of_both_sides():
    right = trace("3*x", ["x=0.1"])
    wrong = right.nodes[0]._replace(jax_gradient=np.array(3.0000000000001), ok=False)
    lines = printed(right._replace(nodes=[wrong, *right.nodes[1:]]))
    assert any("3.0000000000001" in line and line.endswith("WRONG") for line in lines)
    assert lines[-1] == "hand and JAX disagree at: x"


def test_the_data_of_a_node():
    """y = 3x: a variable has no operation."""
    x, y = as_data(trace("3*x", ["x=2"]))["nodes"]
    assert (x["name"], x["operation"], x["value"], x["gradient"], x["local"]) == ("x", None, 2, 3, [])
    assert (y["operation"], y["value"], y["jax_value"], y["gradient"], y["ok"]) == ("3 * x", 6, 6, 1, True)
    assert y["local"] == [{"operand": "x", "formula": "3", "value": 3}]
