"""Properties of every layer, tested on the table of all layers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from layers.cases import ALL, BY_HAND, CASES, FIRST, WITHOUT_RULE, inputs, is_real, on_reals
from ruamel.yaml import YAML

import fnet
from fnet.core.layer import walk
from fnet.gradcheck.noise import draw_noise
from fnet.layers.vocabulary import CONSTRUCTORS
from fnet.reference.network import backward, forward
from fnet.reference.rule import Rule, Scope, rule_of

every_case = pytest.mark.parametrize("case", [case for _, case in ALL], ids=[name for name, _ in ALL])
every_rule = pytest.mark.parametrize("case", [case for _, case in BY_HAND], ids=[name for name, _ in BY_HAND])
both_modes = pytest.mark.parametrize("train", [False, True], ids=["apply", "train"])
every_kind = pytest.mark.parametrize("case", FIRST.values(), ids=FIRST.keys())


def initialized(case):
    return _initialized(case.make, case.in_shape)


@functools.cache
def _initialized(make, in_shape):
    """Return the network with perturbed parameters and state; the arrays are the same for all tests of a case."""
    net = make()
    rng = np.random.default_rng(1)
    initial = jax.jit(net.init, static_argnums=1)(jax.random.key(1), in_shape)
    params, state = jax.tree.map(
        lambda leaf: jnp.asarray(np.asarray(leaf) + np.float32(0.1) * rng.random(leaf.shape, np.float32)), initial
    )
    return net, params, state


def as_float32(x):
    return on_reals(lambda part: part.astype(np.float32), x)


def takes_indices(x):
    return not any(map(is_real, jax.tree.leaves(x)))


def largest_relative(a, b):
    scale = max(np.max(np.abs(a), initial=0), np.max(np.abs(b), initial=0))
    return np.max(np.abs(a - b), initial=0) / scale if scale else 0.0


def test_every_public_layer_is_in_the_table():
    constructors = {name for name in fnet.__all__ if name in CONSTRUCTORS}
    assert constructors == set(CONSTRUCTORS) == set(CASES)


def test_every_public_layer_has_a_hand_written_rule():
    for kind in CASES.keys() - WITHOUT_RULE:
        net = FIRST[kind].make()
        assert isinstance(rule_of(net if net.expansion is None else net.expansion), Rule)


def parts_of(x):
    """Return the arrays of an input, one or a tuple of several."""
    return x if isinstance(x, tuple) else (x,)


def scope_of(net, params, state, x, *, train, mask):
    """Return the reference's scope, with dropout masks, and the key with which JAX draws the same masks."""
    key = jax.random.key(11)
    noise = draw_noise(net, params, state, x, key) if train else {}
    params, state = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (params, state))
    return Scope(params, state, noise, train, mask), key


@both_modes
@every_rule
def test_hand_and_jax_agree(case, train, rng):
    """Outputs and all gradients agree within 1e-10 in float64, for a random cotangent of the outputs."""
    net, params, state = initialized(case)
    x, mask = inputs(rng, case), case.mask
    scope, key = scope_of(net, params, state, x, train=train, mask=mask)
    with jax.enable_x64(True):

        def f(params, x):
            return net.apply(params, scope.state, x, train=train, key=key, mask=mask)[0]

        @jax.jit
        def pulled(params, x, g):
            y, pull = jax.vjp(f, params, x)
            return y, pull(g)

        g = rng.standard_normal(jax.eval_shape(f, scope.params, x).shape)
        y, (params_bar, x_bar) = jax.tree.map(np.asarray, pulled(scope.params, x, g))
    by_hand, cache = forward(net, scope, x)
    dx, gradients = backward(net, scope, cache, g)
    assert largest_relative(by_hand, y) <= 1e-10
    for part, actual, expected in zip(*map(parts_of, (x, dx, x_bar)), strict=True):
        if np.issubdtype(part.dtype, np.bool_):
            assert actual is None
            continue
        expected = expected if is_real(part) else np.zeros(part.shape)
        assert actual.shape == expected.shape
        assert largest_relative(actual, expected) <= 1e-10
    assert jax.tree.structure(gradients) == jax.tree.structure(params_bar)
    for actual, expected in zip(jax.tree.leaves(gradients), jax.tree.leaves(params_bar), strict=True):
        assert actual.shape == expected.shape
        zero_up_to_rounding = max(np.abs(actual).max(), np.abs(expected).max()) <= 1e-14
        assert zero_up_to_rounding or largest_relative(actual, expected) <= 1e-10


