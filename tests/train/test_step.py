import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from trees import same

import fnet
from fnet.core.settings import explanations, model_of
from fnet.losses import LOSSES, resolve_loss
from fnet.reference.network import loss_and_gradients
from fnet.regularization import Penalties
from fnet.train import make_step
from fnet.train.state import Batch, TrainState, init_state
from fnet.train.step import penalty_of, project_max_norm


def start(net, optimizer, in_shape=(3,), **settings):
    return init_state(net, optimizer, jax.random.key(4), in_shape, **settings)


def test_one_step_of_gradient_descent_matches_the_reference(rng):
    """W := W - alpha dL/dW with the reference's gradient, including penalties, weights and a masked example."""
    net, optimizer = fnet.serial(fnet.dense(4), fnet.tanh(), fnet.dense(2)), optax.sgd(0.1)
    before = start(net, optimizer)
    x, y = rng.standard_normal((5, 3)).astype(np.float32), rng.integers(0, 2, 5)
    mask, weight = np.array([True, True, True, True, False]), rng.uniform(0.5, 2.0, 5)
    penalties = Penalties(l1=0.01, l2=0.1, layers={"dense_2": {"l1": 0.0, "l2": 0.3}})
    step = make_step(net, "cross_entropy", optimizer, regularization=penalties)
    after, metrics = jax.jit(step)(before, Batch(x, y, mask, weight))
    hand = loss_and_gradients(
        net, before.params, x, y, "cross_entropy", mask=mask, weight=weight, regularization=penalties
    )
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, before.params, hand.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), after.params, expected)
    assert float(metrics.loss + metrics.penalty) == pytest.approx(hand.loss, rel=1e-5)
    assert int(after.step) == 1


def test_the_second_step_does_not_recompile(rng):
    net, optimizer = fnet.serial(fnet.dense(1)), optax.adam(0.1)
    state = start(net, optimizer)
    step = jax.jit(make_step(net, "mse", optimizer))
    for _ in range(3):
        x = rng.standard_normal((2, 3)).astype(np.float32)
        state, _ = step(state, Batch(x, np.zeros((2, 1), np.float32), np.ones(2, bool)))
    assert step._cache_size() == 1


def test_padding_does_not_count_even_when_it_is_nan(rng):
    net, optimizer = fnet.serial(fnet.dense(1)), optax.sgd(0.1)
    before = start(net, optimizer)
    step = make_step(net, "mse", optimizer)
    x, y = rng.standard_normal((3, 3)).astype(np.float32), np.ones((3, 1), np.float32)
    short, _ = step(before, Batch(x[:2], y[:2], np.ones(2, bool)))
    padded, _ = step(before, Batch(x, y, np.array([True, True, False])))
    np.testing.assert_allclose(short.params["dense_1"]["w"], padded.params["dense_1"]["w"], rtol=1e-6)
    _, metrics = step(before, Batch(x, np.array([[1.0], [1.0], [np.nan]]), np.array([True, True, False])))
    assert jnp.isfinite(metrics.loss)


def test_a_population_trains_under_vmap(rng):
    """Each of three networks trained in one program equals the network trained alone."""
    net, optimizer = fnet.serial(fnet.dense(2), fnet.tanh(), fnet.dense(1)), optax.adam(0.05)
    step = make_step(net, "mse", optimizer)
    members = [init_state(net, optimizer, jax.random.key(seed), (3,)) for seed in range(3)]
    batch = Batch(rng.standard_normal((4, 3)).astype(np.float32), np.ones((4, 1), np.float32), np.ones(4, bool))
    together, _ = jax.vmap(step, in_axes=(0, None))(jax.tree.map(lambda *leaves: jnp.stack(leaves), *members), batch)
    for number, member in enumerate(members):
        alone, _ = step(member, batch)
        np.testing.assert_allclose(
            together.params["dense_1"]["w"][number], alone.params["dense_1"]["w"], rtol=1e-5, atol=1e-7
        )


