"""Equal programs are compiled once; a function that changed is never served by an old program."""

import os
import subprocess
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from trees import same

import fnet
from fnet.data.stream import Stream
from fnet.gradcheck import check
from fnet.regularization import Penalties
from fnet.train import EarlyStopping, compile, fit
from fnet.train.compile import clear_programs, compile_for, compile_on_call
from fnet.train.evaluate import make_score, outputs_of
from fnet.train.initialize import initialize
from fnet.train.state import init_state, state_of_seed

COMPILATION = "/jax/core/compile/backend_compile_duration"
"""JAX's event for every compilation, including those that the persistent cache answers."""


@pytest.fixture
def compilations():
    """Return the list to which every compilation adds an entry, with no program compiled so far."""
    events = []

    def note(event, duration, **details):
        if event == COMPILATION:
            events.append(details.get("fun_name"))

    clear_programs()
    jax.monitoring.register_event_duration_secs_listener(note)
    yield events
    jax.monitoring.unregister_event_duration_listener(note)


def dense_run(data):
    """Return the arguments of a run with dropout, penalties, validation and early stopping."""
    net = fnet.serial(fnet.flatten(), fnet.dense(5), fnet.dropout(0.3), fnet.tanh(), fnet.dense(3))
    penalties = Penalties(l2=0.01, max_norm=2.0)
    stopping = EarlyStopping("validation_loss", patience=2)
    settings = {"validation": data, "early_stopping": stopping, "regularization": penalties, "batch_size": 4}
    return (net, "cross_entropy", optax.adam(1e-2), data), settings


def conv_run(data):
    """Return the arguments of a run with convolution and batch normalization."""
    net = fnet.serial(fnet.conv(2, 3), fnet.batch_norm(), fnet.relu(), fnet.flatten(), fnet.dense(3))
    return (net, "cross_entropy", optax.sgd(optax.cosine_decay_schedule(0.1, 9), momentum=0.9), data), {"batch_size": 5}


def stream_run(data):
    """Return the arguments of a run whose examples come in chunks, with a custom loss."""
    net = fnet.serial(fnet.flatten(), fnet.dense(3))
    stream = Stream(*data)
    loss = lambda outputs, targets: jnp.abs(outputs[:, 0] - targets)  # noqa: E731
    return (net, loss, optax.chain(optax.clip(0.1), optax.sgd(0.1)), stream), {"validation": stream, "batch_size": 4}


@pytest.mark.parametrize("run", [dense_run, conv_run, stream_run])
def test_an_equal_run_compiles_nothing(run, rng, compilations):
    data = rng.standard_normal((10, 4, 4, 1)).astype(np.float32), rng.integers(0, 3, 10)
    fitted = []
    for _ in range(2):
        before = len(compilations)
        arguments, settings = run(data)
        fitted.append(fit(*arguments, epochs=2, **settings))
        compiled = compilations[before:]
        assert bool(compiled) == (len(fitted) == 1), compiled
    assert same(fitted[0].train_state, fitted[1].train_state)


def weight_after_a_step(loss, rate=1.0):
    """Return w after one step from w = 0 with x = 1, which is -rate * dL/dw."""
    net = fnet.serial(fnet.dense(1, bias=False, init="zeros"))
    ones = np.ones((2, 1), np.float32)
    return fit(net, loss, optax.sgd(rate), (ones, ones), epochs=1, batch_size="all").params["dense_1"]["w"].item()


def test_another_learning_rate_is_another_program(compilations):
    loss = lambda outputs, targets: 3 * outputs[:, 0]  # noqa: E731
    assert weight_after_a_step(loss, rate=1.0) == -3
    before = len(compilations)
    assert weight_after_a_step(loss, rate=0.5) == -1.5
    assert len(compilations) > before


FACTOR = 2.0


def scaled_by_a_global(outputs, targets):
    return FACTOR * outputs[:, 0]


def test_a_loss_that_reads_a_changed_global(monkeypatch):
    outputs = jnp.ones((2, 1))
    for factor in (2.0, 7.0):
        monkeypatch.setitem(globals(), "FACTOR", factor)
        assert weight_after_a_step(scaled_by_a_global) == -factor
        assert compile_for(scaled_by_a_global, outputs, outputs)(outputs, outputs).tolist() == [factor, factor]


def test_a_loss_with_a_large_constant_of_which_one_entry_changes():
    for total in (1.0, 4.0):
        table = jnp.zeros((300, 300)).at[150, 150].set(total)
        assert weight_after_a_step(lambda outputs, _, table=table: outputs[:, 0] * table.sum()) == -total