@both_modes
@every_rule
def test_hand_agrees_with_numeric_differences(case, train, rng):
    """Central differences of <g, f> in float64, for every entry of the input and of the parameters."""
    net, params, state = initialized(case)
    x = inputs(rng, case)
    scope, _ = scope_of(net, params, state, x, train=train, mask=case.mask)
    scope = scope._replace(params=jax.tree.map(np.array, scope.params))
    y, cache = forward(net, scope, x)
    g = rng.standard_normal(y.shape)
    dx, gradients = backward(net, scope, cache, g)

    def value():
        return float(np.sum(g * forward(net, scope, x)[0]))

    # The gradient of frozen parameters is 0 by definition.
    constant = tuple("/".join(path) for path, layer in walk(net) if layer.kind == "frozen")
    pairs = zip(fnet.leaves(net, scope.params), fnet.leaves(net, gradients), strict=True)
    for array, gradient in [
        *((part, d) for part, d in zip(parts_of(x), parts_of(dx), strict=True) if is_real(part)),
        *((array, gradient) for (name, array), (_, gradient) in pairs if not name.startswith(constant)),
    ]:
        numeric = np.empty(array.shape)
        for index in np.ndindex(array.shape):
            entry, h = array[index], 1e-5
            array[index] = entry + h
            above = value()
            array[index] = entry - h
            below = value()
            array[index] = entry
            numeric[index] = (above - below) / (2 * h)
        assert np.max(np.abs(numeric - gradient), initial=0) <= 1e-6 * max(1, np.max(np.abs(gradient), initial=0))


@every_case
def test_shape_agrees_with_the_outputs_of_apply(case, rng):
    net, params, state = initialized(case)
    x = as_float32(inputs(rng, case))
    y, _ = jax.eval_shape(lambda x: net.apply(params, state, x, train=False), x)
    assert y.shape == (3, *net.shape(case.in_shape))


@every_case
def test_description_round_trip_gives_the_same_network(case, rng):
    net, params, state = initialized(case)
    again = fnet.build(fnet.describe(net))
    x = as_float32(inputs(rng, case))

    def computed(net):
        """Return the initial parameters, and the outputs."""

        @jax.jit
        def both(key, params, state, x):
            return net.init(key, case.in_shape), net.apply(params, state, x, train=False)[0]

        return both(jax.random.key(7), params, state, x)

    assert jax.tree.all(jax.tree.map(np.array_equal, computed(net), computed(again)))
    assert fnet.describe(again) == fnet.describe(net)


@every_kind
def test_description_survives_yaml(case, tmp_path):
    description = [fnet.describe(case.make())]
    yaml = YAML(typ="safe")
    yaml.dump(description, tmp_path / "net.yaml")
    assert fnet.describe(fnet.build(yaml.load(tmp_path / "net.yaml"))) == fnet.describe(fnet.build(description))


@every_kind
def test_jit_does_not_change_the_outputs(case, rng):
    net, params, state = initialized(case)
    x = as_float32(inputs(rng, case))
    key = jax.random.key(0)
    plain, _ = net.apply(params, state, x, train=True, key=key)
    jitted, _ = jax.jit(net.apply, static_argnames="train")(params, state, x, train=True, key=key)
    np.testing.assert_allclose(plain, jitted, rtol=1e-6, atol=1e-6)


@every_kind
def test_jvp_is_the_transpose_of_vjp(case, rng):
    """<g, J v> = <J^T g, v> for random g and v."""
    net, params, state = initialized(case)
    x = inputs(rng, case)
    with jax.enable_x64(True):
        params, state = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (params, state))

        def f(params, x):
            return net.apply(params, state, x, train=False)[0]

        def tangent(leaf):
            return rng.standard_normal(leaf.shape) if is_real(leaf) else np.zeros(leaf.shape, jax.dtypes.float0)

        tangents = jax.tree.map(tangent, (params, jax.tree.map(jnp.asarray, x)))
        _, pushed = jax.jit(lambda *primals: jax.jvp(f, primals, tangents))(params, x)
        g = rng.standard_normal(pushed.shape)
        pulled = jax.jit(lambda *primals: jax.vjp(f, *primals)[1](jnp.asarray(g)))(params, x)
        pairs = zip(jax.tree.leaves(pulled), jax.tree.leaves(tangents), strict=True)
        right = sum(np.vdot(a, b) for a, b in pairs if b.dtype != jax.dtypes.float0)
        np.testing.assert_allclose(np.vdot(g, pushed), right, rtol=1e-12, atol=1e-12)


