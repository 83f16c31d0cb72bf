"""The experiment with a network built neuron by neuron, with fewer steps."""

import pytest
from scripts import load_script


@pytest.fixture(scope="module")
def experiment():
    return load_script("neurons/run.py")


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
