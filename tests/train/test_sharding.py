"""Training on several devices, in a process of its own, because JAX fixes the number of devices at its start."""

import subprocess
import sys
import textwrap

import pytest

START = """
    import os
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
    import jax, numpy as np, optax, fnet
    from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
    from fnet.train import Batch, Examples, fit, init_state, make_step
    from fnet.train.feed import on_device

    jax.config.update("jax_disable_most_optimizations", True)
    rng = np.random.default_rng(0)
    net, optimizer = fnet.serial(fnet.dense(3), fnet.tanh(), fnet.dense(1)), optax.adam(0.1)
    x, y = rng.standard_normal((6, 2)).astype(np.float32), rng.standard_normal((6, 1)).astype(np.float32)
    mask, weight = np.array([1, 0, 1, 1, 1, 1], bool), np.arange(1, 7).astype(np.float32)

    def close(first, second):
        for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
            np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-5, atol=1e-6)
"""

SHARD_MAP = """
    def normalized(**settings):
        return fnet.serial(fnet.dense(3, bias=False), fnet.batch_norm(**settings), fnet.tanh(), fnet.dense(1))

    mesh = jax.make_mesh((2,), ("devices",))
    batch, penalties = Batch(x, y, mask, weight), fnet.Penalties(l2=0.1)
    before = init_state(normalized(), optimizer, jax.random.key(0), (2,))
    alone = make_step(normalized(), "mse", optimizer, regularization=penalties)(before, batch)
    over = {"axis_name": "devices"}
    step = make_step(normalized(**over), "mse", optimizer, regularization=penalties, **over)
    divided = jax.device_put(batch, NamedSharding(mesh, P("devices")))
    for check in (True, False):
        mapped = jax.shard_map(step, mesh=mesh, in_specs=(P(), P("devices")), out_specs=P(), check_vma=check)
        after, metrics = jax.jit(mapped)(before, divided)
        close((after.params, after.state, metrics), (alone[0].params, alone[0].state, alone[1]))
"""

FIT = """
    whole = Examples(x, y, weight=weight)
    expected = fit(net, "mse", optimizer, whole, validation=whole, epochs=2, batch_size=4)
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((2,), ("devices",), axis_types=(kind,))
        data = jax.device_put(whole, NamedSharding(mesh, P("devices")))

        def asarray(values, *args, **kwargs):
            assert values is not data.x, "the examples are copied to the host"
            return original(values, *args, **kwargs)

        original, np.asarray = np.asarray, asarray
        fitted = fit(net, "mse", optimizer, data, validation=data, epochs=2, batch_size=4)
        np.asarray = original
        assert on_device(data).x is data.x
        close(fitted.params, expected.params)
        close(fitted.history[-1].values, expected.history[-1].values)
        assert len(fitted.params["dense_1"]["w"].sharding.device_set) == 2
"""


@pytest.mark.parametrize("code", [SHARD_MAP, FIT], ids=["a step in shard_map", "fit with divided examples"])
def test_two_devices_give_the_results_of_one(code):
    code = textwrap.dedent(START) + textwrap.dedent(code)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
