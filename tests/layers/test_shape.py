import io
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from layers.cases import CASES
from ruamel.yaml import YAML

import fnet
from fnet.reference.rule import Scope, rule_of

LINEAR = [
    (f"{kind}-{number}", case)
    for kind in ("flatten", "reshape", "permute", "zero_pad", "upsample")
    for number, case in enumerate(CASES[kind])
]


def apply(layer, x):
    return layer.apply({}, {}, jnp.asarray(x), train=False)[0].tolist()


def apply_transpose(layer, x, g):
    """Return A^T g, by the hand-written backward pass."""
    rule = rule_of(layer)
    _, cache = rule.forward(layer, Scope({}), np.asarray(x))
    return rule.backward(layer, Scope({}), cache, np.asarray(g))[0].tolist()


@pytest.mark.parametrize("case", [case for _, case in LINEAR], ids=[name for name, _ in LINEAR])
def test_backward_is_the_adjoint(case, rng):
    """<A x, y> = <x, A^T y> for random x and y, by the reference's own forward and backward."""
    layer, scope = case.make(), Scope({})
    rule = rule_of(layer)
    x = rng.standard_normal((3, *case.in_shape))
    ax, cache = rule.forward(layer, scope, x)
    y = rng.standard_normal(ax.shape)
    aty, gradients = rule.backward(layer, scope, cache, y)
    assert aty.shape == x.shape
    assert gradients == {}
    np.testing.assert_allclose(np.sum(ax * y), np.sum(x * aty), rtol=1e-12)


def test_reshape_by_hand():
    """In row-major order the last axis varies fastest."""
    assert apply(fnet.reshape((3, 2)), [[[1, 2, 3], [4, 5, 6]]]) == [[[1, 2], [3, 4], [5, 6]]]
    assert apply_transpose(fnet.reshape((3, 2)), np.zeros((1, 2, 3)), [[[1, 2], [3, 4], [5, 6]]]) == [
        [[1, 2, 3], [4, 5, 6]]
    ]


def test_reshape_infers_a_size():
    assert fnet.reshape((2, -1, 3)).shape((12,)) == (2, 2, 3)
    assert fnet.reshape((-1,)).shape((4, 2)) == (8,)
    assert fnet.reshape((-1, 4)).shape((1, 4)) == (1, 4)
    assert fnet.reshape(()).shape((1, 1)) == ()


def test_permute_by_hand():
    """Axis k of the output is axis axes[k] of the input; the transpose moves it back."""
    x = np.arange(24.0).reshape(1, 2, 3, 4)
    layer = fnet.permute((3, 1, 2))
    y, _ = layer.apply({}, {}, jnp.asarray(x), train=False)
    assert y.shape == (1, 4, 2, 3) == (1, *layer.shape((2, 3, 4)))
    for i, j, k in np.ndindex(2, 3, 4):
        assert y[0, k, i, j] == x[0, i, j, k]
    assert apply_transpose(layer, x, np.asarray(y)) == x.tolist()


def test_zero_pad_by_hand():
    x = [[[[1.0], [2.0]], [[3.0], [4.0]]]]
    layer = fnet.zero_pad(((0, 1), (2, 0)))
    y = np.array(apply(layer, x))
    assert y[0, :, :, 0].tolist() == [[0, 0, 1, 2], [0, 0, 3, 4], [0, 0, 0, 0]]
    g = np.arange(12.0).reshape(1, 3, 4, 1)
    assert np.array(apply_transpose(layer, x, g))[0, :, :, 0].tolist() == [[2, 3], [6, 7]]


def test_one_number_pads_every_spatial_axis_but_not_the_channels():
    assert fnet.zero_pad(2).shape((5, 3)) == (9, 3)
    assert fnet.zero_pad(2).shape((5, 6, 3)) == (9, 10, 3)
    x = np.ones((1, 1, 1, 2))
    assert np.array(apply(fnet.zero_pad(1), x)).sum(axis=(0, 3)).tolist() == [[0, 0, 0], [0, 2, 0], [0, 0, 0]]


def test_upsample_by_hand():
    """Every entry becomes a block of 2 x 3; its cotangent is the sum over the block."""
    x = [[[[1.0], [2.0]], [[3.0], [4.0]]]]
    layer = fnet.upsample((2, 3))
    y = np.array(apply(layer, x))
    assert y[0, :, :, 0].tolist() == [[1, 1, 1, 2, 2, 2]] * 2 + [[3, 3, 3, 4, 4, 4]] * 2
    g = np.arange(24.0).reshape(1, 4, 6, 1)
    assert np.array(apply_transpose(layer, x, g))[0, :, :, 0].tolist() == [[24, 42], [96, 114]]


def test_upsample_does_not_repeat_the_channels():
    assert fnet.upsample().shape((4, 5, 3)) == (8, 10, 3)
    assert apply(fnet.upsample(2), [[[1.0, 2.0]]]) == [[[1.0, 2.0], [1.0, 2.0]]]


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("{reshape: [4, -1]}", {"shape": (4, -1)}),
        ("{reshape: {shape: [2, 3]}}", {"shape": (2, 3)}),
        ("{permute: [2, 1]}", {"axes": (2, 1)}),
        ("{zero_pad: 1}", {"padding": 1}),
        ("{zero_pad: [[1, 1], [2, 0]]}", {"padding": ((1, 1), (2, 0))}),
        ("upsample", {"factor": 2}),
        ("{upsample: 3}", {"factor": 3}),
        ("{upsample: [1, 2]}", {"factor": (1, 2)}),
    ],
)
def test_settings_from_yaml(text, settings):
    """Lists become tuples, and the description gives them back as lists."""
    yaml = YAML(typ="safe")
    layer = fnet.build(yaml.load(text))
    assert dict(layer.settings) == settings
    stream = io.StringIO()
    yaml.dump(fnet.describe(layer), stream)
    assert "!!" not in stream.getvalue()
    assert dict(fnet.build(yaml.load(stream.getvalue())).settings) == settings


