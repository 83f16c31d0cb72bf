import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnet.core.settings import named_parameters
from fnet.losses import (
    DATA_PARAMETERS,
    LOSSES,
    argmax,
    binary_cross_entropy,
    cross_entropy,
    hinge,
    huber,
    identity,
    kl_divergence,
    loss_name_of,
    mse,
    resolve_loss,
    threshold,
)
from fnet.metrics import ACCURACY, absolute_error, accuracy
from fnet.reference import losses as reference
from fnet.reference.rule import NoReference

pytestmark = pytest.mark.usefixtures("no_rank_promotion")


@pytest.fixture
def no_rank_promotion():
    with jax.numpy_rank_promotion("raise"):
        yield


def batches(rng):
    """Return, for every loss, outputs and targets in every form that the loss accepts."""
    classes = rng.integers(0, 4, 5)
    sparse = rng.dirichlet(np.ones(4), 5) * [0, 1, 1, 0]
    values = [(2 * rng.standard_normal(s), rng.standard_normal(s)) for s in ((5, 1), (5, 3), (5,), (5, 2, 3))]
    labels = [(3 * rng.standard_normal(s), rng.integers(0, 2, s)) for s in ((5, 1), (5, 3), (5,))]
    return {
        "mse": values,
        "huber": [*values, (np.array([-2.5, -1.0, 0.0, 1.0, 0.25]), np.array([0.0, 0.0, 0.0, 0.0, 0.5]))],
        "binary_cross_entropy": [*labels, (rng.standard_normal((5, 2)), rng.uniform(size=(5, 2)))],
        "hinge": [*labels, (np.array([1.0, -1.0, 1.0, -1.0, 0.0]), np.array([1, 0, 0, 1, 1]))],
        "cross_entropy": [
            (3 * rng.standard_normal((5, 4)), classes),
            (3 * rng.standard_normal((5, 4)), np.eye(4)[classes]),
            (3 * rng.standard_normal((5, 4)), rng.dirichlet(np.ones(4), 5)),
            (3 * rng.standard_normal((5, 4)), 2 * rng.uniform(size=(5, 4))),
            (rng.standard_normal((5, 6, 4)), rng.integers(0, 4, (5, 6))),
        ],
        "kl_divergence": [
            (3 * rng.standard_normal((5, 4)), rng.dirichlet(np.ones(4), 5)),
            (3 * rng.standard_normal((5, 4)), sparse / sparse.sum(axis=1, keepdims=True)),
            (3 * rng.standard_normal((5, 4)), np.eye(4)[classes]),
            (3 * rng.standard_normal((5, 4)), np.eye(4, dtype=np.int64)[classes]),
            (3 * rng.standard_normal((5, 4)), 2 * rng.uniform(size=(5, 4))),
            (rng.standard_normal((5, 6, 4)), rng.dirichlet(np.ones(4), (5, 6))),
        ],
    }


SETTINGS = {
    "huber": [{}, {"delta": 0.25}, {"delta": 2.5}],
    "cross_entropy": [{}, {"label_smoothing": 0.1}, {"label_smoothing": 0.9}],
}
"""Settings to test a loss with, each on every batch."""


def test_every_loss_and_setting_is_tested(rng):
    assert set(batches(rng)) == set(LOSSES) == set(reference.LOSSES)
    for name, known in LOSSES.items():
        settings = set(named_parameters(known.function)) - set(DATA_PARAMETERS)
        assert settings == set().union(*SETTINGS.get(name, [{}]))
        assert settings == set(named_parameters(reference.LOSSES[name])) - set(DATA_PARAMETERS)


@pytest.mark.parametrize(("name", "settings"), [(name, s) for name in LOSSES for s in SETTINGS.get(name, [{}])])
def test_hand_and_jax_agree(name, settings, rng):
    for outputs, targets in batches(rng)[name]:
        by_hand, g = reference.LOSSES[name](outputs, targets, **settings)
        with jax.enable_x64(True):
            function = functools.partial(LOSSES[name].function, **settings)
            by_jax, pull = jax.vjp(lambda outputs: function(outputs, jnp.asarray(targets)), jnp.asarray(outputs))  # noqa: B023
            jax_gradient = np.asarray(pull(jnp.ones(5))[0])
        assert by_hand.shape == (5,)
        np.testing.assert_allclose(by_hand, by_jax, rtol=1e-10)
        np.testing.assert_allclose(g, jax_gradient, rtol=1e-10, atol=1e-10 * np.abs(g).max())


