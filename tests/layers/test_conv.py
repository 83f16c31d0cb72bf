import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from layers.cases import CASES, inputs

import fnet
from fnet.layers.conv_primitives import LAYOUT, Window, convolve, convolve_transposed, resolve_padding
from fnet.reference.rule import Scope, rule_of

GRID = [
    *itertools.product(
        [(1, 1), (2, 2), (3, 1)], [(1, 1), (2, 1)], [1, 2], ["same", "valid", ((1, 0), (2, 3))], [(3, 2)]
    ),
    ((2, 1), (1, 1), 4, "same", (3, 3)),
    ((3, 2), (1, 1), 1, "valid", (1, 1)),
    ((1, 1), (1, 1), 1, 2, (2, 2)),
]


def plain(x, w, window):
    """JAX's convolution, with the derivatives that JAX gives it."""
    return lax.conv_general_dilated(
        x,
        w,
        window.stride,
        window.padding,
        rhs_dilation=window.dilation,
        dimension_numbers=LAYOUT,
        feature_group_count=window.groups,
    )


def problem(
    rng, stride=(2, 1), dilation=(1, 2), groups=2, padding=((1, 1), (0, 2)), kernel=(3, 2), size=(5, 4), channels=4
):
    window = Window(stride, resolve_padding(padding, size, kernel, stride, dilation), dilation, groups, size, kernel)
    x = rng.standard_normal((2, *size, channels))
    w = rng.standard_normal((*kernel, channels // groups, 4 if groups > 1 else 3))
    return x, w, window


@pytest.mark.parametrize(("stride", "dilation", "groups", "padding", "kernel"), GRID, ids=str)
def test_custom_derivatives_agree_with_those_of_the_plain_convolution(stride, dilation, groups, padding, kernel, rng):
    x, w, window = problem(rng, stride, dilation, groups, padding, kernel, (7, 6), channels=4 if groups > 1 else 8)
    g = rng.standard_normal((2, *window.output_size(), w.shape[3]))

    @jax.jit
    def both(x, w, g):
        results = []
        for conv in (convolve, plain):
            z, pull = jax.vjp(lambda x, w: conv(x, w, window), x, w)  # noqa: B023
            results.append((z, *pull(g)))
        return results

    with jax.enable_x64(True):
        for actual, expected in zip(*both(x, w, g), strict=True):
            np.testing.assert_allclose(actual, expected, atol=1e-11)


@pytest.mark.parametrize("padding", ["valid", "same", ((0, 1), (2, 0))], ids=str)
@pytest.mark.parametrize(("stride", "dilation"), [((1, 1), (1, 1)), ((2, 1), (1, 1)), ((1, 1), (1, 2))], ids=str)
@pytest.mark.parametrize("batch", [1, 7, 24])
def test_every_method_agrees_with_the_plain_convolution(batch, stride, dilation, padding, rng):
    """With many channels, and with batches that are processed whole, in chunks, or image by image."""
    size, kernel = (6, 7), (3, 2)
    window = Window(stride, resolve_padding(padding, size, kernel, stride, dilation), dilation, 1, size, kernel)
    x, w = rng.standard_normal((batch, *size, 9)), rng.standard_normal((*kernel, 9, 20))
    with jax.enable_x64(True):
        z, pull = jax.vjp(lambda x, w: convolve(x, w, window), x, w)
        plain_z, pull_plain = jax.vjp(lambda x, w: plain(x, w, window), x, w)
        g = rng.standard_normal(z.shape)
        for actual, expected in zip((z, *pull(g)), (plain_z, *pull_plain(g)), strict=True):
            np.testing.assert_allclose(actual, expected, atol=1e-11)


@pytest.mark.parametrize(
    "second",
    [
        jax.hessian,
        lambda f, **kw: jax.jacrev(jax.jacfwd(f, **kw), **kw),
        lambda f, **kw: jax.jacrev(jax.jacrev(f, **kw), **kw),
    ],
    ids=["forward over reverse", "reverse over forward", "reverse over reverse"],
)
def test_second_derivatives(second, rng):
    with jax.enable_x64(True):
        x, w, window = problem(rng)
        actual = second(lambda x, w: jnp.sum(jnp.sin(convolve(x, w, window))), argnums=(0, 1))(x, w)
        expected = second(lambda x, w: jnp.sum(jnp.sin(plain(x, w, window))), argnums=(0, 1))(x, w)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-11), actual, expected)


@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0), (1, None), (1, 0)], ids=str)
def test_vmap_over_images_or_kernels_or_both(axes, rng):
    with jax.enable_x64(True):
        x, w, window = problem(rng)
        stacks = [
            array if axis is None else np.moveaxis(rng.standard_normal((3, *array.shape)), 0, axis)
            for array, axis in zip((x, w), axes, strict=True)
        ]
        for transform in (lambda f: f, lambda f: jax.grad(lambda x, w: jnp.sum(f(x, w) ** 3), argnums=(0, 1))):
            actual = jax.vmap(transform(lambda x, w: convolve(x, w, window)), axes)(*stacks)
            expected = jax.vmap(transform(lambda x, w: plain(x, w, window)), axes)(*stacks)
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-10), actual, expected)


def test_inside_jit_scan_and_checkpoint(rng):
    with jax.enable_x64(True):
        x, w, window = problem(rng)

        def after_three_steps(conv):
            def step(w, _):
                return w - 0.01 * jax.grad(lambda w: jnp.sum(jax.checkpoint(conv)(x, w) ** 2))(w), None

            return jax.jit(lambda w: lax.scan(step, w, None, length=3)[0])(w)

        actual = after_three_steps(lambda x, w: convolve(x, w, window))
        np.testing.assert_allclose(actual, after_three_steps(lambda x, w: plain(x, w, window)), atol=1e-12)


