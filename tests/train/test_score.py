"""The loss of a batch: masks, weights, the shapes of losses and metrics; masked content has no effect."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fnet
from fnet.data.stream import Stream
from fnet.losses import LOSSES, with_metrics
from fnet.train import Batch, Examples, fit, init_state, make_step, objective
from fnet.train.evaluate import make_score
from fnet.train.feed import example_order
from fnet.train.score import without_padding
from fnet.train.state import state_of_seed

IMAGE, SEQUENCE = (4, 4, 2), (5, 3)

EXAMPLE_NETS = {
    "mlp": (fnet.serial(fnet.dense(4), fnet.relu(), fnet.dense(2)), (3,)),
    "batch_norm": (fnet.serial(fnet.dense(4), fnet.batch_norm(), fnet.tanh(), fnet.dense(2)), (3,)),
    "conv": (fnet.serial(fnet.conv(3, 2), fnet.batch_norm(), fnet.max_pool(2), fnet.flatten(), fnet.dense(2)), IMAGE),
    "rnn": (fnet.serial(fnet.gru(3, sequence=False), fnet.dense(2)), SEQUENCE),
    "attention": (
        fnet.serial(fnet.dense(4), fnet.attention(2), fnet.layer_norm(), fnet.flatten(), fnet.dense(2)),
        SEQUENCE,
    ),
    "pooling": (fnet.serial(fnet.dense(4), fnet.global_max_pool(), fnet.dense(2)), SEQUENCE),
}
STEP_NETS = {
    "mlp": fnet.serial(fnet.dense(4), fnet.tanh(), fnet.dense(2)),
    "batch_norm": fnet.serial(fnet.dense(4), fnet.batch_norm(), fnet.tanh(), fnet.dense(2)),
    "rnn": fnet.serial(fnet.lstm(3), fnet.dense(2)),
    "attention": fnet.serial(fnet.dense(4), fnet.attention(2), fnet.dense(2)),
    "last state": fnet.serial(fnet.gru(3, sequence=False), fnet.dense(2)),
    "mean of the steps": fnet.serial(fnet.dense(4), fnet.global_avg_pool(), fnet.dense(2)),
    "maximum of the steps": fnet.serial(fnet.dense(4), fnet.global_max_pool(), fnet.dense(2)),
}
BAD = (np.nan, np.inf, -np.inf)


def assert_close(first, second, atol=1e-12):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=atol), first, second)


@functools.partial(jax.jit, static_argnums=0)
def gradient_of(net, params, state, batch):
    """Return the loss, the new state, the metrics and the gradient."""
    (loss, aux), gradient = jax.value_and_grad(objective(net, "mse"), has_aux=True)(params, state, batch, None)
    return loss, aux, gradient


@pytest.mark.parametrize("name", EXAMPLE_NETS)
def test_no_gradient_depends_on_a_masked_example(name, rng):
    """Everything equals the results for the real examples alone, whatever the others contain."""
    net, in_shape = EXAMPLE_NETS[name]
    with jax.enable_x64(True):
        params, state = net.init(jax.random.key(1), in_shape)
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params)
        for bad in BAD:
            x, y = rng.standard_normal((5, *in_shape)), rng.standard_normal((5, 2))
            weight = rng.uniform(0.5, 2.0, 5)
            mask = rng.permutation([True, True, True, False, False])
            alone = gradient_of(net, params, state, Batch(x[mask], y[mask], np.ones(3, bool), weight[mask]))
            x[~mask], y[~mask] = bad, bad
            assert_close(gradient_of(net, params, state, Batch(x, y, mask, weight)), alone)


@pytest.mark.parametrize("name", STEP_NETS)
def test_no_gradient_depends_on_a_masked_step_or_a_row_without_real_steps(name, rng):
    net = STEP_NETS[name]
    lengths = np.array([3, 0, 5, 1, 0])
    with jax.enable_x64(True):
        params, state = net.init(jax.random.key(1), SEQUENCE)
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params)
        every_step = len(net.shape(SEQUENCE)) == 2
        for bad in BAD:
            mask = np.arange(5) < rng.permutation(lengths)[:, None]
            x, y = rng.standard_normal((5, *SEQUENCE)), rng.standard_normal((5, 5, 2) if every_step else (5, 2))
            real = mask.any(axis=1)
            zeros = np.where(mask[..., None], x, 0)[real]
            alone = gradient_of(net, params, state, Batch(zeros, y[real], mask[real]))
            x[~mask], y[~mask if every_step else ~real] = bad, bad
            assert_close(gradient_of(net, params, state, Batch(x, y, mask)), alone)


@pytest.mark.parametrize("name", ["attention", "last state"])
def test_a_padded_batch_has_the_gradient_of_its_sequences_one_by_one(name, rng):
    net = STEP_NETS[name]
    lengths = [3, 5, 1]
    with jax.enable_x64(True):
        params, state = net.init(jax.random.key(1), SEQUENCE)
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params)
        every_step = len(net.shape(SEQUENCE)) == 2
        x, y = rng.standard_normal((3, *SEQUENCE)), rng.standard_normal((3, 5, 2) if every_step else (3, 2))

        @jax.jit
        def loss(params):
            squares = []
            for i, length in enumerate(lengths):
                outputs, _ = net.apply(params, state, x[i : i + 1, :length], train=True)
                targets = y[i : i + 1, :length] if every_step else y[i : i + 1]
                squares.append(jnp.square(outputs - targets).mean(axis=-1).reshape(-1))
            return jnp.concatenate(squares).mean()

        value, (_, metrics), gradient = gradient_of(
            net, params, state, Batch(x, y, np.arange(5) < np.array(lengths)[:, None])
        )
        assert_close((value, gradient), jax.value_and_grad(loss)(params))
        assert metrics.weight == (sum(lengths) if every_step else 3)


def test_a_short_batch_of_pooled_sequences_trains(rng):
    """Five sequences in batches of two: the last batch has a row that is all padding."""
    x, y = rng.standard_normal((5, *SEQUENCE)).astype(np.float32), np.ones((5, 2), np.float32)
    mask = np.arange(5) < np.array([[3], [5], [1], [2], [4]])
    data = (np.where(mask[..., None], x, np.nan), y, mask)
    net = STEP_NETS["mean of the steps"]
    fitted = fit(net, "mse", optax.sgd(0.0), data, validation=data, batch_size=2, epochs=1)
    outputs, _ = net.apply(fitted.params, {}, x, train=False, mask=mask)
    expected = np.mean((outputs - y) ** 2)
    for part in ("train", "validation"):
        np.testing.assert_allclose(fitted.history[0].values[f"{part}_loss"], expected, rtol=1e-5)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fitted.params))


@pytest.mark.parametrize("name", ["batch_norm", "attention"])
def test_training_with_masked_examples_is_training_without_them(name, rng):
    """An epoch in batches of two equals steps by hand on the real examples of the same batches."""
    net, in_shape = EXAMPLE_NETS[name]
    x, y = rng.standard_normal((5, *in_shape)).astype(np.float32), rng.standard_normal((5, 2)).astype(np.float32)
    mask = np.array([True, True, False, True, True])
    x[~mask], y[~mask] = np.nan, np.inf
    fitted = fit(net, "mse", optax.sgd(0.1), (x, y, mask), batch_size=2, epochs=1)
    params, state = state_of_seed(net, optax.sgd(0.1), 0, in_shape)[1:3]
    order = example_order(0, 1, 5)
    for start in (0, 2, 4):
        rows = [row for row in order[start : start + 2] if mask[row]]
        if rows:
            _, (state, _), gradient = gradient_of(net, params, state, Batch(x[rows], y[rows], np.ones(len(rows), bool)))
            params = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        (fitted.params, fitted.state),
        (params, state),
    )


def test_only_sequences_among_several_inputs_lose_their_masked_steps():
    """A vector per example may have as many features as there are steps."""
    x = {"sequence": jnp.ones((2, 3, 4)), "tokens": jnp.ones((2, 3), int), "vector": jnp.ones((2, 3))}
    mask = jnp.array([[True, False, False], [True, True, True]])
    seen = without_padding(Batch(x, jnp.zeros(2), mask)).x
    assert seen["sequence"][..., 0].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert (seen["vector"] == 1).all()
    alone = without_padding(Batch(x["vector"], jnp.zeros(2), mask)).x
    assert alone.tolist() == [[1, 0, 0], [1, 1, 1]]


def test_weights_weigh_the_examples_in_loss_metrics_and_gradient(rng):
    """A weight of 2 is an example that occurs twice."""
    net = fnet.serial(fnet.dense(2), fnet.tanh(), fnet.dense(1))
    params, state = net.init(jax.random.key(0), (3,))
    x, y, weight = rng.standard_normal((4, 3)), rng.standard_normal((4, 1)), np.array([2.0, 1.0, 0.0, 3.0])
    y[2] = np.nan  # of weight 0
    twice = np.repeat(np.arange(4), weight.astype(int))
    loss, (_, metrics), gradient = gradient_of(net, params, state, Batch(x, y, np.ones(4, bool), weight))
    other, (_, expected), repeated = gradient_of(net, params, state, Batch(x[twice], y[twice], np.ones(6, bool)))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6), (loss, metrics, gradient), (other, expected, repeated)
    )
    assert metrics.weight == 6
    score = make_score(net, LOSSES["mse"])(params, state, Examples(x, y, weight=weight))
    np.testing.assert_allclose(score.loss, other, rtol=1e-6)
    np.testing.assert_allclose(score.metrics["mean_absolute_error"], expected.metrics["mean_absolute_error"], rtol=1e-6)


def test_weights_of_sequences_and_of_steps(rng):
    net = STEP_NETS["mlp"]
    params, state = net.init(jax.random.key(0), SEQUENCE)
    x, y = rng.standard_normal((3, *SEQUENCE)), rng.standard_normal((3, 5, 2))
    mask = np.arange(5) < np.array([[3], [5], [1]])
    squares = np.mean((np.asarray(net.apply(params, state, x, train=False)[0]) - y) ** 2, axis=-1)
    by_example, by_step = rng.uniform(0.5, 2.0, 3), rng.uniform(0.5, 2.0, (3, 5))
    for real, weight, factors in (
        (mask, by_example, mask * by_example[:, None]),
        (mask, by_step, mask * by_step),
        (np.ones(3, bool), by_step, by_step),
    ):
        loss, (_, metrics), _ = gradient_of(net, params, state, Batch(x, y, real, weight))
        np.testing.assert_allclose(loss, np.sum(factors * squares) / np.sum(factors), rtol=1e-5)
        np.testing.assert_allclose(metrics.weight, np.sum(factors), rtol=1e-6)


def test_a_batch_without_weight_has_the_loss_zero_and_no_gradient(rng):
    net = EXAMPLE_NETS["batch_norm"][0]
    params, state = net.init(jax.random.key(0), (3,))
    x, y = np.full((2, 3), np.nan), np.full((2, 2), np.nan)
    loss, (after, metrics), gradient = gradient_of(net, params, state, Batch(x, y, np.zeros(2, bool)))
    assert (float(loss), float(metrics.weight)) == (0.0, 0.0)
    assert all(float(jnp.abs(leaf).max()) == 0 for leaf in jax.tree.leaves(gradient))
    jax.tree.map(np.testing.assert_array_equal, after, state)
    x, y = rng.standard_normal((2, 3)), rng.standard_normal((2, 2))
    assert float(gradient_of(net, params, state, Batch(x, y, np.ones(2, bool), np.zeros(2)))[0]) == 0


def test_dicts_and_tuples_of_arrays(rng):
    """A network by hand with two inputs and two outputs, trained, scored and streamed."""
    dense = fnet.dense(1)

    def init(key, in_shape):
        return dense.init(key, (in_shape["a"][0] + in_shape["b"][0],))

    def apply(params, state, x, *, train, key=None, mask=None):
        y, _ = dense.apply(params, state, jnp.concatenate([x["a"], x["b"]], axis=1), train=train)
        return (y, 2 * y), {}

    net = fnet.Layer("both", {}, lambda in_shape: ((1,), (1,)), init, apply)
    x = {"a": rng.standard_normal((7, 2)).astype(np.float32), "b": rng.standard_normal((7, 1)).astype(np.float32)}
    y = (rng.standard_normal((7, 1)).astype(np.float32), np.ones((7, 1), np.float32))

    def loss(outputs, targets):
        return sum(fnet.losses.mse(*pair) for pair in zip(outputs, targets, strict=True))

    joined = np.concatenate([x["a"], x["b"]], axis=1)

    def joined_loss(outputs, targets):
        return fnet.losses.mse(outputs, targets[:, :1]) + fnet.losses.mse(2 * outputs, targets[:, 1:])

    plain = (joined, np.concatenate(y, axis=1))
    settings = {"epochs": 2, "batch_size": 3}
    expected = fit(dense, joined_loss, optax.adam(0.1), plain, validation=plain, **settings)
    for data in ((x, y), Examples(x, y), Stream(x, y)):
        fitted = fit(net, loss, optax.adam(0.1), data, validation=data, **settings)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), fitted.params, expected.params)
        for name, value in expected.history[-1].values.items():
            np.testing.assert_allclose(fitted.history[-1].values[name], value, rtol=1e-5)
    with pytest.raises(
        ValueError, match=r"^train: expected .* one target per example, got 7 examples and 7 and 6 targets$"
    ):
        fit(net, loss, optax.adam(0.1), (x, (y[0], y[1][:6])), **settings)


def refused(message, loss, batch, metrics=None):
    net = fnet.serial(fnet.dense(2))
    record = with_metrics(LOSSES["mse"]._replace(function=loss), metrics or {}) if callable(loss) else loss
    before = init_state(net, optax.sgd(0.1), jax.random.key(0), (3,))
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        jax.eval_shape(make_step(net, record, optax.sgd(0.1)), before, batch)


def test_a_loss_or_metric_of_the_wrong_shape_is_refused():
    batch = Batch(np.ones((4, 3)), np.ones((4, 2)), np.ones(4, bool))
    advice = "take the mean over all axes but the first, or pass a loss of the whole batch as objective="
    for shape, loss in (
        ((), lambda outputs, targets: jnp.mean((outputs - targets) ** 2)),
        ((4, 2), lambda outputs, targets: (outputs - targets) ** 2),
        ((2,), lambda outputs, targets: jnp.mean((outputs - targets) ** 2, axis=0)),
    ):
        refused(
            f"the loss must be one number per example (or step), of shape (4,), but it has the shape {shape} for "
            f"outputs (4, 2) and targets (4, 2); {advice}",
            loss,
            batch,
        )
    refused(
        "the metric 'share' must be one number per example (or step), of shape (4,), but it has the shape () for "
        "outputs (4, 2) and targets (4, 2); take the mean over all axes but the first",
        fnet.losses.mse,
        batch,
        {"share": lambda outputs, targets: jnp.mean(outputs)},
    )


def test_a_mask_that_is_not_one_is_refused():
    x, y = np.ones((4, 3), np.float32), np.ones((4, 2), np.float32)
    refused(
        "a batch needs a mask, got None; if all 4 examples are real, pass jnp.ones(4, bool)", "mse", Batch(x, y, None)
    )
    for dtype in (np.float32, np.int32):
        message = (
            f"mask: expected booleans, got {np.dtype(dtype)}; pass mask.astype(bool), or pass weights of the examples "
            "as weight"
        )
        refused(message, "mse", Batch(x, y, np.ones(4, dtype)))
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            fit(fnet.serial(fnet.dense(2)), "mse", optax.sgd(0.1), (x, y, np.ones(4, dtype)))
    refused("mask: expected the shape (4,) or (4, time), got (3,)", "mse", Batch(x, y, np.ones(3, bool)))
    refused(
        "weight: expected the shape (4,) or (4, time), got (4, 1, 1)",
        "mse",
        Batch(x, y, np.ones(4, bool), np.ones((4, 1, 1))),
    )
    refused(
        "a weight (4, 5) of steps requires outputs (batch, time, ...) and targets with the same steps, got (4, 2) and "
        "(4, 2)",
        "mse",
        Batch(x, y, np.ones(4, bool), np.ones((4, 5))),
    )


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([1.0, -1.0, 1.0], "the weight of example 1 is -1.0, but weights must be finite and at least 0; "),
        ([1.0, 1.0, np.nan], "the weight of example 2 is nan, but weights must be finite and at least 0; "),
        ([np.inf, 1.0, 1.0], "the weight of example 0 is inf, but weights must be finite and at least 0; "),
        ([0.0, 0.0, 0.0], "the weights are all 0, so that no example counts; at least one must be positive"),
        ([1.0, 1.0], "train: weight: expected the shape (3,) or (3, time), got (2,)"),
    ],
)
@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_bad_weights_are_refused(weight, message, array):
    x, y = np.ones((3, 2), np.float32), np.ones((3, 2), np.float32)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        fit(fnet.serial(fnet.dense(2)), "mse", optax.sgd(0.1), (x, y), weights=array(weight))


def test_a_state_that_an_own_layer_forgets_is_named():
    def apply(params, state, x, *, train, key=None, mask=None):
        return x * state["count"], {}

    layer = fnet.Layer("counter", {}, lambda shape: shape, lambda key, shape: ({}, {"count": jnp.zeros(())}), apply)
    batch = Batch(np.ones((4, 3)), np.ones((4, 3)), np.ones(4, bool))
    message = (
        "the state has the entry 'count', but the network's new state does not; apply must return every entry of the "
        "state, also those that it does not change"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        objective(layer, "mse")({}, {"count": jnp.ones(())}, batch, None)


# Findings of reviews: each of these was silently wrong.


def loss_of(net, batch, loss="mse"):
    params, state = net.init(jax.random.key(0), tuple(np.shape(batch.x)[1:]))
    return objective(net, loss)(params, state, batch, None)[0]


@pytest.mark.parametrize("dtype", ["int32", "float16"])
def test_the_sum_of_large_weights_does_not_overflow(dtype, rng):
    x, y, real = rng.standard_normal((128, 2)), rng.standard_normal((128, 1)), np.ones(128, bool)
    large = 20_000_000 if dtype == "int32" else 30_000
    expected = loss_of(fnet.dense(1), Batch(x, y, real))
    np.testing.assert_allclose(
        loss_of(fnet.dense(1), Batch(x, y, real, np.full(128, large, dtype))), expected, rtol=1e-5
    )


def test_outputs_that_may_be_steps_or_not_are_refused(rng):
    net = fnet.serial(fnet.dense(1), fnet.reshape((3,)))
    batch = Batch(rng.standard_normal((2, 3, 2)), rng.standard_normal((2, 3)), rng.random((2, 3)) < 0.9)
    with pytest.raises(ValueError, match=r"outputs \(2, 3\) may be one number per step or 3 per example, and the mask"):
        loss_of(net, batch)


def test_a_loss_per_unit_is_refused_with_as_many_units_as_examples(rng):
    batch = Batch(rng.standard_normal((4, 2)), rng.standard_normal((4, 4)), np.ones(4, bool))
    with pytest.raises(ValueError, match=r"the loss must be one number per example \(or step\), of shape \(4,\)"):
        loss_of(fnet.dense(4), batch, lambda outputs, targets: ((outputs - targets) ** 2).mean(0))
    weights = jnp.arange(4.0)
    loss_of(fnet.dense(4), batch, lambda outputs, targets: weights * ((outputs - targets) ** 2).mean(1))


def test_masked_indices_of_several_inputs_have_no_effect():
    net = fnet.graph(
        fnet.serial(fnet.embedding(4, 3), fnet.global_avg_pool(), name="text"),
        fnet.dense(3, name="vector"),
        nodes={"a": ("text", "tokens"), "b": ("vector", "numbers"), "y": ("add", "a", "b")},
        inputs=("tokens", "numbers"),
    )
    params, state = net.init(jax.random.key(0), {"tokens": (2,), "numbers": (2,)})
    mask = np.array([[True, False], [True, True]])

    def value(padding):
        x = {"tokens": jnp.array([[1, padding], [2, 3]]), "numbers": jnp.ones((2, 2))}
        return objective(net, "mse")(params, state, Batch(x, np.ones((2, 3)), mask), None)[0]

    losses = value(0), value(-1)
    assert losses[0] == losses[1]
    assert np.isfinite(losses[0])


def test_the_derivative_with_respect_to_label_smoothing_at_0():
    """L = (1 - s) l_0 + s mean(l), so that dL/ds = mean(l) - l_0 for every s."""
    z = jnp.array([[2.0, 0.0, 0.0]])
    losses = -jax.nn.log_softmax(z)[0]

    def f(smoothing):
        return LOSSES["cross_entropy"].function(z, jnp.array([0]), label_smoothing=smoothing)[0]

    np.testing.assert_allclose(jax.grad(f)(0.0), losses.mean() - losses[0], rtol=1e-5)