@every_kind
def test_hessian_is_symmetric(case, rng):
    """With respect to the input, or to the parameters if the input consists of indices."""
    net, params, state = initialized(case)
    x = inputs(rng, case, batch=1)
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
        real = [part for part in parts_of(x) if is_real(part)]
        flat, restored = ravel_pytree(jax.tree.map(jnp.asarray, real or params))

        def f(flat):
            parts = iter(restored(flat))
            arguments = (params, on_reals(lambda _: next(parts), x)) if real else (restored(flat), x)
            return jnp.sum(jnp.sin(net.apply(arguments[0], state, arguments[1], train=False)[0]))

        hessian = np.asarray(jax.jit(jax.hessian(f))(flat))
        np.testing.assert_allclose(hessian, hessian.T, atol=1e-12)
        assert np.isfinite(hessian).all()


@every_kind
def test_vmap_over_parameters_agrees_with_a_loop(case, rng):
    net, params, state = initialized(case)
    x = as_float32(inputs(rng, case))
    members = [jax.tree.map(lambda leaf, factor=factor: factor * np.asarray(leaf), params) for factor in (1, -0.5, 2)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *members)

    @jax.jit
    def f(params, x):
        return net.apply(params, state, x, train=False)[0]

    inputs_of = [jax.tree.map(lambda part, shift=shift: part + shift, x) for shift in (0, 1, -1)]
    together = np.asarray(jax.jit(jax.vmap(f, axis_size=3))(stacked, jax.tree.map(lambda *x: np.stack(x), *inputs_of)))
    for member, x, y in zip(members, inputs_of, together, strict=True):
        np.testing.assert_allclose(f(member, x), y, rtol=1e-5, atol=1e-6)


@every_kind
def test_bfloat16_stays_bfloat16(case, rng):
    net, params, state = initialized(case)
    x = inputs(rng, case)
    params16 = jax.tree.map(lambda leaf: np.asarray(leaf).astype(jnp.bfloat16), params)
    apply = jax.jit(net.apply, static_argnames="train")
    y16, _ = apply(params16, state, on_reals(lambda part: part.astype(jnp.bfloat16), x), train=False)
    y, _ = apply(params, state, as_float32(x), train=False)
    assert y16.dtype == jnp.bfloat16 or (takes_indices(x) and not params)
    np.testing.assert_allclose(np.asarray(y16, np.float32), y, rtol=0.1, atol=0.1)


@every_kind
def test_examples_are_independent(case, rng):
    """The output of an example is the same alone and within a batch."""
    net, params, state = initialized(case)
    x = as_float32(inputs(rng, case))
    apply = jax.jit(net.apply, static_argnames="train")
    whole, _ = apply(params, state, x, train=False)
    for number in range(3):
        alone, _ = apply(params, state, jax.tree.map(lambda part: part[number : number + 1], x), train=False)  # noqa: B023
        np.testing.assert_allclose(alone[0], whole[number], rtol=1e-5, atol=1e-6)


@every_kind
def test_apply_preserves_the_structure_of_the_state(case, rng):
    net, params, state = initialized(case)
    x = as_float32(inputs(rng, case))
    for train in (True, False):
        apply = functools.partial(net.apply, train=train)
        _, after = jax.eval_shape(apply, params, state, x, key=jax.random.key(0), mask=np.ones(3, bool))
        assert jax.tree.structure(after) == jax.tree.structure(state)


@every_kind
def test_train_is_a_python_bool(case, rng):
    net, params, state = initialized(case)
    with pytest.raises(TypeError, match="train must be a Python bool: jit with static_argnames='train'"):
        net.apply(params, state, inputs(rng, case), train=jnp.array(True))
    with pytest.raises(TypeError, match="apply needs train: train=True for batch statistics and dropout"):
        net.apply(params, state, inputs(rng, case))


@every_kind
def test_print_shows_the_kind(case):
    net = case.make()
    assert net.kind in str(net)
    assert net.kind in repr(net)