def test_transposed_is_the_transpose(rng):
    """<g, conv(x)> = <conv^T(g), x>."""
    with jax.enable_x64(True):
        x, w, window = problem(rng)
        g = rng.standard_normal((2, *window.output_size(), 4))
        left = np.sum(g * convolve(x, w, window))
        np.testing.assert_allclose(left, np.sum(convolve_transposed(g, w, window) * x), rtol=1e-12)


LINEAR = [
    (f"{kind}-{number}", case)
    for kind in ("dense", "flatten", "conv", "conv_1d", "conv_transpose", "avg_pool", "global_avg_pool")
    for number, case in enumerate(CASES[kind])
]


@pytest.mark.parametrize("case", [case for _, case in LINEAR], ids=[name for name, _ in LINEAR])
def test_adjoint_of_the_reference(case, rng):
    """<A x, y> = <x, A^T y>, where A is the layer without its bias and A^T its hand-written backward."""
    net = case.make()
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), net.init(jax.random.key(0), case.in_shape)[0])
    scope = Scope(params, mask=case.mask)
    x = inputs(rng, case)
    ax, cache = rule_of(net).forward(net, scope, x)
    y = rng.standard_normal(ax.shape)
    aty, _ = rule_of(net).backward(net, scope, cache, y)
    np.testing.assert_allclose(np.sum(ax * y), np.sum(x * aty), rtol=1e-12)


def test_convolution_by_hand():
    """The asymmetric kernel (1 2 / 3 4) over a 3 by 3 image, without and with padding."""
    x = jnp.arange(1.0, 10.0).reshape(1, 3, 3, 1)
    params = {"w": jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(2, 2, 1, 1), "b": jnp.array([100.0])}
    z, _ = fnet.conv(1, 2, padding="valid").apply(params, {}, x, train=False)
    assert z[0, :, :, 0].tolist() == [[137, 147], [167, 177]]
    z, _ = fnet.conv(1, 2).apply(params, {}, x, train=False)
    assert z[0, :, :, 0].tolist() == [[137, 147, 100 + 3 + 18], [167, 177, 100 + 6 + 27], [100 + 23, 100 + 26, 109]]


def test_transposed_convolution_by_hand():
    """Every pixel adds its multiple of the kernel (1 2 3) at stride 2; overlaps add up."""
    params = {"w": jnp.array([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1), "b": jnp.zeros(1)}
    x = jnp.array([1.0, 10.0]).reshape(1, 1, 2, 1)
    z, _ = fnet.conv_transpose(1, (1, 3), stride=(1, 2), padding="valid").apply(params, {}, x, train=False)
    assert z.ravel().tolist() == [1, 2, 13, 20, 30]


def test_depthwise_channels_are_independent():
    net = fnet.conv(3, 3, groups=3)
    params, _ = net.init(jax.random.key(0), (4, 4, 3))
    assert params["w"].shape == (3, 3, 1, 3)
    x = jnp.zeros((1, 4, 4, 3)).at[..., 1].set(1.0)
    z, _ = net.apply(params, {}, x, train=False)
    assert jnp.any(z[..., 1] != 0)
    assert not jnp.any(z[..., 0])
    assert not jnp.any(z[..., 2])


@pytest.mark.parametrize(
    ("make", "in_shape", "message"),
    [
        (
            lambda: fnet.conv(2),
            (64,),
            r"conv: expects examples \(height, width, channels\), got \(64,\); put a reshape",
        ),
        (lambda: fnet.conv_1d(2), (8, 8, 1), r"conv_1d: expects examples \(time, channels\), got \(8, 8, 1\)"),
        (lambda: fnet.conv_transpose(2), (8, 8), r"conv_transpose: expects examples \(height, width, channels\)"),
        (lambda: fnet.conv(4, groups=2), (8, 8, 3), "its groups must divide the 3 channels of its input, got 2 groups"),
        (
            lambda: fnet.conv(2, 5, padding="valid", dilation=2),
            (8, 20, 1),
            r"its kernel covers \(9, 9\) pixels, more than the padded input \(8, 20\); use padding: same",
        ),
        (lambda: fnet.conv_transpose(2, 2, padding=3), (2, 2, 1), "padding 3 crops the whole output"),
    ],
)
def test_invalid_shapes_are_refused(make, in_shape, message):
    with pytest.raises(fnet.ShapeError, match=message):
        make().shape(in_shape)


def test_wrong_channels_are_named():
    net = fnet.serial(fnet.conv(2))
    params, state = net.init(jax.random.key(0), (8, 8, 3))
    with pytest.raises(fnet.ShapeError, match=r"conv_1: expects \(batch, height, width, 3\), got \(1, 8, 8, 1\)"):
        net.apply(params, state, np.ones((1, 8, 8, 1)), train=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stride": 0}, "conv: stride: expected a value of at least 1, got 0"),
        ({"padding": "sane"}, "conv: padding: .*got 'sane'; did you mean 'same'?"),
        ({"groups": 2}, "groups must divide filters, got 2 groups and 3 filters; make filters a multiple"),
        ({"kernel_size": (3, 3, 3)}, "conv: kernel_size: "),
        ({"padding": -1}, "conv: padding: "),
    ],
)
def test_invalid_settings_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        fnet.conv(3, **arguments)