def test_mse_matches_the_lecture():
    outputs, targets = jnp.array([[1.0], [4.0]]), jnp.array([[3.0], [1.0]])
    assert mse(outputs, targets).tolist() == [4.0, 9.0]
    assert float(mse(outputs, targets).mean()) == 6.5


def test_binary_cross_entropy_matches_the_lecture(rng):
    z, y = rng.standard_normal((6, 1)).astype(np.float32), rng.integers(0, 2, (6, 1))
    p = 1 / (1 + np.exp(-z))
    formula = -(y * np.log(p) + (1 - y) * np.log(1 - p))
    np.testing.assert_allclose(binary_cross_entropy(z, y), formula[:, 0], rtol=1e-5)


def test_cross_entropy_matches_the_lecture(rng):
    z, labels = rng.standard_normal((6, 3)).astype(np.float32), rng.integers(0, 3, 6)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(cross_entropy(z, labels), -np.log(p[np.arange(6), labels]), rtol=1e-5)


@pytest.mark.parametrize("z", [-1e4, 1e4])
def test_losses_of_extreme_logits_are_finite(z):
    wrong = 0.0 if z > 0 else 1.0
    loss, pull = jax.vjp(lambda z: binary_cross_entropy(z, jnp.full((1, 1), wrong)), jnp.full((1, 1), z))
    assert loss.tolist() == [abs(z)]
    assert jnp.isfinite(pull(jnp.ones(1))[0]).all()
    loss, pull = jax.vjp(lambda z: cross_entropy(z, jnp.array([1])), jnp.array([[abs(z), 0.0]]))
    assert loss.tolist() == [abs(z)]
    assert jnp.isfinite(pull(jnp.ones(1))[0]).all()


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("z", [1e-30, 0.5, 20.0, 80.0, 1e30])
def test_binary_cross_entropy_keeps_small_probabilities(z, label):
    """The loss and the derivative of a confident prediction are e^-z in float32, not 0."""
    sign = 1 if label else -1
    loss, pull = jax.vjp(lambda z: binary_cross_entropy(z, jnp.array([label])), jnp.array([sign * z]))
    np.testing.assert_allclose(loss, [np.log1p(np.exp(-z))], rtol=1e-5)
    np.testing.assert_allclose(pull(jnp.ones(1))[0], [-sign * np.exp(-z) / (1 + np.exp(-z))], rtol=1e-5)


@pytest.mark.parametrize("loss_of", [cross_entropy, kl_divergence])
def test_a_class_with_probability_0(loss_of):
    """A logit of -inf contributes 0 where y is 0, and infinity elsewhere."""
    z = jnp.array([[0.0, -jnp.inf]])
    loss, pull = jax.vjp(lambda z: loss_of(z, jnp.array([[1.0, 0.0]])), z)
    assert loss.tolist() == [0.0]
    assert pull(jnp.ones(1))[0].tolist() == [[0.0, 0.0]]
    assert loss_of(z, jnp.array([[0.5, 0.5]])).tolist() == [jnp.inf]


def test_huber_by_hand():
    """delta = 2: e = 1 is quadratic, 1 / 2; e = -4 is linear, 2 (4 - 1) = 6; outputs of an example are averaged."""
    outputs, targets = jnp.array([[3.0], [-3.0]]), jnp.array([[2.0], [1.0]])
    assert huber(outputs, targets, delta=2.0).tolist() == [0.5, 6.0]
    assert huber(outputs.T, targets.T, delta=2.0).tolist() == [3.25]
    assert huber(outputs, targets).tolist() == [0.5, 3.5]
    losses, g = reference.huber(np.array([[3.0], [-3.0]]), np.array([[2.0], [1.0]]), delta=2.0)
    assert (losses.tolist(), g.tolist()) == ([0.5, 6.0], [[1.0], [-2.0]])


@pytest.mark.parametrize(("e", "delta", "loss"), [(1e20, 2.0, 2e20), (3e38, 0.5, 1.5e38), (-1e30, 1e-30, 1.0)])
def test_huber_of_errors_whose_square_overflows(e, delta, loss):
    """In float32: the value and both derivatives, of the error and of delta, are finite."""
    value, (g, by_delta) = jax.value_and_grad(lambda z, delta: huber(z, jnp.zeros(1), delta=delta)[0], (0, 1))(
        jnp.array([e], jnp.float32), delta
    )
    np.testing.assert_allclose(value, loss, rtol=1e-6)
    np.testing.assert_allclose(g, [np.sign(e) * delta], rtol=1e-6)
    np.testing.assert_allclose(by_delta, abs(e), rtol=1e-6)


