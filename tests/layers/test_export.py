"""`jax.export` with symbolic sizes: one program for batches of any size, and for sequences of any length."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from layers.cases import FIRST, inputs, on_reals

import fnet

SEQUENCE_LAYERS = [
    (fnet.dense(3), (5, 2), ()),
    (fnet.serial(fnet.embedding(7, 4), fnet.positions(6), fnet.transformer(4, 2, causal=True)), (5,), ["t <= 6"]),
    (
        fnet.serial(fnet.one_hot(4), fnet.lstm(3), fnet.bidirectional(fnet.gru(2)), fnet.rnn(2, sequence=False)),
        (5,),
        (),
    ),
    (fnet.serial(fnet.sinusoidal_positions(), fnet.attention(2)), (5, 4), ()),
    (fnet.serial(fnet.conv_1d(3, 3), fnet.batch_norm(), fnet.group_norm(1), fnet.global_avg_pool()), (5, 2), ()),
    (fnet.serial(fnet.max_pool(2), fnet.avg_pool(2, stride=1)), (5, 2), ["t >= 4"]),
    (fnet.serial(fnet.spatial_dropout(0.5), fnet.gelu(), fnet.softmax(), fnet.global_max_pool()), (5, 2), ()),
]


def exported(net, in_shape, x, sizes):
    """Return the network as a function of x, and exported for inputs of symbolic sizes."""
    params, state = net.init(jax.random.key(0), in_shape)

    @jax.jit
    def f(x):
        return net.apply(params, state, x, train=False)[0]

    spec = jax.tree.map(
        lambda part: jax.ShapeDtypeStruct((*sizes, *part.shape[len(sizes) :]), jnp.asarray(part).dtype), x
    )
    return f, export.export(f)(spec).call


@pytest.mark.parametrize("case", FIRST.values(), ids=FIRST.keys())
def test_any_batch_size(case, rng):
    x = on_reals(lambda part: part.astype(np.float32), inputs(rng, case))
    f, call = exported(case.make(), case.in_shape, x, export.symbolic_shape("b"))
    for batch in (3, 2):
        part = jax.tree.map(lambda part, batch=batch: part[:batch], x)
        np.testing.assert_allclose(call(part), f(part), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("net", "in_shape", "constraints"), SEQUENCE_LAYERS, ids=lambda value: getattr(value, "kind", "")
)
def test_any_number_of_steps(net, in_shape, constraints, rng):
    x = rng.integers(0, 4, (3, *in_shape)) if net.indices else rng.standard_normal((3, *in_shape)).astype(np.float32)
    f, call = exported(net, in_shape, x, export.symbolic_shape("b, t", constraints=constraints))
    for part in (x, x[:2, :4]):
        np.testing.assert_allclose(call(part), f(part), rtol=1e-4, atol=1e-5)


def test_memory_of_any_length(rng):
    layer = fnet.cross_attention(2)
    x, memory = (rng.standard_normal(shape).astype(np.float32) for shape in ((3, 4, 2), (3, 5, 3)))
    params, _ = layer.init(jax.random.key(0), ((4, 2), (5, 3)))
    b, t, s = export.symbolic_shape("b, t, s")
    f = jax.jit(lambda x: layer.apply(params, {}, x, train=False)[0])
    spec = jax.ShapeDtypeStruct((b, t, 2), x.dtype), jax.ShapeDtypeStruct((b, s, 3), x.dtype)
    np.testing.assert_allclose(export.export(f)(spec).call((x, memory)), f((x, memory)), rtol=1e-4, atol=1e-5)
