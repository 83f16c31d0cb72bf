import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnet
from fnet.reference.rule import Scope, rule_of

# Mean 3 and biased variance 3.5, so that with eps = 0.5 the division is by 2.
VALUES = [1.0, 2.0, 3.0, 6.0]
XHAT = [-1.0, -0.5, 0.0, 1.5]
STEPS = np.array([[True, True, False], [True, False, False], [False, False, False], [True, True, True]])


def perturbed(layer, in_shape, rng):
    """Return parameters and state that differ from their initial values, so that each of them has an effect."""
    tree = layer.init(jax.random.key(0), in_shape)
    return jax.tree.map(lambda leaf: leaf + jnp.asarray(rng.uniform(0.1, 1, leaf.shape), leaf.dtype), tree)


def passes(layer, params, state, x, g, *, train=True, mask=None):
    """Return the outputs, the cotangents of the parameters and of x, and the new state."""

    def f(params, x):
        return layer.apply(params, state, x, train=train, mask=mask)

    y, pull, after = jax.vjp(f, params, x, has_aux=True)
    return y, *pull(g), after


@pytest.mark.parametrize(
    ("layer", "axis"),
    [(fnet.batch_norm(eps=0.5), 0), (fnet.layer_norm(eps=0.5), 1), (fnet.group_norm(1, eps=0.5), 1)],
    ids=["batch_norm", "layer_norm", "group_norm"],
)
def test_standardized_by_hand(layer, axis):
    """With h = (2, 0, 0, 0): sum h = 2, sum h xhat = -2 and dx = (h - (2 - 2 xhat) / 4) / 2, which sums to 0."""
    x = jnp.expand_dims(jnp.array(VALUES), 1 - axis)
    channels = x.shape[1]
    params = {"scale": jnp.full(channels, 2.0), "shift": jnp.full(channels, 10.0)}
    _, state = layer.init(jax.random.key(0), (channels,))
    g = jnp.zeros(x.shape).at[0, 0].set(1.0)
    y, params_bar, dx, _ = passes(layer, params, state, x, g)
    np.testing.assert_allclose(y.reshape(-1), [8.0, 9.0, 10.0, 13.0], rtol=1e-6)
    np.testing.assert_allclose(dx.reshape(-1), [0.5, -0.375, -0.25, 0.125], rtol=1e-6)
    assert params_bar["scale"].tolist() == [-1.0, 0.0, 0.0, 0.0][:channels]
    assert params_bar["shift"].tolist() == [1.0, 0.0, 0.0, 0.0][:channels]


def test_reference_by_hand():
    """The same numbers, without JAX."""
    layer, x = fnet.batch_norm(eps=0.5), np.array(VALUES)[:, None]
    scope = Scope({"scale": np.array([2.0]), "shift": np.array([10.0])}, train=True)
    rule = rule_of(fnet.batch_norm())
    y, cache = rule.forward(layer, scope, x)
    dx, gradients = rule.backward(layer, scope, cache, np.array([[1.0], [0.0], [0.0], [0.0]]))
    assert y[:, 0].tolist() == [8.0, 9.0, 10.0, 13.0]
    assert dx[:, 0].tolist() == [0.5, -0.375, -0.25, 0.125]
    assert (gradients["scale"].tolist(), gradients["shift"].tolist()) == ([-1.0], [1.0])


def test_rms_norm_by_hand():
    """The mean of the squares of (2, 4) is 10; with eps = 6 the division is by 4."""
    layer = fnet.rms_norm(eps=6.0)
    y, params_bar, dx, _ = passes(
        layer, {"scale": jnp.array([1.0, 3.0])}, {}, jnp.array([[2.0, 4.0]]), jnp.array([[1.0, 0.0]])
    )
    np.testing.assert_allclose(y, [[0.5, 3.0]], rtol=1e-6)
    # dx = (h - xhat sum h xhat / 2) / 4, with h = (1, 0) and xhat = (0.5, 1)
    np.testing.assert_allclose(dx, [[(1 - 0.5 * 0.25) / 4, -0.25 / 4]], rtol=1e-6)
    np.testing.assert_allclose(params_bar["scale"], [0.5, 0.0], rtol=1e-6)