def test_huber_is_half_the_squared_error_near_the_target(rng):
    outputs, targets = rng.standard_normal((6, 2)), rng.standard_normal((6, 2))
    np.testing.assert_allclose(huber(outputs, targets, delta=100.0), mse(outputs, targets) / 2, rtol=1e-6)


@pytest.mark.parametrize(("e", "slope"), [(-2.0, -2.0), (2.0, 2.0), (0.0, 0.0), (1e30, 2.0), (-3e38, -2.0)])
def test_huber_has_no_kink(e, slope):
    """Both pieces have the same derivative at |e| = delta, and the unused square does not overflow far away."""
    assert float(jax.grad(lambda z: huber(z, jnp.zeros(1), delta=2.0)[0])(jnp.array([e]))[0]) == slope
    assert reference.huber(np.array([e]), np.zeros(1), delta=2.0)[1].tolist() == [slope]


def test_hinge_by_hand():
    """t = 1, 1, -1, -1: inside the margin, beyond it, inside on the correct side, on the wrong side."""
    logits, labels = jnp.array([[0.25], [3.0], [-0.5], [2.0]]), jnp.array([[1], [1], [0], [0]])
    assert hinge(logits, labels).tolist() == [0.75, 0.0, 0.5, 3.0]
    assert hinge(logits.T, labels.T).tolist() == [4.25 / 4]
    losses, g = reference.hinge(np.asarray(logits, float), np.asarray(labels))
    assert (losses.tolist(), g.tolist()) == ([0.75, 0.0, 0.5, 3.0], [[-1.0], [0.0], [1.0], [1.0]])


@pytest.mark.parametrize("kind", [jnp.uint8, bool, jnp.int32, jnp.float32])
def test_hinge_takes_labels_of_any_type(kind):
    """-1 is not representable in uint8."""
    assert hinge(jnp.array([0.5, 0.5]), jnp.array([0, 1]).astype(kind)).tolist() == [1.5, 0.5]


@pytest.mark.parametrize(("z", "label"), [(1.0, 1), (-1.0, 0)])
def test_hinge_has_the_derivative_0_at_the_margin(z, label):
    """The value of jax.nn.relu at 0; jnp.maximum would give half the slope."""
    assert float(jax.grad(lambda z: hinge(z, jnp.array([label]))[0])(jnp.array([z]))[0]) == 0
    assert reference.hinge(np.array([z]), np.array([label]))[1].tolist() == [0]


def test_label_smoothing_by_hand():
    """z = (log 2, 0): p = (2/3, 1/3). With two classes, s = 1/2 smooths (1, 0) to (3/4, 1/4)."""
    z = jnp.log(jnp.array([[2.0, 1.0]]))
    loss = -(0.75 * np.log(2 / 3) + 0.25 * np.log(1 / 3))
    for labels in (jnp.array([0]), jnp.array([[1, 0]])):
        np.testing.assert_allclose(cross_entropy(z, labels, label_smoothing=0.5), loss, rtol=1e-6)
    losses, g = reference.cross_entropy(np.log([[2.0, 1.0]]), np.array([0]), label_smoothing=0.5)
    np.testing.assert_allclose(losses, loss, rtol=1e-14)
    np.testing.assert_allclose(g, [[2 / 3 - 3 / 4, 1 / 3 - 1 / 4]], rtol=1e-13)


def test_label_smoothing_of_zero_is_a_no_op(rng):
    """Losses are bitwise equal, also if a class has probability 0; with smoothing such a class has infinite loss."""
    z, labels = rng.standard_normal((6, 3)).astype(np.float32), rng.integers(0, 3, 6)
    assert cross_entropy(z, labels, label_smoothing=0.0).tolist() == cross_entropy(z, labels).tolist()
    impossible = jnp.array([[0.0, -jnp.inf]])
    assert cross_entropy(impossible, jnp.array([0])).tolist() == [0.0]
    assert cross_entropy(impossible, jnp.array([0]), label_smoothing=0.1).tolist() == [jnp.inf]


def test_settings_may_be_traced(rng):
    """One program computes the loss for several values of a setting."""
    z, labels = rng.standard_normal((6, 3)).astype(np.float32), rng.integers(0, 3, 6)
    many = jax.vmap(lambda s: cross_entropy(z, labels, label_smoothing=s))(jnp.array([0.0, 0.2]))
    np.testing.assert_allclose(many[0], cross_entropy(z, labels), rtol=1e-6)
    np.testing.assert_allclose(many[1], cross_entropy(z, labels, label_smoothing=0.2), rtol=1e-6)
    many = jax.vmap(lambda delta: huber(z, 0 * z, delta=delta))(jnp.array([0.1, 9.0]))
    np.testing.assert_allclose(many[0], huber(z, 0 * z, delta=0.1), rtol=1e-6)