def test_a_custom_loss(rng):
    net, optimizer = fnet.serial(fnet.dense(1)), optax.sgd(0.1)
    step = make_step(net, lambda outputs, targets: jnp.abs(outputs - targets)[:, 0] ** 3, optimizer)
    x = rng.standard_normal((2, 3)).astype(np.float32)
    before = start(net, optimizer)
    _, metrics = step(before, Batch(x, np.ones((2, 1)), np.ones(2, bool)))
    outputs, _ = net.apply(before.params, {}, x, train=False)
    assert float(metrics.loss) == pytest.approx(float(np.mean(np.abs(outputs - 1) ** 3)), rel=1e-5)
    assert metrics.metrics == {}


def test_losses_are_resolved_by_name_and_by_function():
    assert resolve_loss("mse") is fnet.losses.LOSSES["mse"] is resolve_loss(fnet.losses.mse)
    with pytest.raises(ValueError, match="unknown loss 'mes'; known: mse, binary_cross_entropy, cross_entropy, huber"):
        resolve_loss("mes")


@pytest.mark.parametrize(
    "resolved",
    [
        resolve_loss(functools.partial(fnet.losses.huber, delta=2.0)),
        resolve_loss("huber", {"delta": 2.0}),
        resolve_loss(fnet.losses.huber, {"delta": 2.0}),
        resolve_loss(functools.partial(fnet.losses.huber, delta=1.0), {"delta": 2.0}),
        resolve_loss(resolve_loss(LOSSES["huber"], {"delta": 2.0})),
    ],
    ids=["partial", "name", "function", "both", "record"],
)
def test_a_loss_with_settings_keeps_its_predictions_and_its_metrics(resolved):
    assert resolved[1:] == LOSSES["huber"][1:]
    assert resolved.function(jnp.array([[4.0]]), jnp.array([[0.0]])).tolist() == [6.0]


def test_settings_of_a_custom_loss_are_bound():
    def custom(outputs, targets, *, power):
        return jnp.abs(outputs - targets)[:, 0] ** power

    loss = resolve_loss(functools.partial(custom, power=3))
    assert (loss.metrics, loss.function(jnp.array([[2.0]]), jnp.zeros((1, 1))).tolist()) == ((), [8.0])


def test_a_step_takes_a_loss_with_settings(rng):
    """W := W - alpha delta sign(e) x for one example with a large error e, and the metric is the absolute error."""
    net, optimizer = fnet.serial(fnet.dense(1, bias=False)), optax.sgd(0.5)
    before = start(net, optimizer)._replace(params={"dense_1": {"w": jnp.array([[1.0], [2.0], [3.0]])}})
    step = make_step(net, functools.partial(fnet.losses.huber, delta=2.0), optimizer)
    x = np.array([[1.0, 0.0, -1.0]], np.float32)
    after, metrics = step(before, Batch(x, np.full((1, 1), 8.0, np.float32), np.ones(1, bool)))
    assert after.params["dense_1"]["w"].tolist() == [[2.0], [2.0], [2.0]]
    assert (float(metrics.loss), float(metrics.metrics["mean_absolute_error"])) == (18.0, 10.0)


def test_labels_out_of_range_are_refused_through_settings():
    net = fnet.serial(fnet.dense(2))
    loss = functools.partial(fnet.losses.cross_entropy, label_smoothing=0.1)
    with pytest.raises(ValueError, match="the label of example 1 is 2, but the network has 2 outputs"):
        fnet.train.fit(net, loss, optax.sgd(0.1), (np.ones((2, 3), np.float32), np.array([0, 2])))


def test_penalty_counts_weights_at_any_depth_and_nothing_else():
    params = {"block": {"dense_1": {"w": jnp.array([[-2.0]]), "b": jnp.array([9.0])}}, "n": {"scale": jnp.ones(3)}}
    assert float(penalty_of(params, Penalties(l1=1.0))) == 2.0
    assert float(penalty_of(params, Penalties(l2=1.0))) == 2.0