DEVICES = """
import jax, jax.numpy as jnp
from fnet.train.compile import compile_for

for value in (1.0, 4.0):
    table = jnp.zeros(999).at[500].set(value)
    assert compile_for(lambda x: table + x, 0.0)(0.0).sum() == value, "a constant that is an argument of the program"

mesh = jax.sharding.Mesh(jax.devices(), "i")
places = [*map(jax.sharding.SingleDeviceSharding, jax.devices())]
places += [jax.sharding.NamedSharding(mesh, jax.P("i")), jax.sharding.NamedSharding(mesh, jax.P())]
for place in places * 2:
    x = jax.device_put(jnp.arange(4.0), place)
    assert compile_for(lambda x: x + 1, x)(x).sharding.is_equivalent_to(place, 1), place
assert compile_for(lambda x: x + 1, x) is compile_for(lambda x: x + 1, x)
with jax.default_device(jax.devices()[1]):
    x = jnp.arange(4.0)
    assert compile_for(lambda x: x + 1, x)(x).device == jax.devices()[1]
"""


def test_devices_and_constants_that_are_arguments():
    """Both settings can be made only before JAX starts."""
    settings = {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_USE_SIMPLIFIED_JAXPR_CONSTANTS": "1",
        "JAX_PLATFORMS": "cpu",
    }
    result = subprocess.run([sys.executable, "-c", DEVICES], env=os.environ | settings, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_a_loss_that_calls_python():
    calls = []
    for name in ("first", "second"):

        def loss(outputs, targets, name=name):
            jax.debug.callback(lambda: calls.append(name))
            return outputs[:, 0]

        weight_after_a_step(loss)
        jax.effects_barrier()
    assert set(calls[: len(calls) // 2]) == {"first"}
    assert set(calls[len(calls) // 2 :]) == {"second"}


class Pair(NamedTuple):
    a: jax.Array
    b: jax.Array


class Couple(NamedTuple):
    a: jax.Array
    b: jax.Array


def test_programs_with_equal_text_keep_their_trees():
    """The programs of each pair differ in the trees of their results only."""
    x = jnp.arange(3.0)
    for first, second in ((lambda x: (x,), lambda x: [x]), (lambda x: Pair(x, 2 * x), lambda x: Couple(x, 2 * x))):
        for make in (first, second):
            assert same(compile_for(make, x)(x), make(x))


def test_programs_with_equal_text_keep_their_types():
    for make in (lambda: 2.0, lambda: jnp.float32(2.0)):
        assert compile_for(make)().weak_type == jnp.asarray(make()).weak_type
    for kind in ("rbg", "unsafe_rbg"):
        key = jax.random.key(3, impl=kind)
        assert compile_for(lambda x: x, key)(key).dtype == key.dtype
    for size in (2, 3):
        unused = jnp.ones(size)
        assert compile_for(lambda x: jnp.zeros(2), unused)(unused).tolist() == [0, 0]


def test_a_setting_of_jax_is_part_of_the_key():
    before = jax.config.values["jax_disable_most_optimizations"]
    programs = []
    try:
        for value in (True, False, True):
            jax.config.update("jax_disable_most_optimizations", value)
            programs.append(compile_for(lambda x: x - 3, 1))
    finally:
        jax.config.update("jax_disable_most_optimizations", before)
    assert programs[0] is programs[2]
    assert programs[0] is not programs[1]


def test_the_least_recently_used_program_is_dropped(monkeypatch):
    monkeypatch.setattr(compile, "_programs", compile._Programs(2))

    def program(factor):
        return compile_for(lambda x: factor * x, 1.0)

    first, second = program(2.0), program(3.0)
    assert program(2.0) is first
    program(4.0)
    assert program(2.0) is first
    assert program(3.0) is not second


def test_a_function_compiled_on_call():
    function = compile_on_call(lambda x, y, *, power: (x * y) ** power)
    assert function(jnp.arange(3.0), 2, power=2).tolist() == [0, 4, 16]
    assert function(jnp.arange(3.0), 3, power=2).tolist() == [0, 9, 36]
    assert function(jnp.arange(3.0), 3, power=1).tolist() == [0, 3, 6]
    assert function(jnp.arange(2), 0.5, power=1).tolist() == [0, 0.5]
    assert jax.grad(lambda x: function(x, 3.0, power=2))(2.0) == 36


def test_outputs_and_scores_of_an_equal_network_compile_nothing(rng, compilations):
    x, y = rng.standard_normal((5, 4)).astype(np.float32), rng.integers(0, 3, 5)
    for _ in range(2):
        before = len(compilations)
        net = fnet.serial(fnet.dense(3))
        params, state = net.init(jax.random.key(0), (4,))
        outputs_of(net, params, state, x)
        make_score(net, fnet.losses.LOSSES["cross_entropy"])(params, state, (x, y))
    assert len(compilations) == before > 0


def deep(blocks):
    """Return a network of equal residual blocks."""
    block = (fnet.layer_norm(), fnet.dense(4, init="he_normal"), fnet.batch_norm(), fnet.gelu(), fnet.dense(4))
    return fnet.serial(fnet.dense(4), *(fnet.residual(*block) for _ in range(blocks)), fnet.dense(2, init="orthogonal"))


def test_initial_weights_are_those_of_the_compiled_init():
    key = jax.random.key(5)
    assert same(initialize(deep(3), key, (4,)), jax.jit(lambda key: deep(3).init(key, (4,)))(key))


def test_initial_state_of_a_seed():
    net, optimizer = deep(1), optax.adam(0.1)
    assert same(
        state_of_seed(net, optimizer, 7, (4,)),
        jax.jit(lambda key: init_state(net, optimizer, key, (4,)))(jax.random.key(7)),
    )


def test_compilations_of_init_do_not_grow_with_depth(compilations):
    initialize(deep(2), jax.random.key(0), (4,))
    shallow = len(compilations)
    clear_programs()
    initialize(deep(9), jax.random.key(0), (4,))
    assert len(compilations) - shallow <= shallow


def test_equal_layers_are_traced_once_per_shape():
    traced = []

    @fnet.constructor
    def offset(scale: float = 1.0, *, name: str | None = None):
        def init(key, in_shape):
            traced.append((scale, in_shape))
            return {"b": scale * jax.random.normal(key, in_shape)}, {}

        return fnet.Parts(lambda in_shape: in_shape, init, lambda params, *_, **__: (params["b"], {}))

    net = fnet.serial(offset(), offset(), offset(2.0), offset(name="last"), fnet.dense(2), offset())
    params, _ = initialize(net, jax.random.key(0), (3,))
    assert same(params, net.init(jax.random.key(0), (3,))[0])
    assert sorted(set(traced)) == sorted(traced[:3]) == [(1.0, (2,)), (1.0, (3,)), (2.0, (3,))]
    assert len(traced) == 3 + 5


def test_init_of_a_container_that_maps_over_keys():
    """The keys of the layers inside are traced."""

    @fnet.constructor
    def ensemble(*layers: fnet.Layer, name: str | None = None):
        inner = fnet.serial(*layers)

        def init(key, in_shape):
            return jax.vmap(lambda key: inner.init(key, in_shape))(jax.random.split(key, 3))

        return fnet.Parts(inner.shape, init, inner.apply, inner.children)

    net = fnet.serial(ensemble(fnet.dense(2), fnet.relu()))
    assert same(initialize(net, jax.random.key(1), (4,)), net.init(jax.random.key(1), (4,)))


def test_init_of_repetitions_in_a_loop_is_one_program(compilations):
    net = fnet.serial(fnet.repeat(fnet.layer_norm(), fnet.dense(4), fnet.dense(4), times=3, scan=True))
    jax.clear_caches()
    params, state = initialize(net, jax.random.key(1), (4,))
    assert len(compilations) <= 6  # the program, and those that make the keys
    assert same((params, state), net.init(jax.random.key(1), (4,)))


def test_init_of_a_container_made_by_hand():
    inner = fnet.serial(fnet.dense(2), fnet.batch_norm())
    hand = fnet.Layer("hand", {}, inner.shape, inner.init, inner.apply, inner.children)
    net = fnet.serial(hand, fnet.dense(3))
    assert same(initialize(net, jax.random.key(1), (4,)), net.init(jax.random.key(1), (4,)))


def test_states_of_several_keys():
    keys = jax.random.split(jax.random.key(0), 3)
    net, optimizer = fnet.serial(fnet.dense(2)), optax.adam(0.1)
    states = jax.vmap(lambda key: init_state(net, optimizer, key, (4,)))(keys)
    assert same(jax.tree.map(lambda leaf: leaf[1], states), init_state(net, optimizer, keys[1], (4,)))


def test_a_gradient_check_of_an_equal_network_compiles_nothing(rng, compilations):
    x, y = rng.standard_normal((4, 3)), rng.integers(0, 2, 4)
    for _ in range(2):
        before = len(compilations)
        net = fnet.serial(fnet.dense(2), fnet.dropout(0.5), fnet.tanh())
        params, state = net.init(jax.random.key(0), (3,))
        assert check(net, "cross_entropy", params, state, x, y).ok
    assert len(compilations) == before > 0