def test_groups_are_neighboring_channels():
    """Two groups of two channels over two positions: VALUES, and 10 times VALUES."""
    x = jnp.array([[[1.0, 2.0, 10.0, 20.0], [3.0, 6.0, 30.0, 60.0]]])
    y, _ = fnet.group_norm(2, eps=0.5, scale=False, shift=False).apply({}, {}, x, train=False)
    scaled = np.array(XHAT) * 2 * 10 / np.sqrt(350.5)
    np.testing.assert_allclose(y[0, :, :2].reshape(-1), XHAT, rtol=1e-6)
    np.testing.assert_allclose(y[0, :, 2:].reshape(-1), scaled, rtol=1e-6)


def test_group_norm_includes_layer_norm_and_instance_norm(rng):
    x = rng.standard_normal((2, 3, 5, 4)).astype(np.float32)
    for groups, axes in ((1, (1, 2, 3)), (4, (1, 2))):
        y, _ = fnet.group_norm(groups, scale=False, shift=False).apply({}, {}, x, train=False)
        expected = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_running_statistics_follow_the_formula(rng):
    """mean := momentum mean + (1 - momentum) mu, var := momentum var + (1 - momentum) v, with the biased v."""
    layer = fnet.batch_norm(momentum=0.75)
    params, state = layer.init(jax.random.key(0), (4, 3))
    mean, var = np.zeros(3), np.ones(3)
    for _ in range(3):
        x = 5 + 2 * rng.standard_normal((2, 4, 3))
        _, state = layer.apply(params, state, x.astype(np.float32), train=True)
        mean = 0.75 * mean + 0.25 * x.mean((0, 1))
        var = 0.75 * var + 0.25 * x.var((0, 1))
    np.testing.assert_allclose(state["mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(state["var"], var, rtol=1e-5)


def test_evaluation_uses_the_state_and_does_not_change_it(rng):
    layer = fnet.batch_norm(eps=0.25)
    params, state = perturbed(layer, (3,), rng)
    x = rng.standard_normal((5, 3)).astype(np.float32)
    y, after = layer.apply(params, state, x, train=False, mask=np.array([True, False, True, True, False]))
    expected = params["scale"] * (x - state["mean"]) / np.sqrt(state["var"] + 0.25) + params["shift"]
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    assert jax.tree.all(jax.tree.map(np.array_equal, after, state))


def test_state_does_not_change_outputs_in_training(rng):
    layer = fnet.batch_norm()
    params, state = perturbed(layer, (3,), rng)
    x = jnp.asarray(rng.standard_normal((5, 3)), jnp.float32)
    gradients = jax.grad(lambda state: jnp.sum(jnp.sin(layer.apply(params, state, x, train=True)[0])))(state)
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize("in_shape", [(3,), (2, 3), (2, 4, 3)])
def test_masked_examples_have_no_effect(in_shape, rng):
    """Outputs, gradients and state are those of the batch without the masked examples."""
    layer, mask = fnet.batch_norm(), np.array([True, False, True, True, False])
    params, state = perturbed(layer, in_shape, rng)
    x = (3 + rng.standard_normal((5, *in_shape))).astype(np.float32)
    x[~mask] *= 1000
    g = rng.standard_normal(x.shape).astype(np.float32)
    g[~mask] = 0
    y, params_bar, dx, after = passes(layer, params, state, x, g, mask=mask)
    short = passes(layer, params, state, x[mask], g[mask])
    for actual, expected in zip(
        jax.tree.leaves((y[mask], params_bar, dx[mask], after)), jax.tree.leaves(short), strict=True
    ):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
    assert not dx[~mask].any()


def test_masked_examples_are_normalized_too(rng):
    layer = fnet.batch_norm(eps=0.5)
    params, state = layer.init(jax.random.key(0), (1,))
    x = jnp.array([*VALUES, 7.0])[:, None]
    y, _ = layer.apply(params, state, x, train=True, mask=np.array([True] * 4 + [False]))
    np.testing.assert_allclose(y[:, 0], [*XHAT, 2.0], rtol=1e-6)


@pytest.mark.parametrize("in_shape", [(3, 2), (3, 4, 2)])
def test_masked_steps_have_no_effect(in_shape, rng):
    """With a (batch, time) mask the statistics are those of a batch of all real steps."""
    layer = fnet.batch_norm()
    params, state = perturbed(layer, in_shape, rng)
    x = rng.standard_normal((4, *in_shape)).astype(np.float32)
    x[~STEPS] = 1e6
    y, after = layer.apply(params, state, x, train=True, mask=STEPS)
    real_y, real_after = layer.apply(params, state, x[STEPS], train=True)
    np.testing.assert_allclose(y[STEPS], real_y, rtol=1e-5, atol=1e-6)
    for actual, expected in zip(jax.tree.leaves(after), jax.tree.leaves(real_after), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_without_a_time_axis_an_example_is_real_if_any_step_is(rng):
    layer = fnet.batch_norm()
    params, state = perturbed(layer, (3,), rng)
    x = rng.standard_normal((4, 3)).astype(np.float32)
    y, after = layer.apply(params, state, x, train=True, mask=STEPS)
    expected, state = layer.apply(params, state, x, train=True, mask=STEPS.any(axis=1))
    assert np.array_equal(y, expected)
    assert jax.tree.all(jax.tree.map(np.array_equal, after, state))


def test_group_norm_of_a_padded_sequence_is_that_of_the_short_one(rng):
    layer = fnet.group_norm(2)
    params, state = perturbed(layer, (3, 4), rng)
    x = rng.standard_normal((4, 3, 4)).astype(np.float32)
    y, _ = layer.apply(params, state, x, train=True, mask=STEPS)
    for example, steps, outputs in zip(x, STEPS, y, strict=True):
        if steps.any():
            short, _ = layer.apply(params, state, example[None, steps], train=True)
            np.testing.assert_allclose(outputs[steps], short[0], rtol=1e-4, atol=1e-5)
    assert np.isfinite(y).all()


def test_group_norm_ignores_a_mask_of_examples(rng):
    layer = fnet.group_norm(2)
    params, state = perturbed(layer, (3, 4), rng)
    x = rng.standard_normal((2, 3, 4)).astype(np.float32)
    y, _ = layer.apply(params, state, x, train=True, mask=np.array([True, False]))
    assert np.array_equal(y, layer.apply(params, state, x, train=True)[0])


def test_a_fully_masked_batch_does_not_divide_by_zero(rng):
    """Outputs and gradients are finite, and the state does not change."""
    layer = fnet.batch_norm()
    params, state = perturbed(layer, (2,), rng)
    x, g = rng.standard_normal((2, 3, 2)).astype(np.float32)
    y, params_bar, dx, after = passes(layer, params, state, x, g, mask=np.zeros(3, bool))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((y, params_bar, dx)))
    assert jax.tree.all(jax.tree.map(np.array_equal, after, state))


@pytest.mark.parametrize("mask", [None, np.array([False, True, False])], ids=["batch of one", "one real example"])
def test_a_single_value_gives_the_shift(mask, rng):
    layer = fnet.batch_norm()
    params, state = perturbed(layer, (4,), rng)
    x = rng.standard_normal((1 if mask is None else 3, 4)).astype(np.float32)
    y, _, dx, after = passes(layer, params, state, x, np.ones_like(x), mask=mask)
    real_example = 0 if mask is None else 1
    assert np.array_equal(y[real_example], params["shift"])
    assert np.isfinite(dx).all()
    np.testing.assert_allclose(after["var"], 0.9 * state["var"], rtol=1e-6)


@pytest.mark.parametrize("mask", [None, np.ones(256, bool)], ids=["no mask", "mask"])
def test_variance_survives_a_large_mean(mask, rng):
    """E[x^2] - E[x]^2 of these numbers in float32 is wrong in every digit, and often negative."""
    x = (1e4 + 0.1 * rng.standard_normal((256, 32))).astype(np.float32)
    naive = np.mean(x**2, 0) - np.mean(x, 0) ** 2
    assert (naive < 0).any()
    layer = fnet.batch_norm(momentum=0.0)
    params, state = layer.init(jax.random.key(0), (32,))
    y, after = layer.apply(params, state, x, train=True, mask=mask)
    np.testing.assert_allclose(after["var"], np.var(x.astype(np.float64), 0), rtol=0.01)
    np.testing.assert_allclose(np.std(y, 0), 1, rtol=0.01)
    _, after = layer.apply(params, state, np.full((256, 32), 12345.678, np.float32), train=True, mask=mask)
    assert (after["var"] >= 0).all()


def test_shifting_the_input_has_no_effect_in_training(rng):
    """Neither has a bias before batch_norm, so that the cotangent of x sums to 0 over the batch."""
    layer = fnet.batch_norm()
    params, state = perturbed(layer, (3,), rng)
    x, g = rng.standard_normal((2, 6, 3)).astype(np.float32)
    y, _, dx, _ = passes(layer, params, state, x, g)
    np.testing.assert_allclose(layer.apply(params, state, x + 7, train=True)[0], y, atol=1e-5)
    np.testing.assert_allclose(dx.sum(0), 0, atol=1e-5)


def test_statistics_of_bfloat16_are_float32(rng):
    """In bfloat16 the sum of many numbers around 10 would stop growing at 2048."""
    x = jnp.asarray(10 + rng.standard_normal((4096, 2)), jnp.bfloat16)
    layer = fnet.batch_norm(momentum=0.0)
    params, state = layer.init(jax.random.key(0), (2,))
    y, after = layer.apply(params, state, x, train=True)
    assert (y.dtype, after["mean"].dtype, after["var"].dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)
    exact = np.asarray(x, np.float64)
    np.testing.assert_allclose(after["mean"], exact.mean(0), rtol=1e-5)
    np.testing.assert_allclose(after["var"], exact.var(0), rtol=1e-4)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float64])
