"""Training on sequences: losses per step, masks of steps, and data that is refused before training."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnet
from fnet.losses import resolve_loss
from fnet.reference.network import loss_and_gradients
from fnet.train.checks import check_labels
from fnet.train.evaluate import make_score
from fnet.train.state import Batch, Examples
from fnet.train.step import objective

MASK = np.array([[True, True, True, False], [True, False, False, False], [False, True, True, True]])


def network(**settings):
    net = fnet.serial(fnet.embedding(6, 3, std=1.0), fnet.gru(4, **settings), fnet.dense(5))
    return net, *net.init(jax.random.key(0), (4,))


def test_the_loss_is_the_mean_over_the_real_steps(rng):
    """It is not the mean of per-example means: a step of a short example has the same weight as any other."""
    net, params, state = network()
    x, labels = rng.integers(0, 6, (3, 4)), rng.integers(0, 5, (3, 4))
    loss, (_, metrics) = objective(net, "cross_entropy")(params, state, Batch(x, labels, jnp.asarray(MASK)), None)
    logits, _ = net.apply(params, state, x, train=False, mask=MASK)
    log_p = np.asarray(logits) - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    expected = [-log_p[i, t, labels[i, t]] for i, t in np.argwhere(MASK)]
    np.testing.assert_allclose(loss, np.mean(expected), rtol=1e-6)
    right = [np.argmax(log_p[i, t]) == labels[i, t] for i, t in np.argwhere(MASK)]
    np.testing.assert_allclose(metrics.metrics["accuracy"], np.mean(right), rtol=1e-6)
    assert metrics.weight == MASK.sum()


def test_an_example_with_one_output_counts_if_any_step_is_real(rng):
    net, params, state = network(sequence=False)
    x, labels = rng.integers(0, 6, (3, 4)), rng.integers(0, 5, 3)
    padded = MASK & np.array([[True], [True], [False]])
    evaluate = objective(net, "cross_entropy")
    loss, (_, metrics) = evaluate(params, state, Batch(x, labels, jnp.asarray(padded)), None)
    first, _ = evaluate(params, state, Batch(x[:2], labels[:2], jnp.asarray(MASK[:2])), None)
    np.testing.assert_allclose(loss, first, rtol=1e-6)
    assert metrics.weight == 2


@pytest.mark.parametrize("sequence", [True, False])
def test_gradients_by_hand_agree_with_jax_under_a_mask_of_steps_and_weights(sequence, rng):
    net, params, state = network(sequence=sequence)
    x, labels = rng.integers(0, 6, (3, 4)), rng.integers(0, 5, (3, 4) if sequence else 3)
    weight = rng.uniform(0.5, 2.0, 3)
    hand = loss_and_gradients(net, params, x, labels, "cross_entropy", mask=MASK, weight=weight)
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)
        batch = Batch(jnp.asarray(x), jnp.asarray(labels), jnp.asarray(MASK), jnp.asarray(weight))
        (loss, _), gradients = jax.value_and_grad(objective(net, "cross_entropy"), has_aux=True)(
            params, state, batch, None
        )
    np.testing.assert_allclose(hand.loss, loss, rtol=1e-12)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-14), hand.params, gradients)


def test_a_mask_of_different_steps_is_refused(rng):
    net, params, state = network()
    batch = Batch(rng.integers(0, 6, (3, 4)), rng.integers(0, 5, (3, 2)), jnp.asarray(MASK))
    message = (
        "a mask (3, 4) of steps requires outputs (batch, time, ...) and targets with the same steps, got (3, 4, 5) and "
        "(3, 2)"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        objective(net, "cross_entropy")(params, state, batch, None)


def test_fit_trains_and_scores_only_on_the_real_steps():
    """The content of the padding, labels included, does not change parameters or scores in any bit."""
    rng = np.random.default_rng(3)
    net, *_ = network()
    x, labels = rng.integers(0, 6, (7, 4)), rng.integers(0, 5, (7, 4))
    mask = np.arange(4) < rng.integers(1, 5, (7, 1))
    results = []
    for other, wrong in ((x, labels), (np.where(mask, x, 0), np.where(mask, labels, -1))):
        data = (other, wrong, mask)
        fitted = fnet.train.fit(net, "cross_entropy", optax.adam(0.1), data, validation=data, epochs=2, batch_size=4)
        results.append((fitted.params, [epoch.values for epoch in fitted.history]))
    assert jax.tree.all(jax.tree.map(np.array_equal, results[0], results[1]))
    score = make_score(net, resolve_loss("cross_entropy"))(fitted.params, {}, (x, labels, mask))
    logits, _ = net.apply(fitted.params, {}, x, train=False, mask=mask)
    right = np.argmax(logits, axis=-1) == labels
    np.testing.assert_allclose(score.metrics["accuracy"], right[mask].mean(), rtol=1e-6)
    assert results[0][1][-1]["validation_accuracy"] == score.metrics["accuracy"]


def test_every_step_has_the_same_weight_in_an_epoch():
    """With a learning rate of 0 the mean over the batches is the score, for any distribution of lengths."""
    rng = np.random.default_rng(4)
    net, *_ = network()
    mask = np.arange(4) < np.array([[1], [1], [1], [4], [4]])
    data = (rng.integers(0, 6, (5, 4)), rng.integers(0, 5, (5, 4)), mask)
    fitted = fnet.train.fit(net, "cross_entropy", optax.sgd(0.0), data, validation=data, epochs=1, batch_size=2)
    values = fitted.history[0].values
    np.testing.assert_allclose(values["train_loss"], values["validation_loss"], rtol=1e-6)


def assert_refused(message, x, y, *mask):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        fnet.train.fit(network()[0], "cross_entropy", optax.sgd(0.1), (x, y, *mask), epochs=1)


def test_an_index_out_of_range_is_named():
    x, y = np.zeros((3, 4), int), np.zeros((3, 4), int)
    x[2, 1] = 7
    takes = "the first layer of the network takes the indices 0 ... 5"
    assert_refused(f"example 2 contains the index 7, but {takes}; set its size to 8, or remove the index", x, y)
    x[2, 1] = -1
    assert_refused(f"example 2 contains the index -1, but {takes}; remove the index", x, y)
    message = (
        f"{takes}, but the examples are float32; convert indices with x.astype(int), and use a dense layer for real "
        "numbers"
    )
    assert_refused(message, x.astype(np.float32), y)


def test_the_largest_index_is_that_of_all_chunks(monkeypatch):
    """Every row is a chunk of its own; the largest index is neither in the first nor in the last one."""
    monkeypatch.setattr("fnet.data.arrays.ENTRIES", 4)
    x = np.zeros((5, 4), int)
    x[1, 2], x[3, 0] = 7, 9
    message = "example 1 contains the index 7, but .*; set its size to 10, or remove the index"
    with pytest.raises(ValueError, match=message):
        fnet.train.fit(network()[0], "cross_entropy", optax.sgd(0.1), (x, x), epochs=1)


@pytest.mark.parametrize("dtype", [np.uint64, np.int64, np.uint32])
def test_a_label_beyond_32_bits_does_not_wrap_around(dtype):
    """With a mask on the device, labels are checked there, where they have 32 bits."""
    large = 2**31 if dtype == np.uint32 else 2**32
    x, y = np.zeros((3, 4), int), np.zeros((3, 4), dtype)
    y[1, 2] = large
    for mask in (np.ones((3, 4), bool), jnp.ones((3, 4), bool)):
        assert_refused(
            f"the label of example 1 is {large}, but the network has 5 outputs, for the classes 0 ... 4", x, y, mask
        )


@pytest.mark.parametrize("label", [-1, -(2**32)])
def test_a_negative_label_does_not_wrap_around(label):
    """With a mask on the device, labels are checked there, where they have 32 bits."""
    labels = np.array([0, 4, label])
    with pytest.raises(ValueError, match=f"the label of example 2 is {label}, but the network has 5 outputs"):
        check_labels(resolve_loss("cross_entropy"), Examples(np.zeros((3, 2)), labels, jnp.ones(3, bool)), (5,))


def test_unsigned_numbers_keep_their_values_on_the_device():
    """A weight of 2^40 is not 0, whose label would not matter."""
    loss, labels = resolve_loss("cross_entropy"), jnp.array([0, 0, 7])
    check_labels(loss, Examples(np.zeros((3, 2)), labels, weight=np.array([1, 2**40, 0], np.uint64)), (1,))
    with pytest.raises(ValueError, match="the label of example 2 is 7, but the network has 1 outputs"):
        check_labels(loss, Examples(np.zeros((3, 2)), labels, weight=np.array([1, 0, 2**40], np.uint64)), (1,))


@pytest.mark.parametrize(("targets", "out_shape"), [([[0, 1, 4]], (3,)), ([5], ()), ([5], {"a": (3,), "b": (3,)})])
def test_whole_numbers_that_are_not_labels_are_not_checked_as_labels(targets, out_shape):
    """A target per output, such as a count; and outputs for which the loss itself is refused, with its own message."""
    check_labels(resolve_loss("cross_entropy"), Examples(np.zeros((1, 2)), np.array(targets)), out_shape)


def test_indices_are_checked_in_validation_too():
    x, y = np.zeros((3, 4), int), np.zeros((3, 4), int)
    with pytest.raises(ValueError, match=r"^example 0 contains the index 9, but the first layer"):
        fnet.train.fit(network()[0], "cross_entropy", optax.sgd(0.1), (x, y), validation=(x + 9, y), epochs=1)


def test_a_sequence_without_real_steps_is_named():
    x, y, mask = np.zeros((3, 4), int), np.zeros((3, 4), int), np.ones((3, 4), bool)
    mask[1] = False
    message = "example 1 has no real steps: its row of the mask is all False; remove the example"
    assert_refused(message, x, y, mask)
    assert_refused("expected a mask of shape (3, 4) for examples of shape (3, 4), got (3, 3)", x, y, mask[:, :3])


def test_a_label_out_of_range_is_named_with_its_example():
    x, y = np.zeros((3, 4), int), np.zeros((3, 4), int)
    y[2, 1] = 5
    message = "the label of example 2 is 5, but the network has 5 outputs, for the classes 0 ... 4"
    assert_refused(message, x, y)