def test_kl_divergence_by_hand():
    """p = (2/3, 1/3), y = (1/4, 3/4), and y = (0, 1) with 0 log 0 = 0."""
    z, y = np.log([[2.0, 1.0], [2.0, 1.0]]), np.array([[0.25, 0.75], [0.0, 1.0]])
    expected = [0.25 * np.log(0.25 * 3 / 2) + 0.75 * np.log(0.75 * 3), np.log(3)]
    np.testing.assert_allclose(kl_divergence(jnp.array(z), jnp.array(y)), expected, rtol=1e-6)
    losses, g = reference.kl_divergence(z, y)
    np.testing.assert_allclose(losses, expected, rtol=1e-14)
    np.testing.assert_allclose(g, [[2 / 3 - 1 / 4, 1 / 3 - 3 / 4], [2 / 3, 1 / 3 - 1]], rtol=1e-13)


def test_kl_divergence_is_cross_entropy_minus_entropy(rng):
    z, y = rng.standard_normal((6, 3)), rng.dirichlet(np.ones(3), 6)
    entropy = -np.sum(y * np.log(y), axis=1)
    np.testing.assert_allclose(kl_divergence(z, y), cross_entropy(z, y) - entropy, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(kl_divergence(np.log(y), y), np.zeros(6), atol=1e-6)


def test_kl_divergence_at_and_beyond_a_target_of_0():
    """The gradient in y is finite at 0, and a target that is not a probability has no loss."""
    target_gradient = jax.grad(lambda y: kl_divergence(jnp.zeros((1, 2)), y)[0])(jnp.array([[1.0, 0.0]]))
    assert jnp.isfinite(target_gradient).all()
    assert jnp.isnan(kl_divergence(jnp.zeros((1, 2)), jnp.array([[1.5, -0.5]]))).all()


def test_cross_entropy_over_two_classes_is_binary_cross_entropy():
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
        (huber, (32, 1), (32,), r"huber: outputs \(32, 1\) and targets \(32,\) must have the same shape"),
        (hinge, (32, 1), (32,), r"hinge: outputs \(32, 1\) and targets \(32,\) must have the same shape"),
        (hinge, (), (), r"hinge: expects a batch axis, got outputs of shape \(\)"),
        (cross_entropy, (32,), (32,), r"cross_entropy: expects logits \(batch, \.\.\., classes\), got \(32,\)"),
        (kl_divergence, (32, 10), (32,), r"kl_divergence: outputs \(32, 10\) and targets \(32,\) must have the same"),
        (kl_divergence, (32, 10), (32, 1), r"outputs \(32, 10\) and targets \(32, 1\) must have the same shape"),
        (kl_divergence, (32,), (32,), r"kl_divergence: expects logits \(batch, \.\.\., classes\), got \(32,\)"),
    ],
)
def test_losses_refuse_to_broadcast(loss, outputs, targets, message):
    with pytest.raises(ValueError, match=message):
        loss(jnp.zeros(outputs), jnp.zeros(targets))


def test_cross_entropy_names_the_labels_that_it_accepts():
    logits = jnp.zeros((32, 10))
    message = r"logits \(32, 10\) take integer labels \(32,\) or one-hot labels \(32, 10\), got int32 labels \(32, 1\)"
    with pytest.raises(ValueError, match=message):
        cross_entropy(logits, jnp.zeros((32, 1), jnp.int32))
    with pytest.raises(ValueError, match=r"got float32 labels \(32,\)"):
        cross_entropy(logits, jnp.zeros(32))


def test_a_label_out_of_range_is_nan_not_a_wrong_number():
    losses = cross_entropy(jnp.zeros((3, 2)), jnp.array([-1, 2, 1]))
    assert jnp.isnan(losses).tolist() == [True, True, False]


def test_prediction_rules():
    assert argmax(jnp.array([[1.0, 3.0, 2.0], [5.0, 5.0, 0.0]])).tolist() == [1, 0]
    assert threshold(jnp.array([[0.0], [-1e-6], [2.0]])).tolist() == [[1], [0], [1]]
    assert identity(jnp.array([1.5])).tolist() == [1.5]
    rules = {
        "mse": identity,
        "huber": identity,
        "binary_cross_entropy": threshold,
        "hinge": threshold,
        "cross_entropy": argmax,
        "kl_divergence": argmax,
    }
    assert {name: known.predict for name, known in LOSSES.items()} == rules


