"""Every float setting of every layer may be a traced number: the results are those of the concrete number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from layers.cases import FIRST, inputs, on_reals

from fnet.core.settings import model_of
from fnet.layers.vocabulary import CONSTRUCTORS

FLOATS = [
    (kind, setting)
    for kind, construct in CONSTRUCTORS.items()
    for setting, field in model_of(construct).model_fields.items()
    if field.annotation is float
]

VALUES = {"base": (3.0, 20.0)}
"""Values of the settings that 0.25 and 0.5 are not valid for."""


def test_the_float_settings_are_found():
    assert len(FLOATS) >= 15
    assert {("dropout", "rate"), ("lstm", "forget_bias"), ("batch_norm", "momentum")} <= {*FLOATS}


def made(kind, **settings):
    net = FIRST[kind].make()
    return CONSTRUCTORS[kind](*net.layers, **{**net.settings, **settings})


@pytest.mark.parametrize(("kind", "setting"), FLOATS)
def test_a_traced_setting_gives_the_results_of_the_concrete_one(kind, setting, rng):
    """Initial parameters, outputs, new state and gradients, for two values under vmap."""
    case, key = FIRST[kind], jax.random.key(2)
    x = on_reals(lambda part: part.astype(np.float32), inputs(rng, case))

    def results(value):
        net = made(kind, **{setting: value})
        params, state = net.init(key, case.in_shape)

        def loss(params, x):
            y, after = net.apply(params, state, x, train=True, key=key)
            return jnp.sum(jnp.sin(y + 1)), (y, after)

        gradients, outputs = jax.grad(loss, argnums=(0, 1), has_aux=True, allow_int=True)(params, x)
        return params, outputs, on_reals(lambda part: part, gradients)

    values = VALUES.get(setting, (0.25, 0.5))
    together = jax.jit(jax.vmap(results))(jnp.array(values))
    for i, value in enumerate(values):
        for traced, concrete in zip(jax.tree.leaves(together), jax.tree.leaves(results(value)), strict=True):
            if traced.dtype != jax.dtypes.float0:
                np.testing.assert_allclose(traced[i], concrete, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize(("kind", "setting"), FLOATS)
def test_a_traced_setting_does_not_widen_the_outputs(kind, setting, rng):
    case = FIRST[kind]
    x = on_reals(lambda part: part.astype(jnp.bfloat16), inputs(rng, case))

    def outputs(value, x):
        net = made(kind, **{setting: value})
        params, state = net.init(jax.random.key(0), case.in_shape)
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
        return net.apply(params, state, x, train=True, key=jax.random.key(1))[0]

    value = jnp.float32(VALUES.get(setting, (0.5,))[0])
    assert jax.eval_shape(outputs, value, x).dtype == jnp.bfloat16
