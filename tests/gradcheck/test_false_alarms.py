"""Random networks without mistakes must pass the check, also where a gradient is 0 by symmetry."""

import importlib.util
from pathlib import Path

import jax
import pytest

import fnet
from fnet.gradcheck import check
from fnet.reference import Rule, dense

SCRIPT = Path(__file__).parents[2] / "experiments" / "reliability" / "random_networks.py"

SEEDS = (0, 2, 3, 4, 20, 21)


@pytest.fixture(scope="module")
def generator():
    if not SCRIPT.exists():
        pytest.skip("the experiments are not part of the source distribution")
    spec = importlib.util.spec_from_file_location("random_networks", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("seed", SEEDS)
def test_no_false_alarm(generator, seed):
    problem = generator.random_problem(seed)
    report = generator.check(problem)
    assert report.ok, f"{problem.net}\n{problem.loss}\n{report}"
    assert sum(row.checked for row in report.rows) > sum(row.kinks for row in report.rows)
    assert {"total", "evaluation", "masked"} <= {row.part for row in report.rows}


SYMMETRIC = {
    "a bias before normalization": (fnet.serial(fnet.dense(4), fnet.batch_norm(), fnet.tanh(), fnet.dense(2)), (3,)),
    "a bias before two small variances": (
        fnet.serial(fnet.dense(3), fnet.batch_norm(scale=False), fnet.dense(3), fnet.layer_norm(), fnet.dense(2)),
        (3,),
    ),
    "the bias of a key": (fnet.serial(fnet.attention(2), fnet.dense(2)), (3, 4)),
    "a bias after softmax": (
        fnet.serial(fnet.dense(3), fnet.softmax(), fnet.dense(3), fnet.layer_norm(), fnet.dense(2)),
        (3,),
    ),
}


def test_rounding_by_hand_behind_two_normalizations(generator):
    """Seed 404: JAX's gradient of 0 is exact to 1e-15, the one by hand to 1e-10, and neither is wrong."""
    report = generator.check(generator.random_problem(404))
    assert report.ok, report
    row = next(row for row in report.rows if row.name == "repeat_1/serial_1/dense_1/w" and row.part == "data loss")
    assert row.absolute > 1e-12
    assert row.diagnosis == "zero up to rounding"


@pytest.mark.parametrize("name", SYMMETRIC)
def test_gradients_that_are_zero_by_symmetry(name, rng):
    """The terms that cancel are of the size of the targets: rounding is larger than any fixed number."""
    net, in_shape = SYMMETRIC[name]
    params, state = net.init(jax.random.key(0), in_shape)
    x = rng.standard_normal((5, *in_shape))
    for size in (1e-6, 1.0, 1e6):
        y = size * rng.standard_normal((5, *net.shape(in_shape)))
        report = check(net, "mse", params, state, x, y, samples=2)
        assert report.ok, f"targets of size {size}\n{report}"


def test_a_mistake_in_a_network_of_tiny_gradients_is_found(rng, monkeypatch):
    """A sign error in gradients of 1e-15 is not rounding: no other gradient of the network is larger."""
    net = fnet.serial(fnet.dense(3), fnet.tanh(), fnet.dense(2))
    params, state = net.init(jax.random.key(0), (3,))
    params = {"dense_1": params["dense_1"], "dense_2": jax.tree.map(lambda leaf: 1e-8 * leaf, params["dense_2"])}
    arguments = net, "mse", params, state, rng.standard_normal((5, 3)), 1e-8 * rng.standard_normal((5, 2))
    assert check(*arguments).ok

    right = dense.dense

    def backward(*arguments):
        dx, gradients = right.backward(*arguments)
        return dx, {name: -gradient for name, gradient in gradients.items()}

    monkeypatch.setattr(dense, "dense", Rule(right.forward, backward))
    report = check(*arguments)
    wrong = [row for row in report.rows if not row.ok]
    assert {"dense_1/w", "dense_2/w"} <= {row.name for row in wrong}
    assert min(row.absolute for row in wrong) < 1e-13
