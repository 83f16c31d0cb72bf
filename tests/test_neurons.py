"""The experiment with a network built neuron by neuron, with fewer steps."""

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


def test_training_with_the_graph_gives_the_weights_of_training_with_jax(experiment):
    """Item 8 of the lectures: from equal initial weights, both end at equal weights after equal steps."""
    start = experiment.initial(1)
    by_graph = experiment.train_graph(start, 250, 5.0)
    by_jax, outputs = experiment.train_jax(start, 250, 5.0)
    assert by_graph.keys() == by_jax.keys() == start.keys()
    for name, weight in by_graph.items():
        assert weight == pytest.approx(by_jax[name], abs=1e-9)
        assert abs(weight - start[name]) > 0.1
    assert [round(output) for output in outputs] == [y for _, y in experiment.EXAMPLES]
