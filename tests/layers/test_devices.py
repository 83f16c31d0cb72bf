"""Every layer on two devices: on Auto and Explicit meshes and inside `jax.shard_map`, against a single device."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnet

TESTS = Path(__file__).parents[1]
MASK = np.array([[True, True, False], [False, False, False], [True, False, False], [True, True, True]])


@pytest.fixture(scope="module")
def failures():
    """Return the failures by context and layer, from a process that starts JAX with two devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, TESTS / "layers" / "run_on_devices.py"],
        env={**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": paths, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("context", ["auto", "explicit", "shard_map"])
def test_every_layer_works_on_two_devices(failures, context):
    """Outputs, state, tangents and gradients are those of a single device, in float64."""
    assert failures[context] == {}


def statistics_of_parts(layer, params, state, x, mask):
    """Return outputs, state and loss gradients with the batch in two parts under `vmap` with an axis name."""

    def loss(params, x):
        def part(x, mask):
            y, after = layer.apply(params, state, x, train=True, mask=mask)
            return jnp.sum(jnp.sin(y) * jnp.arange(1.0, 4.0)), (y, after)

        parts = x.reshape(2, 2, *x.shape[1:]), None if mask is None else mask.reshape(2, 2, *mask.shape[1:])
        losses, aux = jax.vmap(part, in_axes=(0, None if mask is None else 0), axis_name="data")(*parts)
        return jnp.sum(losses), aux

    (_, (y, after)), gradients = jax.value_and_grad(loss, (0, 1), has_aux=True)(params, x)
    return y.reshape(x.shape), after, gradients


@pytest.mark.parametrize("mask", [None, MASK[:, 0], MASK], ids=["all", "examples", "steps"])
def test_batch_norm_over_a_mapped_axis_is_that_of_the_whole_batch(mask, rng):
    """In float64: outputs, state and gradients; the state is equal in all parts. The parts have unequal masks."""
    with jax.enable_x64(True):
        x = jnp.asarray(rng.standard_normal((4, 3, 3)) + np.arange(4)[:, None, None])
        params = {"scale": jnp.asarray([1.0, 2.0, -0.5]), "shift": jnp.asarray([0.3, 0.0, 1.0])}
        state = {"mean": jnp.asarray([0.1, 0.2, 0.3]), "var": jnp.asarray([1.0, 2.0, 3.0])}
        mask = None if mask is None else jnp.asarray(mask)

        def loss(params, x):
            y, after = fnet.batch_norm().apply(params, state, x, train=True, mask=mask)
            return jnp.sum(jnp.sin(y) * jnp.arange(1.0, 4.0)), (y, after)

        (_, (y, after)), gradients = jax.value_and_grad(loss, (0, 1), has_aux=True)(params, x)
        parts = statistics_of_parts(fnet.batch_norm(axis_name="data"), params, state, x, mask)
        expected = y, jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), after), gradients
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12), expected, parts)
        alone = statistics_of_parts(fnet.batch_norm(), params, state, x, mask)
        assert np.abs(alone[0] - y).max() > 0.1


def test_batch_norm_without_real_entries_on_any_part_keeps_its_state():
    layer = fnet.batch_norm(axis_name="data")
    params, state = layer.init(jax.random.key(0), (3,))
    masks = jnp.zeros((2, 2), bool), jnp.array([[False, False], [True, False]])

    def after(x, mask):
        return layer.apply(params, state, x, train=True, mask=mask)[1]["mean"]

    x = jnp.full((2, 2, 3), 5.0)
    kept, updated = (jax.vmap(after, axis_name="data")(x, mask) for mask in masks)
    assert np.array_equal(kept, np.zeros((2, 3)))
    np.testing.assert_allclose(updated, np.full((2, 3), 0.5), rtol=1e-6)


def test_axis_name_has_no_effect_where_the_axis_is_not_mapped(rng):
    x = jnp.asarray(rng.standard_normal((4, 3)), jnp.float32)
    params, state = fnet.batch_norm().init(jax.random.key(0), (3,))
    plain, named = (
        layer.apply(params, state, x, train=True) for layer in (fnet.batch_norm(), fnet.batch_norm(axis_name="data"))
    )
    jax.tree.map(np.testing.assert_array_equal, plain, named)


def test_an_axis_name_that_the_mesh_does_not_have_is_refused():
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    layer = fnet.batch_norm(axis_name="date")
    params, state = layer.init(jax.random.key(0), (3,))
    spec = jax.sharding.PartitionSpec("data")
    expected = (
        "batch_norm: expected an axis of the mesh of this shard_map ('data',) as its axis_name, got 'date'; "
        "use the one that divides the batch"
    )
    with pytest.raises(ValueError, match=re.escape(expected)):
        jax.shard_map(lambda x: layer.apply(params, state, x, train=True)[0], mesh=mesh, in_specs=spec, out_specs=spec)(
            jnp.ones((2, 3))
        )


def test_axis_name_is_described():
    net = fnet.build([{"batch_norm": {"axis_name": "data"}}])
    assert net.children[0][1].settings["axis_name"] == "data"
    assert fnet.describe(net)[0]["batch_norm"]["axis_name"] == "data"
