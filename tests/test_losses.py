import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnet.losses import (
    LOSSES,
    at_least_half,
    binary_cross_entropy,
    cross_entropy,
    most_likely,
    mse,
    value,
)
from fnet.metrics import absolute_error, accuracy
from fnet.reference import losses as reference

pytestmark = pytest.mark.usefixtures("no_rank_promotion")


@pytest.fixture
def no_rank_promotion():
    with jax.numpy_rank_promotion("raise"):
        yield


def batches(rng):
    """For every loss, outputs with targets of every form that it takes."""
    classes = rng.integers(0, 4, 5)
    return {
        "mse": [(rng.standard_normal(s), rng.standard_normal(s)) for s in ((5, 1), (5, 3), (5,), (5, 2, 3))],
        "binary_cross_entropy": [(3 * rng.standard_normal(s), rng.integers(0, 2, s)) for s in ((5, 1), (5, 3), (5,))]
        + [(rng.standard_normal((5, 2)), rng.uniform(size=(5, 2)))],
        "cross_entropy": [
            (3 * rng.standard_normal((5, 4)), classes),
            (3 * rng.standard_normal((5, 4)), np.eye(4)[classes]),
            (3 * rng.standard_normal((5, 4)), rng.dirichlet(np.ones(4), 5)),
            (3 * rng.standard_normal((5, 4)), 2 * rng.uniform(size=(5, 4))),
            (rng.standard_normal((5, 6, 4)), rng.integers(0, 4, (5, 6))),
        ],
    }


def test_every_loss_is_tried(rng):
    assert set(batches(rng)) == set(LOSSES) == set(reference.LOSSES)


@pytest.mark.parametrize("name", LOSSES)
def test_hand_and_jax_agree(name, rng):
    for outputs, targets in batches(rng)[name]:
        by_hand, g = reference.LOSSES[name](outputs, targets)
        with jax.enable_x64(True):
            function = LOSSES[name].function
            by_jax, pull = jax.vjp(lambda outputs: function(outputs, jnp.asarray(targets)), jnp.asarray(outputs))  # noqa: B023
            of_outputs = np.asarray(pull(jnp.ones(5))[0])
        assert by_hand.shape == (5,)
        np.testing.assert_allclose(by_hand, by_jax, rtol=1e-10)
        np.testing.assert_allclose(g, of_outputs, rtol=1e-10, atol=1e-10 * np.abs(g).max())


def test_mse_is_the_lectures():
    outputs, targets = jnp.array([[1.0], [4.0]]), jnp.array([[3.0], [1.0]])
    assert mse(outputs, targets).tolist() == [4.0, 9.0]
    assert float(mse(outputs, targets).mean()) == 6.5


def test_binary_cross_entropy_is_the_lectures(rng):
    z, y = rng.standard_normal((6, 1)).astype(np.float32), rng.integers(0, 2, (6, 1))
    p = 1 / (1 + np.exp(-z))
    formula = -(y * np.log(p) + (1 - y) * np.log(1 - p))
    np.testing.assert_allclose(binary_cross_entropy(z, y), formula[:, 0], rtol=1e-5)


def test_cross_entropy_is_the_lectures(rng):
    z, labels = rng.standard_normal((6, 3)).astype(np.float32), rng.integers(0, 3, 6)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(cross_entropy(z, labels), -np.log(p[np.arange(6), labels]), rtol=1e-5)


@pytest.mark.parametrize("z", [-1e4, 1e4])
def test_extreme_logits_stay_finite(z):
    wrong = 0.0 if z > 0 else 1.0
    loss, pull = jax.vjp(lambda z: binary_cross_entropy(z, jnp.full((1, 1), wrong)), jnp.full((1, 1), z))
    assert loss.tolist() == [abs(z)]
    assert jnp.isfinite(pull(jnp.ones(1))[0]).all()
    loss, pull = jax.vjp(lambda z: cross_entropy(z, jnp.array([1])), jnp.array([[abs(z), 0.0]]))
    assert loss.tolist() == [abs(z)]
    assert jnp.isfinite(pull(jnp.ones(1))[0]).all()


def test_two_classes_both_ways():
    """Cross-entropy over two classes is binary cross-entropy of the difference of the logits."""
    z = jnp.array([[0.3, 1.1], [2.0, -1.0]])
    labels = jnp.array([0, 1])
    two = binary_cross_entropy(z[:, 1:] - z[:, :1], labels[:, None])
    np.testing.assert_allclose(cross_entropy(z, labels), two, rtol=1e-6)


@pytest.mark.parametrize(
    ("loss", "outputs", "targets", "message"),
    [
        (mse, (32, 1), (32,), r"mse: outputs \(32, 1\) and targets \(32,\) must have the same shape"),
        (binary_cross_entropy, (32,), (32, 1), r"outputs \(32,\) and targets \(32, 1\) must have the same shape"),
        (mse, (), (), r"mse: expects a batch axis, got outputs of shape \(\)"),
        (cross_entropy, (32,), (32,), r"expects logits \(batch, \.\.\., classes\), got \(32,\)"),
    ],
)
def test_losses_refuse_to_broadcast(loss, outputs, targets, message):
    with pytest.raises(ValueError, match=message):
        loss(jnp.zeros(outputs), jnp.zeros(targets))


def test_cross_entropy_says_which_labels_it_takes():
    logits = jnp.zeros((32, 10))
    message = r"logits \(32, 10\) take integer labels \(32,\) or one-hot labels \(32, 10\), got int32 labels \(32, 1\)"
    with pytest.raises(ValueError, match=message):
        cross_entropy(logits, jnp.zeros((32, 1), jnp.int32))
    with pytest.raises(ValueError, match=r"got float32 labels \(32,\)"):
        cross_entropy(logits, jnp.zeros(32))


def test_a_label_out_of_range_is_nan_not_a_wrong_number():
    losses = cross_entropy(jnp.zeros((3, 2)), jnp.array([-1, 2, 1]))
    assert jnp.isnan(losses).tolist() == [True, True, False]


def test_decision_rules():
    assert most_likely(jnp.array([[1.0, 3.0, 2.0], [5.0, 5.0, 0.0]])).tolist() == [1, 0]
    assert at_least_half(jnp.array([[0.0], [-1e-6], [2.0]])).tolist() == [[1], [0], [1]]
    assert value(jnp.array([1.5])).tolist() == [1.5]
    assert [LOSSES[n].decide for n in ("mse", "binary_cross_entropy", "cross_entropy")] == [
        value,
        at_least_half,
        most_likely,
    ]


def test_metrics():
    assert accuracy(jnp.array([1, 2, 0]), jnp.array([1, 0, 0])).tolist() == [1.0, 0.0, 1.0]
    assert accuracy(jnp.array([1, 2]), jnp.eye(3)[jnp.array([1, 0])]).tolist() == [1.0, 0.0]
    assert accuracy(jnp.array([[1, 0], [1, 1]]), jnp.array([[1, 1], [1, 1]])).tolist() == [0.5, 1.0]
    assert absolute_error(jnp.array([[1.0], [5.0]]), jnp.array([[2.0], [2.0]])).tolist() == [1.0, 3.0]
    with pytest.raises(ValueError, match=r"accuracy: decisions \(2,\) and targets \(3,\) must have the same shape"):
        accuracy(jnp.zeros(2), jnp.zeros(3))
    with pytest.raises(ValueError, match=r"absolute_error: decisions \(2, 1\) and targets \(2,\)"):
        absolute_error(jnp.zeros((2, 1)), jnp.zeros(2))