def test_penalty_of_each_layer_by_hand():
    """w = 2 everywhere. The longest path wins, for l1 and l2 separately; 0 removes a penalty."""
    w = {"w": jnp.array([[2.0]]), "b": jnp.array([100.0])}
    params = {"dense_1": w, "dense_10": w, "block": {"dense_1": w, "dense_2": w}}
    layers = {"dense_1": {"l1": 3.0}, "block": {"l2": 5.0}, "block/dense_2": {"l1": 7.0, "l2": 0.0}}
    expected = (3 * 2 + 2) + (1 * 2 + 2) + (1 * 2 + 5 * 2) + 7 * 2
    assert float(penalty_of(params, Penalties(l1=1.0, l2=1.0, layers=layers))) == expected
    assert float(penalty_of(params, Penalties(layers={"dense_1": {"l1": 3.0}}))) == 6.0


def test_penalties_are_plain_data():
    one = Penalties(l2=0.1, layers={"a": {"l1": 1.0, "l2": None}, "b": {"max_norm": 2}})
    same = Penalties(l2=0.1, layers={"b": {"max_norm": 2.0}, "a": {"l1": 1}})
    assert one == same
    assert hash(one) == hash(same)
    assert one != Penalties(l2=0.1, layers={"a": {"l1": 1.0}})
    assert not Penalties(layers={"a": {"l1": 0.0}}, max_norm=2.0).penalizes
    assert Penalties(layers={"a": {"l1": 1.0}}).penalizes


def test_penalties_are_declared_once_with_bounds_defaults_and_meanings():
    model = model_of(Penalties, None, ("layers",))
    assert model().model_dump() == {"l1": 0.0, "l2": 0.0, "max_norm": None}
    assert all(field.description for field in model.model_fields.values())
    assert set(explanations(Penalties)) == {field.name for field in dataclasses.fields(Penalties) if field.init}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"l1": -1}, "Penalties: l1: expected a value of at least 0, got -1"),
        ({"max_norm": 0}, "Penalties: max_norm: expected a value greater than 0, got 0"),
        ({"layers": {"a": {"l2": -1}}}, "l2: expected a value of at least 0, got -1, in the layer 'a'"),
        ({"layers": {"a": {"l3": 1}}}, "Penalties: layers: a: unknown key 'l3'; known: l1, l2, max_norm"),
    ],
)
def test_penalties_out_of_bounds_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Penalties(**values)


def test_penalties_of_a_layer_that_does_not_exist_are_refused():
    net = fnet.serial(fnet.serial(fnet.dense(2), name="block"), fnet.dense(1))
    make_step(net, "mse", optax.sgd(0.1), regularization=Penalties(layers={"block/dense_1": {}, "block": {}}))
    with pytest.raises(ValueError, match=r"regularization: no layer is called 'dens_1'; did you mean 'dense_1'\?"):
        make_step(net, "mse", optax.sgd(0.1), regularization=Penalties(layers={"dens_1": {"l2": 1.0}}))


def test_the_penalty_is_recorded_if_any_layer_has_one():
    x, y = np.ones((2, 3), np.float32), np.ones((2, 1), np.float32)
    net, optimizer = fnet.serial(fnet.dense(1)), optax.sgd(0.1)
    for penalties in (Penalties(layers={"dense_1": {"l2": 1.0}}), Penalties(max_norm=1.0)):
        fitted = fnet.train.fit(net, "mse", optimizer, (x, y), epochs=1, regularization=penalties)
        assert ("penalty" in fitted.history[0].values) == penalties.penalizes