def test_the_second_step_does_not_recompile(dtype, rng):
    """The state remains float32, whatever the dtype of the input."""
    layer = fnet.batch_norm()
    params, state = jax.jit(layer.init, static_argnums=1)(jax.random.key(0), (3,))
    with jax.enable_x64(dtype == jnp.float64):
        x, mask = jnp.asarray(rng.standard_normal((4, 3)), dtype), jnp.ones(4, bool)
        step = jax.jit(lambda state, x: layer.apply(params, state, x, train=True, mask=mask)[1])
        after = step(state, x)
        assert jax.tree.map(jax.typeof, after) == jax.tree.map(jax.typeof, state)
        step(after, x)
        assert step._cache_size() == 1


def test_members_of_a_population_have_separate_statistics(rng):
    layer = fnet.batch_norm()
    params, state = perturbed(layer, (3,), rng)
    x = rng.standard_normal((2, 5, 3)).astype(np.float32)
    masks = np.array([[True] * 5, [True, False, True, True, False]])
    together = jax.vmap(lambda x, mask: layer.apply(params, state, x, train=True, mask=mask))(x, masks)
    for number in range(2):
        alone = layer.apply(params, state, x[number], train=True, mask=masks[number])
        for actual, expected in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(actual[number], expected, rtol=1e-5, atol=1e-6)


