"""No output of a real row or step, and no gradient, depends on a masked one: tested for every layer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from layers.cases import CASES, FIRST, Case, inputs, is_real

import fnet
from fnet.core.layer import walk

MIXING = {"flatten", "reshape", "permute", "zero_pad", "upsample"}
"""Layers that rearrange the steps, so that a mask of steps does not fit their outputs."""

IMAGES = {"conv", "conv_transpose"}
"""Layers of images, whose examples do not have steps."""


def sequence_case(kind) -> Case:
    """Return a case with examples (time, ...): the first one of the kind, or its first case for three steps."""
    for case in CASES[kind]:
        net = case.make()
        steps = len(case.in_shape) == 2 or net.indices is not None
        if steps and MIXING.isdisjoint(layer.kind for _, layer in walk(net)):
            return case
    return FIRST[kind]._replace(in_shape=(3, *FIRST[kind].in_shape))


SEQUENCES = {kind: sequence_case(kind) for kind in CASES.keys() - MIXING - IMAGES}


def prepared(case, rng):
    """Return the network with perturbed parameters in float64, and whether it is deterministic in training."""
    net = case.make()
    initial = jax.jit(net.init, static_argnums=1)(jax.random.key(1), case.in_shape)
    params, state = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64) + 0.1 * rng.random(leaf.shape), initial)
    return net, params, state, all(layer.draw is None for _, layer in walk(net))


@functools.partial(jax.jit, static_argnames=("net", "train"))
def pulled(net, params, state, x, mask, g, train):
    """Return the outputs, and the gradients of <g, outputs> with respect to the parameters and the input."""
    y, pull = jax.vjp(lambda params, x: net.apply(params, state, x, train=train, mask=mask)[0], params, x)
    return y, *pull(g[: len(y)].astype(y.dtype))


def with_garbage(x, mask, rng):
    """Return the input with other values in masked rows or steps, of the first array if it consists of several."""
    first = x[0] if isinstance(x, tuple) else x
    garbage = 100 * rng.standard_normal(first.shape) if is_real(first) else rng.permuted(first)
    changed = np.where(mask.reshape(*mask.shape, *[1] * (first.ndim - mask.ndim)), first, garbage)
    return (changed, *x[1:]) if isinstance(x, tuple) else changed


def reals(*trees):
    """Return the leaves that are real numbers; those of indices and masks are float0."""
    return [np.asarray(leaf) for leaf in jax.tree.leaves(trees) if is_real(leaf)]


def out_shape(net, params, state, x):
    return jax.eval_shape(lambda x: net.apply(params, state, x, train=False)[0], x).shape


@pytest.mark.parametrize("case", FIRST.values(), ids=FIRST.keys())
def test_nothing_depends_on_a_masked_example(case, rng):
    """Outputs and gradients of the real examples are those of these examples alone; masked examples get 0."""
    mask = rng.permutation([True, True, False])
    with jax.enable_x64(True):
        net, params, state, train = prepared(case, rng)
        x = with_garbage(inputs(rng, case), mask, rng)
        g = rng.standard_normal(out_shape(net, params, state, x))
        cotangent = np.where(mask.reshape(3, *[1] * (g.ndim - 1)), g, 0)
        y, params_bar, x_bar = pulled(net, params, state, x, mask, cotangent, train)
        alone = jax.tree.map(lambda part: part[mask], x)
        expected = pulled(net, params, state, alone, mask[mask], g[mask], train)
        for actual, wanted in zip(
            reals(y[mask], params_bar, jax.tree.map(lambda part: part[mask], x_bar)), reals(*expected), strict=True
        ):
            np.testing.assert_allclose(actual, wanted, rtol=1e-9, atol=1e-11)
        assert all(np.all(leaf[~mask] == 0) for leaf in reals(x_bar))
        nothing = pulled(net, params, state, x, np.zeros(3, bool), np.zeros_like(g), train)
        assert all(np.all(leaf == 0) for leaf in reals(*nothing[1:]))


@pytest.mark.parametrize("kind", sorted(SEQUENCES))
def test_nothing_depends_on_a_masked_step(kind, rng):
    """With one sequence of padding alone: equal results for any values there, and those of the other sequences alone.

    Of outputs without these steps, those of a sequence are real if any of its steps is.
    """
    case = SEQUENCES[kind]
    with jax.enable_x64(True):
        net, params, state, train = prepared(case, rng)
        x = inputs(rng, case)
        time = jax.tree.leaves(x)[0].shape[1]
        mask = rng.random((3, time)) < 0.6
        mask[:2, rng.integers(time)] = True
        mask[2] = False
        mask = rng.permutation(mask)
        rows = mask.any(axis=1)
        g = rng.standard_normal(out_shape(net, params, state, x))
        real = mask if g.shape[:2] == mask.shape else rows
        g = np.where(real.reshape(*real.shape, *[1] * (g.ndim - real.ndim)), g, 0)
        results = []
        for _ in range(2):
            y, params_bar, x_bar = pulled(net, params, state, with_garbage(x, mask, rng), mask, g, train)
            first = reals(x_bar)[:1]
            assert all(np.all(leaf[~mask] == 0) for leaf in first)
            assert all(np.isfinite(leaf).all() for leaf in reals(y, params_bar, x_bar))
            results.append((np.asarray(y)[real], params_bar, jax.tree.map(lambda part: part[rows], x_bar)))
        alone = jax.tree.map(lambda part: part[rows], x)
        y, params_bar, x_bar = pulled(net, params, state, alone, mask[rows], g[rows], train)
        results.append((np.asarray(y)[real[rows]], params_bar, x_bar))
        for other in results[1:]:
            for actual, wanted in zip(reals(*other), reals(*results[0]), strict=True):
                np.testing.assert_allclose(actual, wanted, rtol=1e-9, atol=1e-11)


def test_nothing_depends_on_a_masked_step_of_the_memory(rng):
    layer = fnet.cross_attention(2)
    with jax.enable_x64(True):
        params, _ = layer.init(jax.random.key(0), ((3, 4), (5, 3)))
        x, memory = rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 5, 3))
        mask = np.array([[True, False, True, True, False], [False] * 5])

        def value(params, x, memory):
            return jnp.sum(jnp.sin(layer.apply(params, {}, (x, memory, mask), train=True)[0]))

        results = [
            jax.value_and_grad(value, argnums=(0, 1, 2))(params, x, with_garbage(memory, mask, rng)) for _ in range(2)
        ]
        for actual, wanted in zip(reals(*results[0]), reals(*results[1]), strict=True):
            np.testing.assert_allclose(actual, wanted, rtol=1e-12, atol=1e-14)
        assert np.all(np.asarray(results[0][1][2])[~mask] == 0)
        shorter = layer.apply(params, {}, (x[:1], memory[:1][:, mask[0]]), train=False)[0]
        y = layer.apply(params, {}, (x, memory, mask), train=False)[0]
        np.testing.assert_allclose(y[0], shorter[0], rtol=1e-12)


@pytest.mark.parametrize("case", FIRST.values(), ids=FIRST.keys())
@pytest.mark.parametrize(
    ("mask", "received"), [(np.ones(3), "float64"), (np.ones(3, int), "int64"), ([True] * 3, "list")]
)
def test_a_mask_that_is_not_boolean_is_refused(case, mask, received, rng):
    net = case.make()
    with pytest.raises(TypeError, match=rf"expects a Boolean mask, .*, got {received}; use mask.astype\(bool\), and"):
        jax.eval_shape(lambda x: net.apply({}, {}, x, train=False, mask=mask), inputs(rng, case))


def test_pooling_of_masked_steps_by_hand():
    """The padding of `same` and masked steps count alike; a window without real steps gives 0."""
    x = jnp.array([[[-1.0], [-2.0], [9.0], [9.0], [-4.0]]])
    mask = np.array([[True, True, False, False, True]])

    def run(layer):
        y, pull = jax.vjp(lambda x: layer.apply({}, {}, x, train=False, mask=mask)[0], x)
        return y.ravel().tolist(), pull(jnp.ones_like(y))[0].ravel().tolist()

    assert run(fnet.max_pool(2, padding="same")) == ([-1, 0, -4], [1, 0, 0, 0, 1])
    assert run(fnet.avg_pool(2, padding="same")) == ([-1.5, 0, -4], [0.5, 0.5, 0, 0, 1])
    assert run(fnet.max_pool(3, stride=2)) == ([-1, -4], [1, 0, 0, 0, 1])
    assert run(fnet.avg_pool(3, stride=2)) == ([-1.5, -4], [0.5, 0.5, 0, 0, 1])
    assert run(fnet.global_max_pool()) == ([-1], [1, 0, 0, 0, 0])
    mask = np.zeros((1, 5), bool)
    for layer in (fnet.max_pool(2), fnet.avg_pool(2), fnet.global_max_pool(), fnet.global_avg_pool()):
        y, pull = jax.vjp(lambda x, layer=layer: layer.apply({}, {}, x, train=False, mask=mask)[0], x)
        assert not np.any(y)
        assert not np.any(pull(jnp.ones_like(y))[0])


LAYERS_OVER_STEPS = [fnet.max_pool(2), fnet.avg_pool(2), fnet.global_avg_pool(), fnet.conv_1d(2)]


@pytest.mark.parametrize("layer", LAYERS_OVER_STEPS, ids=str)
def test_a_mask_of_other_steps_is_refused(layer):
    params, _ = layer.init(jax.random.key(0), (4, 2))
    with pytest.raises(fnet.ShapeError, match=r"a mask .* that matches its input \(2, 4, 2\), got \(2, 3\); make"):
        layer.apply(params, {}, jnp.ones((2, 4, 2)), train=False, mask=np.ones((2, 3), bool))
