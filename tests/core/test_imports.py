"""Which dotted paths a description may import."""

import importlib
import inspect
import re
import sys
import types
from pathlib import Path

import canary
import jax
import numpy as np
import pytest
from canary import NAME

import fnet
from fnet.core import imports
from fnet.core.imports import Untrusted
from fnet.layers.vocabulary import LAYERS


@pytest.fixture
def trace(tmp_path, monkeypatch):
    """Return the file that the canary leaves, in a folder on the import path."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("FNET_TRUST", raising=False)
    yield canary.write(tmp_path)
    canary.forget()


@pytest.mark.parametrize("place", canary.LAYERS)
def test_a_description_imports_nothing_from_the_import_path(trace, place):
    with pytest.raises(ValueError, match=rf"cannot import the (layer|function) '{NAME}\..*--trust {NAME}"):
        fnet.build(["relu", canary.LAYERS[place]])
    assert not trace.exists()
    assert not canary.is_loaded()


def test_trust_covers_a_module_and_its_submodules_only(trace):
    for trust in ([f"{NAME}.inner"], [NAME[:-1]], [f"{NAME}_2"], [f"{NAME}.block"]):
        with pytest.raises(Untrusted, match=f"--trust {NAME}"):
            fnet.build(f"{NAME}.layer", trust=trust)
    assert not trace.exists()
    assert fnet.build(f"{NAME}.inner.layer", trust=[NAME]).settings == {"factor": 1.5}
    assert trace.read_text() == "imported"


def test_a_single_path_can_be_trusted(trace):
    assert fnet.build(f"{NAME}.layer", trust=[f"{NAME}.layer"]).kind == f"{NAME}.layer"
    with pytest.raises(ValueError, match=f"'{NAME}.init'"):
        fnet.build({"dense": {"units": 2, "init": f"{NAME}.init"}}, trust=[f"{NAME}.layer"])


def test_trust_ends_with_the_call(trace):
    fnet.build({"dense": {"units": 2, "init": f"{NAME}.init"}}, trust=[NAME])
    with pytest.raises(ValueError, match="cannot import the function"):
        fnet.build({"dense": {"units": 2, "init": f"{NAME}.init"}})


def test_code_of_the_user_may_name_any_function(trace):
    """A constructor that is called from Python imports its dotted path; so does a network that was built from it."""
    layer = fnet.dense(2, init=f"{NAME}.init")
    assert trace.read_text() == "imported"
    params, _ = layer.init(jax.random.key(0), (3,))
    assert np.array_equal(params["w"], np.ones((3, 2)))
    assert fnet.map_layers(lambda path, layer: layer, fnet.serial(layer, fnet.relu())).layers[0] == layer


def test_a_layer_of_a_loaded_module_needs_no_trust(trace):
    module = importlib.import_module(NAME)
    net = fnet.serial(module.layer(3.0), module.block(fnet.relu()))
    assert fnet.build(fnet.describe(net)) == net
    assert fnet.build({f"{NAME}.plain": 2}).kind == "dense"
    with pytest.raises(ValueError, match=rf"'{NAME}\.phi' is not a constructor of layers; decorate it"):
        fnet.build(f"{NAME}.phi")


@pytest.mark.parametrize("kind", ["fnet.build", "fnet.layers.vocabulary.build", "fnet.layers.vocabulary.LAYERS"])
def test_a_description_cannot_trust(trace, kind):
    """A function of fnet that builds from a description could be told what to trust."""
    with pytest.raises(ValueError, match=rf"'{re.escape(kind)}'"):
        fnet.build({kind: {"data": [f"{NAME}.layer"], "trust": [NAME]}})
    with pytest.raises(ValueError, match="is not a constructor of layers"):
        fnet.build({kind: {"data": [f"{NAME}.layer"], "trust": [NAME]}}, trust=["fnet"])
    assert not trace.exists()


def test_a_layer_of_fnet_may_have_its_dotted_path():
    assert fnet.build([{"fnet.dense": 3}]) == fnet.serial(fnet.dense(3))


def test_a_lazy_attribute_of_a_loaded_module_is_not_evaluated(monkeypatch):
    """A module may import another one when an attribute is requested (PEP 562)."""
    module, requested = types.ModuleType("lazy_module"), []
    vars(module)["__getattr__"] = requested.append
    monkeypatch.setitem(sys.modules, "lazy_module", module)
    with pytest.raises(Untrusted, match="--trust lazy_module"):
        fnet.build("lazy_module.layer")
    assert requested == []


@pytest.mark.parametrize("path", ["../../x", "a..b", ".x", "x.", "a.b c", "a.\0", "1.2", "a/b.c", "…"])
def test_what_is_not_a_dotted_path_is_refused(path):
    with pytest.raises(ValueError, match=r"unknown layer|expected a dotted path, such as my_module\.my_name"):
        fnet.build(path)
    with pytest.raises(ValueError, match=r"unknown initializer|expected a dotted path, such as my_module\.my_name"):
        fnet.build({"dense": {"units": 2, "init": path}})


def test_trust_must_be_a_list():
    with pytest.raises(Untrusted, match=r'got text; write trust=\["my_module"\]'):
        fnet.build("relu", trust="my_module")


def test_a_layer_of_a_script_is_found_in_this_script_only(monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "doubled", fnet.relu, raising=False)
    assert fnet.build("__main__.doubled") == fnet.relu()
    with pytest.raises(Untrusted, match="it was defined in a script; move it to a module"):
        fnet.build("__main__.tripled")


# JAX's numerical functions


@pytest.mark.parametrize("module", imports.NUMERICAL)
def test_the_functions_that_need_no_trust_only_compute(module):
    """Their source neither opens files nor calls back into Python."""
    names = [name for name in vars(importlib.import_module(module)) if not name.startswith("_")]
    with imports.gate():
        functions = {name: function for name in names if (function := function_or_none(f"{module}.{name}"))}
    assert len(functions) > 15
    forbidden = re.compile(
        r"\bopen\(|\bnp\.(load|save|savez|fromfile|memmap)\b|\bos\.|subprocess|io_callback|config\.update"
    )
    for name, function in functions.items():
        assert not inspect.isclass(function), name
        try:
            source = inspect.getsource(inspect.unwrap(function))
        except TypeError:  # compiled, or an object of a class of JAX such as a ufunc
            continue
        assert not forbidden.search(source), name


def function_or_none(path):
    try:
        return imports.lookup(path)
    except ValueError:
        return None


@pytest.mark.parametrize("name", ["load", "save", "savez", "fromfile", "set_printoptions", "float32", "ndarray", "os"])
def test_other_names_of_jax_numpy_need_trust(name):
    with pytest.raises(ValueError, match=rf"cannot import the function 'jax\.numpy\.{name}'"):
        fnet.build({"lambda_layer": f"jax.numpy.{name}"})


@pytest.mark.parametrize(
    "function", ["jax.nn.mish", "jax.numpy.sin", "jax.lax.rsqrt", "jax.scipy.special.erf", "jax.numpy.log1p"]
)
def test_functions_of_jax_need_no_trust(function):
    net = fnet.build({"lambda_layer": function})
    assert fnet.build(fnet.describe(net)) == net == fnet.lambda_layer(function)


def test_initializers_of_jax_need_no_trust():
    for function in (jax.random.normal, jax.nn.initializers.ones):
        layer = fnet.dense(2, init=function)
        assert fnet.build(fnet.describe(layer)) == layer


def test_every_item_of_a_list_is_checked_like_the_first(trace):
    with pytest.raises(ValueError, match=f"--trust {NAME}"):
        LAYERS.build(["relu", ["relu", ["relu", f"{NAME}.layer"]]])
    assert not trace.exists()


def test_what_is_inside_fnet_is_not_a_module_of_the_user(monkeypatch):
    """Not even where fnet itself lies in the current directory or on PYTHONPATH, as in a clone of its repository."""
    folder = Path(fnet.__file__).parents[1]
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    with imports.gate(local=True), pytest.raises(Untrusted, match=r"fnet\.runs\.files .*--trust fnet\.runs\.files"):
        imports.lookup("fnet.runs.files.write")