def test_leaves_and_their_initial_values():
    net = fnet.serial(
        fnet.batch_norm(), fnet.batch_norm(scale=False, shift=False), fnet.layer_norm(scale=False), fnet.rms_norm()
    )
    params, state = net.init(jax.random.key(0), (2, 3))
    ones, zeros = [1.0] * 3, [0.0] * 3
    assert jax.tree.map(lambda leaf: leaf.tolist(), params, is_leaf=lambda leaf: hasattr(leaf, "tolist")) == {
        "batch_norm_1": {"scale": ones, "shift": zeros},
        "layer_norm_1": {"shift": zeros},
        "rms_norm_1": {"scale": ones},
    }
    assert set(state) == {"batch_norm_1", "batch_norm_2"}
    assert state["batch_norm_2"]["mean"].tolist() == zeros
    assert state["batch_norm_2"]["var"].tolist() == ones


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fnet.batch_norm(momentum=1.0), "batch_norm: momentum: expected a value less than 1, got 1"),
        (lambda: fnet.batch_norm(momentum=-0.1), "batch_norm: momentum: expected a value of at least 0, got -0.1"),
        (lambda: fnet.batch_norm(eps=0.0), "batch_norm: eps: expected a value greater than 0, got 0"),
        (lambda: fnet.layer_norm(scale=1), "layer_norm: scale: expected true or false, got 1"),
        (lambda: fnet.group_norm(0), "group_norm: groups: expected a value of at least 1, got 0"),
        (lambda: fnet.rms_norm(eps="small"), "rms_norm: eps: expected a number, got 'small'"),
    ],
)
def test_invalid_settings_are_named(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_groups_must_divide_the_channels():
    net, plain = fnet.serial(fnet.group_norm(4)), fnet.serial(fnet.group_norm(4, scale=False, shift=False))
    message = re.escape(
        "group_norm_1: its groups must divide the number of channels, got 4 groups and 6 channels in (5, 6); "
        "use a divisor of 6"
    )
    for attempt in (
        lambda: net.shape((5, 6)),
        lambda: net.init(jax.random.key(0), (5, 6)),
        lambda: plain.apply({}, {}, np.ones((2, 5, 6)), train=False),
    ):
        with pytest.raises(fnet.ShapeError, match=f"^{message}$"):
            attempt()


@pytest.mark.parametrize("layer", [fnet.batch_norm(), fnet.layer_norm(), fnet.group_norm(2), fnet.rms_norm()])
def test_errors_for_invalid_inputs_name_the_expected_shape(layer):
    net = fnet.serial(layer)
    params, state = net.init(jax.random.key(0), (4,))
    for received in ((3, 6), (3,)):
        message = re.escape(
            f"{layer.kind}_1: expects (batch, ..., 4), the shape that it was initialized for, got {received}; "
            "put the channels last, or initialize it for this shape"
        )
        with pytest.raises(fnet.ShapeError, match=f"^{message}$"):
            net.apply(params, state, np.ones(received, np.float32), train=False)
    for attempt in (net.shape, lambda in_shape: net.init(jax.random.key(0), in_shape)):
        with pytest.raises(
            fnet.ShapeError,
            match=rf"^{layer.kind}_1: expects examples with at least one axis, \(\.\.\., channels\), got",
        ):
            attempt(())


def test_invalid_inputs_of_a_layer_without_parameters():
    with pytest.raises(
        fnet.ShapeError, match=r"^rms_norm: expects \(batch, \.\.\., channels\), got \(3,\); put a reshape before it$"
    ):
        fnet.rms_norm(scale=False).apply({}, {}, np.ones(3), train=False)


@pytest.mark.parametrize("mask", [np.ones(3, bool), np.ones((4, 3), bool), np.ones((4, 2, 5), bool)])
def test_a_mask_of_another_shape_is_refused(mask):
    layer = fnet.batch_norm()
    params, state = layer.init(jax.random.key(0), (2, 5))
    message = re.escape(
        f"batch_norm: expects a mask (batch,) or (batch, time) that matches its input (4, 2, 5), got {mask.shape}; "
        "make the mask as long as the input of this layer"
    )
    with pytest.raises(fnet.ShapeError, match=f"^{message}$"):
        layer.apply(params, state, np.ones((4, 2, 5), np.float32), train=True, mask=mask)


@pytest.mark.parametrize("norm", [fnet.layer_norm, fnet.batch_norm])
def test_compiled_code_grows_in_proportion_to_depth(norm):
    """XLA must not compute the sum of all previous residual blocks anew in each block."""

    def lines(depth):
        net = fnet.serial(*[fnet.residual(norm(), fnet.dense(4), fnet.tanh(), fnet.dense(4)) for _ in range(depth)])
        params, state = jax.eval_shape(lambda key: net.init(key, (4,)), jax.random.key(0))
        step = jax.jit(jax.grad(lambda params, state, x: net.apply(params, state, x, train=True)[0].sum()))
        x = jax.ShapeDtypeStruct((3, 4), jnp.float32)
        return len(step.lower(params, state, x).compile().as_text().splitlines())

    jax.config.update("jax_disable_most_optimizations", False)
    try:
        assert lines(6) < 2.1 * lines(3)
    finally:
        jax.config.update("jax_disable_most_optimizations", True)
