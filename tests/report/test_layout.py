"""Layouts of computational graphs."""

from fnet.report.layout import arrange


def test_edges_run_from_left_to_right_and_variables_are_next_to_their_use():
    operands = {"x": [], "y": [], "a": ["x"], "b": ["a"], "c": ["b", "y"], "d": ["c", "x"]}
    layout = arrange(operands, dict.fromkeys(operands, 20.0), 10, 5)
    columns = {slot.node: slot.column for slot in layout.middles if not slot.target}
    assert columns == {"x": 0, "a": 1, "b": 2, "y": 2, "c": 3, "d": 4}
    for (source, node, _), links in layout.routes.items():
        assert [link.left.column for link in links] == list(range(columns[source], columns[node]))
    for slots in layout.columns:
        middles = [layout.middles[slot] for slot in slots]
        assert middles == sorted(middles)