@pytest.mark.parametrize("name", LOSSES)
def test_predictions_and_metrics_fit_the_outputs_and_targets(name, rng):
    for outputs, targets in batches(rng)[name]:
        for metric in LOSSES[name].metrics:
            terms = metric.function(LOSSES[name].predict(outputs), jnp.asarray(targets))
            assert all(term.shape[0] == 5 and (metric.finish or term.ndim == 1) for term in jax.tree.leaves(terms))


@pytest.mark.parametrize("half", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_16_bits_are_computed_in_float32(name, half, rng):
    """The loss is that of the rounded outputs, and the gradient has their dtype."""
    outputs, targets = map(jnp.asarray, batches(rng)[name][0])
    outputs = outputs.astype(half)
    if jnp.issubdtype(targets.dtype, jnp.floating):
        targets = targets.astype(half).astype(jnp.float32)
    losses, pull = jax.vjp(lambda outputs: LOSSES[name].function(outputs, targets), outputs)
    expected = LOSSES[name].function(outputs.astype(jnp.float32), targets)
    assert (losses.dtype, losses.tolist()) == (jnp.float32, expected.tolist())
    assert pull(jnp.ones(5))[0].dtype == half


def test_the_square_of_an_output_of_float16_does_not_overflow():
    assert mse(jnp.full(1, 300.0, jnp.float16), jnp.zeros(1, jnp.float16)).tolist() == [90_000.0]


def test_the_name_of_a_loss_is_found_through_its_settings():
    partial = functools.partial
    assert loss_name_of(mse) == ("mse", {})
    assert loss_name_of(partial(huber, delta=2.0)) == ("huber", {"delta": 2.0})
    wide = partial(huber, delta=2.0)
    wide.__name__ = "wide"  # a partial with attributes is not merged into the next one
    assert loss_name_of(partial(wide, delta=3.0)) == loss_name_of(partial(partial(huber), delta=3.0))
    for wrapped in (partial(wide), jax.tree_util.Partial(huber, delta=2.0)):
        assert loss_name_of(wrapped) == ("huber", {"delta": 2.0})
    assert loss_name_of(lambda outputs, targets: mse(outputs, targets)) is None
    assert loss_name_of(partial(mse, jnp.zeros((2, 1)))) is None


def test_every_loss_has_metrics_with_a_direction():
    rules = {name: [(metric.name, metric.higher_is_better) for metric in loss.metrics] for name, loss in LOSSES.items()}
    error = [("rmse", False), ("mean_absolute_error", False), ("r2", True)]
    right = [("accuracy", True)]
    assert rules == {
        "mse": error,
        "huber": error,
        "binary_cross_entropy": right,
        "hinge": right,
        "cross_entropy": right,
        "kl_divergence": right,
    }


def test_metrics_of_a_loss_need_different_names():
    with pytest.raises(ValueError, match="a loss and its metrics need different names, got loss, accuracy, accuracy"):
        resolve_loss(LOSSES["hinge"]._replace(metrics=(ACCURACY, ACCURACY)))
    with pytest.raises(ValueError, match="need different names, got loss, loss"):
        resolve_loss(LOSSES["hinge"]._replace(metrics=(ACCURACY._replace(name="loss"),)))


def test_a_loss_without_a_reference_is_named():
    with pytest.raises(NoReference, match="no hand-written derivative exists for the loss 'mine'"):
        reference.loss_of("mine")


def test_metrics():
    assert accuracy(jnp.array([1, 2, 0]), jnp.array([1, 0, 0])).tolist() == [1.0, 0.0, 1.0]
    assert accuracy(jnp.array([1, 2]), jnp.eye(3)[jnp.array([1, 0])]).tolist() == [1.0, 0.0]
    assert accuracy(jnp.array([[1, 0], [1, 1]]), jnp.array([[1, 1], [1, 1]])).tolist() == [0.5, 1.0]
    assert absolute_error(jnp.array([[1.0], [5.0]]), jnp.array([[2.0], [2.0]])).tolist() == [[1.0], [3.0]]
    with pytest.raises(ValueError, match=r"accuracy: predictions \(2,\) and targets \(3,\) must have the same shape"):
        accuracy(jnp.zeros(2), jnp.zeros(3))
    with pytest.raises(ValueError, match=r"absolute_error: predictions \(2, 1\) and targets \(2,\)"):
        absolute_error(jnp.zeros((2, 1)), jnp.zeros(2))