def test_lists_become_tuples():
    assert fnet.reshape([2, 2]).settings["shape"] == (2, 2)
    assert fnet.zero_pad([[1, 0], [0, 1]]).settings["padding"] == ((1, 0), (0, 1))


SIZES = "expected sizes of at least 1, one of which may be -1 to be inferred, got"
ORDER = "expected each axis of an example once, counted from 1 without the batch, such as (2, 1), got"
SIDES = "expected a whole number of at least 0, or a pair of them for every spatial axis, such as ((1, 1), (2, 0)), got"
TIMES = "expected a whole number of at least 1, or one for every spatial axis, such as (2, 3), got"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fnet.reshape((-1, -1)), f"reshape: shape: {SIZES} (-1, -1)"),
        (lambda: fnet.reshape((2, 0)), f"reshape: shape: {SIZES} (2, 0)"),
        (lambda: fnet.reshape((2, -3)), f"reshape: shape: {SIZES} (2, -3)"),
        (lambda: fnet.reshape(4), "reshape: shape: expected a list, got 4"),
        (lambda: fnet.reshape((2.5,)), "reshape: shape: expected a whole number, got 2.5"),
        (lambda: fnet.permute((0, 1)), f"permute: axes: {ORDER} (0, 1)"),
        (lambda: fnet.permute((1, 1)), f"permute: axes: {ORDER} (1, 1)"),
        (lambda: fnet.permute((1, 3)), f"permute: axes: {ORDER} (1, 3)"),
        (lambda: fnet.permute(()), f"permute: axes: {ORDER} ()"),
        (lambda: fnet.zero_pad(-1), f"zero_pad: padding: {SIDES} -1"),
        (lambda: fnet.zero_pad((1, 1)), f"zero_pad: padding: {SIDES} (1, 1)"),
        (lambda: fnet.zero_pad(((1, 2, 3),)), f"zero_pad: padding: {SIDES} ((1, 2, 3),)"),
        (lambda: fnet.zero_pad("same"), f"zero_pad: padding: {SIDES} 'same'"),
        (lambda: fnet.upsample(0), f"upsample: factor: {TIMES} 0"),
        (lambda: fnet.upsample((2, 0.5)), f"upsample: factor: {TIMES} (2, 0.5)"),
    ],
)
def test_invalid_settings_are_named(make, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()


SPATIAL = (
    "expects examples with at least one spatial axis and the channels last, (..., channels), got (3,); put a reshape"
)


@pytest.mark.parametrize(
    ("layer", "in_shape", "message"),
    [
        (
            fnet.reshape((4, 4)),
            (5, 3),
            "reshape_1: expects examples with 16 entries for the shape (4, 4), got (5, 3) with 15; "
            "change its shape or the layer before it",
        ),
        (
            fnet.reshape((4, -1)),
            (5, 3),
            "reshape_1: expects examples with a multiple of 4 entries for the shape (4, -1), got (5, 3) with 15;",
        ),
        (
            fnet.permute((2, 1)),
            (2, 3, 4),
            "permute_1: expects examples with 2 axes for the permutation (2, 1), got (2, 3, 4); "
            "list each of its axes 1 ... 3 once",
        ),
        (
            fnet.zero_pad(((1, 1), (0, 2))),
            (5, 3),
            "zero_pad_1: expects examples with 2 spatial axes, one per entry of ((1, 1), (0, 2)), and the channels "
            "last, got (5, 3); use one entry per spatial axis, or one number for all",
        ),
        (fnet.zero_pad(1), (3,), f"zero_pad_1: {SPATIAL}"),
        (
            fnet.upsample((2, 2)),
            (4, 4, 4, 3),
            "upsample_1: expects examples with 2 spatial axes, one per entry of (2, 2), and the channels last, "
            "got (4, 4, 4, 3); use one entry per spatial axis, or one number for all",
        ),
        (fnet.upsample(), (3,), f"upsample_1: {SPATIAL}"),
    ],
)
def test_errors_for_invalid_inputs_name_the_expected_shape(layer, in_shape, message):
    net = fnet.serial(layer)
    with pytest.raises(fnet.ShapeError, match=f"^{re.escape(message)}"):
        net.shape(in_shape)
    with pytest.raises(fnet.ShapeError, match=f"^{re.escape(message)}"):
        jax.eval_shape(lambda x: net.apply({}, {}, x, train=False)[0], jax.ShapeDtypeStruct((2, *in_shape), "float32"))


def test_an_output_that_no_machine_holds_is_refused():
    net = fnet.serial(fnet.relu(), fnet.upsample(10**10))
    with pytest.raises(
        fnet.ShapeError, match=r"upsample_1: its output would have the shape \(10{10}, 10{10}, 1\), which"
    ):
        net.shape((1, 1, 1))
