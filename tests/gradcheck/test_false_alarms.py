"""Random networks without mistakes must pass the check, also where a gradient is 0 by symmetry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scripts import load_script

import fnet
from fnet.gradcheck import check
from fnet.gradcheck.compare_leaves import Part, compare_leaves
from fnet.reference import Rule, dense

SEEDS = (0, 2, 3, 4, 20, 21)


@pytest.fixture(scope="module")
def generator():
    return load_script("reliability/random_networks.py")


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


@pytest.mark.parametrize("is_rounding", [True, False])
def test_rounding_errors_by_hand_pass_where_jax_is_exact(is_rounding):
    """The gradient for v is 0; an error of 1e-8 by hand that differs between neighboring points is rounding."""
    leaves = {"w": np.array([0.5, -0.25]), "v": np.array([0.75])}

    def f(leaves, _):
        w, v = leaves
        return jnp.array([jnp.sum(jnp.square(w)) + 0 * v[0]])

    def by_hand(leaves):
        error = 1e-8 * np.sin(1e18 * leaves["w"][0]) if is_rounding else 1e-8
        return [{"w": 2 * leaves["w"], "v": np.array([error])}]

    exact = {"w": 2 * leaves["w"], "v": np.zeros(1)}
    with jax.enable_x64(True):
        rows = compare_leaves(f, leaves, None, [Part("total", by_hand(leaves)[0], exact)], by_hand=by_hand)
    _, row = rows
    assert row.absolute > 1e-10
    assert row.ok == is_rounding
    assert (row.diagnosis == "zero up to rounding") == is_rounding


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