def test_long_columns_are_scaled_down_and_short_ones_unchanged():
    """Columns of length 5, 0.5, 0 and 1 with max_norm 1; the column of a kernel is all weights into a channel."""
    w = jnp.array([[3.0, 0.3, 0.0, 0.6], [4.0, 0.4, 0.0, 0.8]])
    kernel = jnp.stack([jnp.full((2, 2, 4), 1.0), jnp.full((2, 2, 4), 0.1)], axis=-1)
    params = {"dense_1": {"w": w, "b": jnp.full(4, 9.0)}, "block": {"conv_1": {"w": kernel}}, "n": {"scale": 9 * w}}
    short = project_max_norm(params, Penalties(max_norm=1.0))
    np.testing.assert_allclose(short["dense_1"]["w"][:, 0], [0.6, 0.8], rtol=1e-6)
    assert (short["dense_1"]["w"][:, 1:3] == w[:, 1:3]).all()
    np.testing.assert_allclose(short["dense_1"]["w"][:, 3], [0.6, 0.8], rtol=1e-6)
    np.testing.assert_allclose(short["block"]["conv_1"]["w"][..., 0], np.full((2, 2, 4), 0.25), rtol=1e-6)
    assert (short["block"]["conv_1"]["w"][..., 1] == kernel[..., 1]).all()
    assert (short["dense_1"]["b"] == 9).all()
    assert (short["n"]["scale"] == 9 * w).all()


def test_short_columns_are_bitwise_unchanged(rng):
    """They are not multiplied by max_norm / sqrt(max_norm^2), which may not round to 1."""
    params = {"dense_1": {"w": jnp.asarray(rng.uniform(-0.3, 0.3, (4, 50)), jnp.float32)}}
    for max_norm in np.linspace(0.61, 9.0, 40):
        assert (project_max_norm(params, Penalties(max_norm=max_norm))["dense_1"]["w"] == params["dense_1"]["w"]).all()


def test_max_norm_of_each_layer():
    w = {"w": jnp.array([[3.0], [4.0]])}
    params = {"dense_1": w, "block": {"dense_1": w, "dense_2": w}}
    limits = Penalties(
        max_norm=2.5, layers={"block": {"max_norm": 1.0}, "block/dense_2": {"l1": 1.0, "max_norm": 10.0}}
    )
    short = project_max_norm(params, limits)
    lengths = [float(jnp.linalg.norm(p["w"])) for p in (short["dense_1"], *short["block"].values())]
    assert lengths == pytest.approx([2.5, 1.0, 5.0], rel=1e-6)
    assert project_max_norm(params, Penalties(layers={"block": {"max_norm": 1.0}}))["dense_1"]["w"] is w["w"]


def test_max_norm_holds_after_every_step_and_is_not_part_of_the_loss(rng):
    """The constraint scales the result of the unconstrained step; it is not a penalty."""
    net, optimizer = fnet.serial(fnet.dense(6), fnet.relu(), fnet.dense(1)), optax.sgd(0.5)
    before = start(net, optimizer)
    x = rng.standard_normal((8, 3)).astype(np.float32)
    batch = Batch(x, np.full((8, 1), 5.0, np.float32), np.ones(8, bool))
    free, free_metrics = make_step(net, "mse", optimizer)(before, batch)
    step = jax.jit(make_step(net, "mse", optimizer, regularization=Penalties(max_norm=1.2)))
    state, metrics = step(before, batch)
    w, free_w = (np.asarray(s.params["dense_1"]["w"]) for s in (state, free))
    lengths = np.linalg.norm(free_w, axis=0)
    assert lengths.min() < 1.2 < lengths.max()
    np.testing.assert_allclose(w, free_w * np.minimum(1, 1.2 / lengths), rtol=1e-5)
    np.testing.assert_allclose(state.params["dense_1"]["b"], free.params["dense_1"]["b"], rtol=1e-5)
    assert float(metrics.penalty) == 0
    assert float(metrics.loss) == pytest.approx(float(free_metrics.loss))
    for _ in range(5):
        state, _ = step(state, batch)
        for layer in state.params.values():
            assert (np.linalg.norm(layer["w"], axis=0) <= 1.2 * (1 + 1e-6)).all()


def test_a_step_with_max_norm_can_be_differentiated():
    """This includes a column of zeros, whose length has no derivative."""

    def total(params):
        return project_max_norm(params, Penalties(max_norm=1.0))["dense_1"]["w"].sum()

    slopes = jax.grad(total)({"dense_1": {"w": jnp.array([[0.0, 3.0], [0.0, 4.0]])}})["dense_1"]["w"]
    # d/dw sum(w) / |w| = 1 / |w| - sum(w) w / |w|^3
    np.testing.assert_allclose(slopes, [[1, 1 / 5 - 7 * 3 / 125], [1, 1 / 5 - 7 * 4 / 125]], rtol=1e-5)


