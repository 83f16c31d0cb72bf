import re
import subprocess
import sys

import jax
import numpy as np
import pytest

import fnet
from fnet.core.traversal import key_number, leaves, rewire


def scale_by(factor):
    """Return a layer that is made without a constructor."""

    def apply(params, state, x, *, train, key=None, mask=None):
        return x * params["scale"], {}

    return fnet.Layer(
        kind="scale_by",
        settings={"factor": factor},
        shape=lambda in_shape: in_shape,
        init=lambda key, in_shape: ({"scale": np.full(in_shape, factor)}, {}),
        apply=apply,
    )


def test_a_layer_without_a_constructor_runs_but_cannot_be_described():
    net = fnet.serial(scale_by(3.0), fnet.relu())
    params, state = net.init(jax.random.key(0), (2,))
    assert net.apply(params, state, np.ones((1, 2)), train=False)[0].tolist() == [[3.0, 3.0]]
    with pytest.raises(ValueError, match=r'kind="my_module\.scale_by"'):
        fnet.describe(net)


def test_layers_are_frozen():
    layer = fnet.dense(2)
    with pytest.raises(AttributeError, match="cannot assign to field 'kind'"):
        layer.kind = "other"  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(TypeError, match="does not support item assignment"):
        layer.settings["units"] = 3  # pyright: ignore[reportIndexIssue]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (["dens"], "unknown layer 'dens'; did you mean 'dense'?"),
        ([{"dense": {"unit": 3}}], "dense: unknown setting 'unit'; did you mean 'units'?"),
        ([{"dense": 3, "relu": None}], "expected a layer, such as relu or {dense: 64}"),
        ([3], "expected a layer, such as relu or {dense: 64}, got 3"),
        ([{"relu": 3}], "relu takes no value on its own, got 3"),
        (
            ["no.such_layer"],
            "cannot import the layer 'no.such_layer': the module no is imported only if you trust its code",
        ),
        ([{3: 4}], "expected the name of a layer, got 3"),
    ],
)
def test_invalid_data_are_refused(data, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        fnet.build(data)


def test_short_and_long_forms_build_the_same():
    short = fnet.build(["flatten", {"dense": 3}, {"leaky_relu": 0.1}, ["relu", {"dense": {"units": 2, "name": "out"}}]])
    assert fnet.describe(short) == [
        "flatten",
        {"dense": {"units": 3, "bias": True, "init": "glorot_uniform"}},
        {"leaky_relu": {"slope": 0.1}},
        ["relu", {"dense": {"units": 2, "bias": True, "init": "glorot_uniform", "name": "out"}}],
    ]


def test_leaves_follow_the_description_not_the_sorted_dict():
    net = fnet.serial(*(fnet.dense(1) for _ in range(11)))
    params, _ = net.init(jax.random.key(0), (1,))
    names = [name for name, _ in leaves(net, dict(sorted(params.items())))]
    assert names[:4] == ["dense_1/w", "dense_1/b", "dense_2/w", "dense_2/b"]
    assert names[-2:] == ["dense_11/w", "dense_11/b"]


def test_keys_from_names_are_stable():
    """Reproducing a run requires that the hash of a name never changes."""
    assert key_number("dense_1") == 0xC7C5A755


def test_rewiring_preserves_names_and_outputs(rng):
    net = fnet.serial(fnet.dense(3, name="a"), fnet.serial(fnet.tanh(), fnet.dense(2)), name="whole")
    params, state = net.init(jax.random.key(0), (4,))
    x = rng.standard_normal((2, 4))
    again = rewire(net, lambda path, layer: layer)
    assert np.array_equal(net.apply(params, state, x, train=False)[0], again.apply(params, state, x, train=False)[0])


def test_print_is_the_table_of_layers():
    net = fnet.serial(fnet.flatten(), fnet.serial(fnet.dense(3), name="block"))
    assert str(net).splitlines() == [
        "network    serial",
        "flatten_1  flatten",
        "block      serial",
        "  dense_1  dense  units=3",
    ]


def test_the_description_and_the_reference_load_no_jax():
    program = (
        "import sys, fnet, fnet.core.description, fnet.reference.network, fnet.reference.dense, fnet.trace.parser; "
        "assert not {'jax', 'jaxlib', 'optax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
