"""The experiment with neurons wired one by one, for fewer steps."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "experiments" / "neurons" / "run.py"


@pytest.fixture(scope="module")
def experiment():
    if not SCRIPT.exists():
        pytest.skip("the experiments are not part of the source distribution")
    spec = importlib.util.spec_from_file_location("neurons", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_graph_alone_ends_at_the_weights_of_the_jax_network(experiment):
    """Item 8 of the lectures, trained: from the same start, after the same steps, the same weights."""
    start = experiment.initial(1)
    by_graph = experiment.train_graph(start, 250, 5.0)
    by_jax, outputs = experiment.train_jax(start, 250, 5.0)
    assert by_graph.keys() == by_jax.keys() == start.keys()
    for name, weight in by_graph.items():
        assert weight == pytest.approx(by_jax[name], abs=1e-9)
        assert abs(weight - start[name]) > 0.1
    assert [round(of_jax) for of_jax in outputs] == [y for _, y in experiment.EXAMPLES]
