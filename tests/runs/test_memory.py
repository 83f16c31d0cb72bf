"""The estimate of the memory that training needs, counted by hand, and the memory that there is."""

import jax
import optax
import pytest

import fnet
from fnet.data import memory as machine
from fnet.data.sklearn import SklearnSource
from fnet.losses import resolve_loss
from fnet.runs import memory
from fnet.runs.experiment import Dataset, Experiment


def experiment(net, optimizer=None, **settings):
    """100 training and 20 validation examples of iris: 4 features and one label each."""
    source = SklearnSource("iris")
    data = Dataset(
        source=source, spec=source.spec(), parts=(100 / 150, 20 / 150, 30 / 150), stream=settings.pop("stream", False)
    )
    return Experiment(
        name="m",
        net=net,
        data=data,
        loss=resolve_loss("cross_entropy"),
        loss_settings={"name": "cross_entropy"},
        optimizer=lambda steps: optimizer or optax.adam(1e-3),
        **settings,
    )


def test_every_purpose_is_counted():
    """dense: 4 * 5 weights and 5 biases; batch_norm: 5 + 5 parameters, 5 + 5 in its state; dense: 5 * 3 + 3.

    Adam has two moments and a counter of 4 bytes.
    """
    net = fnet.serial(fnet.dense(5), fnet.batch_norm(), fnet.relu(), fnet.dense(3))
    need = memory.estimate(experiment(net, batch_size=16))
    parameters = 4 * (25 + 10 + 18)
    assert need == memory.MemoryNeed(parameters, parameters, 2 * parameters + 4, 4 * 10, 0, 120 * 5 * 4, 16 * 5 * 4)
    assert need.total == sum(need)


def test_early_stopping_keeps_a_copy_and_streamed_data_stays_on_disk():
    net = fnet.dense(3)
    need = memory.estimate(experiment(net, optax.sgd(0.1), early_stopping=fnet.train.EarlyStopping(), stream=True))
    assert need == memory.MemoryNeed(60, 60, 0, 0, 60, 0, 32 * 3 * 4)


def test_the_best_epoch_has_parameters_and_both_states():
    net = fnet.serial(fnet.dense(5), fnet.batch_norm(), fnet.dense(3))
    need = memory.estimate(experiment(net, early_stopping=fnet.train.EarlyStopping()))
    parameters = 4 * (25 + 10 + 18)
    assert (need.parameters, need.optimizer, need.state) == (parameters, 2 * parameters + 4, 4 * 10)
    assert need.best_epoch == need.parameters + need.optimizer + need.state


def test_frozen_layers_have_no_gradient():
    net = fnet.serial(fnet.frozen(fnet.dense(6)), fnet.dense(3))
    need = memory.estimate(experiment(net, optax.sgd(0.1, momentum=0.9)))
    assert (need.parameters, need.gradients, need.optimizer) == (4 * (30 + 21), 4 * 21, 4 * 21)


@pytest.mark.parametrize("scan", [False, True])
def test_repeated_layers_are_counted_every_time(scan):
    net = fnet.serial(fnet.repeat(fnet.repeat(fnet.dense(4), times=2, scan=scan), times=3, scan=scan), fnet.dense(3))
    assert memory.estimate(experiment(net)).parameters == 4 * (6 * 20 + 15)


def test_the_layers_of_a_loop_are_counted_once_and_multiplied():
    net = fnet.serial(fnet.repeat(fnet.dense(4), times=10**4, scan=True), fnet.dense(3))
    assert memory.estimate(experiment(net)).parameters == 4 * (10**4 * 20 + 15)


def test_shared_and_named_layers_are_counted_once():
    twice = fnet.graph(fnet.dense(4, name="f"), nodes={"a": ("f", "input"), "b": ("f", "a"), "y": ("add", "a", "b")})
    net = fnet.serial(fnet.residual(fnet.dense(4), fnet.relu()), twice, fnet.dense(3, name="head"))
    params, _ = net.init(jax.random.key(0), (4,))
    assert memory.estimate(experiment(net)).parameters == 4 * fnet.count(params)


def test_nothing_is_allocated_or_compiled(monkeypatch):
    monkeypatch.setattr(jax.stages.Lowered, "compile", lambda *_: pytest.fail("compiled"))
    monkeypatch.setattr(jax, "devices", lambda: pytest.fail("a device was started"))
    need = memory.estimate(experiment(fnet.serial(fnet.dense(10**11), fnet.dense(3))))
    assert need.parameters == 4 * (5 * 10**11 + 3 * 10**11 + 3)


NEED = memory.MemoryNeed(200, 200, 400, 0, 0, 100, 50)


@pytest.mark.parametrize(
    ("total", "remedy"),
    [
        (799, "make the layers smaller"),
        (949, "stream the data with data.stream=true"),
    ],
)
def test_what_exceeds_all_memory_is_refused(total, remedy, monkeypatch):
    monkeypatch.setattr(machine, "total", lambda: total)
    text = (
        "training needs at least 950 bytes of memory (parameters 200 bytes, gradients 200 bytes, optimizer 400 bytes, "
        f"data 100 bytes, activations 50 bytes), but this machine has {total} bytes; {remedy}"
    )
    with pytest.raises(memory.NotEnoughMemory) as refused:
        memory.check(NEED)
    assert str(refused.value) == memory.excess(NEED) == text
    large_batch = NEED._replace(activations=101)
    monkeypatch.setattr(machine, "total", lambda: 1000)
    assert memory.excess(large_batch).endswith("1 kB; make the batch smaller with train.batch_size=N")


def test_what_fits_once_memory_is_freed_is_warned_of(monkeypatch):
    monkeypatch.setattr(machine, "total", lambda: 950)
    monkeypatch.setattr(machine, "free", lambda: 949)
    with pytest.warns(memory.MemoryWarning, match="needs at least 950 bytes of memory, and 949 bytes are free"):
        memory.check(NEED)
    assert memory.excess(NEED) == ""
    monkeypatch.setattr(machine, "free", lambda: 950)
    memory.check(NEED)


def test_the_memory_of_a_device_counts_where_it_tells(monkeypatch):
    class Device:
        def memory_stats(self):
            return {"bytes_limit": 900}

        def __str__(self):
            return "cuda:0"

    monkeypatch.setattr(jax, "devices", lambda: [Device()])
    with pytest.raises(memory.NotEnoughMemory, match=r"but the device cuda:0 has 900 bytes; stream"):
        memory.check(NEED)


def test_the_limit_of_a_container_is_the_memory_of_the_machine(monkeypatch, tmp_path):
    whole = machine.total()
    assert machine.free() <= whole
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(machine, "_CGROUPS", (str(limit), str(tmp_path / "absent")))
    limit.write_text("max\n")
    assert machine.total() >= whole
    limit.write_text("1048576\n")
    assert machine.total() == 2**20