@pytest.mark.parametrize("steps", [False, True])
def test_a_step_over_an_axis_equals_the_step_of_the_whole_batch(steps, rng):
    """Three devices with different numbers of real examples and different weights, with a penalty."""
    in_shape = (4, 3) if steps else (3,)
    net, optimizer = fnet.serial(fnet.dense(4), fnet.tanh(), fnet.dense(2)), optax.adam(0.1)
    before = start(net, optimizer, in_shape, averaged=True)
    x, y = rng.standard_normal((6, *in_shape)), rng.standard_normal((6, *in_shape[:-1], 2))
    mask = np.array([True, False, True, True, False, False])
    mask = mask[:, None] & (np.arange(4) < rng.integers(1, 5, (6, 1))) if steps else mask
    batch = Batch(x, y, mask, rng.uniform(0.5, 2.0, 6))
    divided = jax.tree.map(lambda leaf: leaf.reshape(3, 2, *leaf.shape[1:]), batch)
    settings = {"regularization": Penalties(l2=0.1), "ema": 0.9}
    alone, alone_metrics = jax.jit(make_step(net, "mse", optimizer, **settings))(before, batch)
    step = make_step(net, "mse", optimizer, axis_name="devices", **settings)
    together, metrics = jax.jit(jax.vmap(step, (None, 0), axis_name="devices"))(before, divided)
    for device in range(3):
        one, one_metrics = jax.tree.map(lambda leaf: leaf[device], (together, metrics))  # noqa: B023
        for part in ("params", "average"):
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
                getattr(one, part),
                getattr(alone, part),
            )
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), one_metrics, alone_metrics)


def test_an_objective_over_an_axis_returns_its_share(rng):
    net, optimizer = fnet.serial(fnet.dense(1)), optax.sgd(0.1)
    before = start(net, optimizer)
    x, y = rng.standard_normal((4, 3)), rng.standard_normal((4, 1))

    def share(params, state, batch, key):
        outputs, state = net.apply(params, state, batch.x, train=True, key=key, mask=batch.mask)
        return jnp.sum((outputs - batch.y) ** 2) / 4, (state, {})

    divided = Batch(x.reshape(2, 2, 3), y.reshape(2, 2, 1), np.ones((2, 2), bool))
    step = make_step(net, None, optimizer, objective=share, axis_name="devices")
    together, metrics = jax.jit(jax.vmap(step, (None, 0), axis_name="devices"))(before, divided)
    alone, alone_metrics = jax.jit(make_step(net, "mse", optimizer))(before, Batch(x, y, np.ones(4, bool)))
    np.testing.assert_allclose(together.params["dense_1"]["w"][1], alone.params["dense_1"]["w"], rtol=1e-5)
    np.testing.assert_allclose(metrics.loss[0], alone_metrics.loss, rtol=1e-5)
    assert metrics.weight.tolist() == [4, 4]


def test_float_settings_may_vary_in_a_population(rng):
    """Steps that differ in their penalties, constraint, smoothing and average, in one program and one by one."""
    net, optimizer = fnet.serial(fnet.dense(3), fnet.relu(), fnet.dense(2)), optax.sgd(0.5)
    before = start(net, optimizer, averaged=True)
    batch = Batch(rng.standard_normal((4, 3)).astype(np.float32), np.array([0, 1, 1, 0]), np.ones(4, bool))

    def step(l1, l2, max_norm, label_smoothing, ema):
        penalties = Penalties(l1=l1, l2=l2, layers={"dense_2": {"l2": 2 * l2}}, max_norm=max_norm)
        assert penalties.penalizes
        loss = functools.partial(fnet.losses.cross_entropy, label_smoothing=label_smoothing)
        after, metrics = make_step(net, loss, optimizer, regularization=penalties, ema=ema)(before, batch)
        return after.params, after.average, metrics

    settings = [np.array(values) for values in ([0.1, 0.2], [0.3, 0.01], [1.0, 0.5], [0.0, 0.2], [0.9, 0.5])]
    together = jax.jit(jax.vmap(step))(*settings)
    for member in range(2):
        alone = jax.jit(functools.partial(step, *(float(values[member]) for values in settings)))()
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a[member], b, rtol=1e-5, atol=1e-7),  # noqa: B023
            together,
            alone,
        )


def test_the_threshold_of_a_loss_may_vary_in_a_population(rng):
    outputs, targets = jnp.asarray(rng.standard_normal((5, 2))), jnp.zeros((5, 2))
    deltas = np.array([0.3, 2.0])
    together = jax.vmap(lambda delta: fnet.losses.huber(outputs, targets, delta=delta))(deltas)
    for member, delta in enumerate(deltas):
        alone = fnet.losses.huber(outputs, targets, delta=float(delta))
        np.testing.assert_allclose(together[member], alone, rtol=1e-6)


def test_a_rule_by_hand_receives_the_settings_of_its_loss():
    def rule(outputs, targets, *, delta):
        return outputs * delta, targets

    record = resolve_loss(LOSSES["huber"]._replace(reference=rule), {"delta": 2.0})
    assert record.reference(3.0, 1.0) == (6.0, 1.0)
    assert LOSSES["huber"].reference is None


def test_frozen_layers_are_neither_updated_nor_penalized_nor_tracked(rng):
    """The trained layers move as they do behind constant features."""
    trunk = fnet.serial(fnet.dense(3), fnet.tanh(), name="trunk")
    net = fnet.serial(fnet.frozen(trunk), fnet.dense(2, name="head"))
    head = fnet.serial(fnet.dense(2, name="head"))
    x, y = rng.standard_normal((6, 4)).astype(np.float32), rng.standard_normal((6, 2)).astype(np.float32)
    penalties = Penalties(l1=0.1, l2=0.3, max_norm=0.5)
    optimizer = optax.adamw(0.1, weight_decay=0.5)
    state = init_state(net, optimizer, jax.random.key(0), (4,))
    before = state.params["frozen_1"]
    features, _ = trunk.apply(before["trunk"], {}, x, train=False)
    params = {"head": state.params["head"]}
    alone = TrainState(state.step, params, {}, optimizer.init(params), state.key)
    tracked = jax.tree.leaves(state.opt_state)
    assert sum(leaf.size for leaf in tracked) == sum(leaf.size for leaf in jax.tree.leaves(alone.opt_state))
    step, step_alone = (jax.jit(make_step(one, "mse", optimizer, regularization=penalties)) for one in (net, head))
    for _ in range(3):
        state, metrics = step(state, Batch(x, y, np.ones(6, bool)))
        alone, expected = step_alone(alone, Batch(features, y, np.ones(6, bool)))
        np.testing.assert_allclose(metrics.penalty, expected.penalty, rtol=1e-6)
    assert same(state.params["frozen_1"], before)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), state.params["head"], alone.params["head"]
    )


def test_max_norm_applies_to_every_repetition_of_a_loop():
    unrolled, loop = (fnet.repeat(fnet.dense(3), times=2, scan=scan) for scan in (False, True))
    batch = Batch(jnp.ones((2, 3)), jnp.zeros((2, 3)), jnp.ones(2, bool))
    weights = []
    for net in (unrolled, loop):
        state = init_state(net, optax.sgd(0.0), jax.random.key(0), (3,))
        after, _ = make_step(net, "mse", optax.sgd(0.0), regularization=Penalties(max_norm=0.7))(state, batch)
        weights.append(after.params)
    expected = np.stack([part["dense_1"]["w"] for part in weights[0].values()])
    np.testing.assert_allclose(weights[1]["dense_1"]["w"], expected, rtol=1e-6)
    assert np.linalg.norm(expected, axis=1).max() < 0.7 + 1e-6
