"""The memory that training needs, estimated before it is asked for, and the memory that there is."""

import dataclasses
import functools
import inspect
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from fnet.core.constructor import no_parameters
from fnet.core.layer import Layer, Shape, freeze, walk
from fnet.core.traversal import can_rebuild, frozen_paths, map_layers, renamed, rewire
from fnet.data.split import sizes
from fnet.layers.combine import serial
from fnet.runs.experiment import Experiment

_ENTRY = 4
"""Bytes of an entry of the data and of an output: float32 or int32."""

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class NotEnoughMemory(RuntimeError):
    """Training needs more memory than there is."""

    exit_status = 3


class MemoryWarning(UserWarning):
    """Training may need more memory than is free."""


class MemoryNeed(NamedTuple):
    """Bytes that training needs at least, by purpose.

    parameters: the parameters, in the precision that `init` gives them.
    gradients: one gradient per parameter.
    optimizer: the state of the optimizer.
    state: the non-trainable state, such as running means.
    best_epoch: with early stopping, the parameters and states of the best epoch.
    data: the training and validation examples with their targets; nothing for streamed data.
    activations: the largest output of a layer with parameters, for one batch.
    """

    parameters: int
    gradients: int
    optimizer: int
    state: int
    best_epoch: int
    data: int
    activations: int

    @property
    def total(self) -> int:
        """Sum of all purposes."""
        return sum(self)

    def __str__(self) -> str:
        """Return the total and the purposes that need something, as text."""
        parts = (f"{name.replace('_', ' ')} {in_bytes(value)}" for name, value in self._asdict().items() if value)
        return f"{in_bytes(self.total)} of memory ({', '.join(parts)})"


def estimate(experiment: Experiment) -> MemoryNeed:
    """Return the memory that the training of an experiment needs at least; nothing is allocated or compiled.

    It is a lower bound: the program also holds copies of the training state, all activations that the backward pass
    needs, workspace of the compiler and the source data.
    """
    net, spec, plan = experiment.net, experiment.spec, experiment.plan()
    optimizer = experiment.optimizer(plan.steps)
    known: dict[Any, tuple[list[_Leaf], int, int]] = {}  # equal layers with inputs of the same shape are equally large
    counters = _bytes(jax.eval_shape(optimizer.init, {}))
    in_optimizer_of = functools.cache(lambda leaf: _bytes(jax.eval_shape(optimizer.init, leaf.tree())) - counters)
    parameters = gradients = in_state = largest = 0
    in_optimizer = counters
    for layer, in_shape, times, trained in _layers(net, spec.shape):
        call = renamed(layer, None), freeze(in_shape)
        known[call] = known.get(call) or _sizes_of(layer, in_shape)
        leaves, state, outputs = known[call]
        largest = max(largest, outputs) if leaves else largest
        in_state += times * state
        for leaf in leaves:
            parameters += times * _bytes(leaf.tree())
            gradients += times * trained * _bytes(leaf.tree())
            in_optimizer += times * trained * in_optimizer_of(leaf)
    best = parameters + in_state + in_optimizer if experiment.early_stopping is not None else 0
    targets = math.prod(spec.targets.shape) * (spec.targets.number if spec.targets.kind == "values" else 1)
    train, validation, _ = sizes(experiment.data.parts, spec.size, spec.splits)
    rows = 0 if experiment.data.stream else train + validation
    data = rows * (math.prod(spec.shape) + targets) * _ENTRY
    bytes_per_entry = 2 if any(layer.kind == "precision" for _, layer in walk(net)) else _ENTRY
    activations = plan.batch_size * largest * bytes_per_entry
    return MemoryNeed(parameters, gradients, in_optimizer, in_state, best, data, activations)


def _layers(net: Layer, in_shape: Any) -> Iterator[tuple[Layer, Any, int, bool]]:
    """Yield the layers without containers: layer, input shape, repetitions in a loop, and whether it is trained."""
    loops: dict[str, int] = {}

    def once(path: str, layer: Layer) -> Layer:
        """Return the body of a loop, whose layers are under the same names."""
        if layer.kind != "repeat" or layer.constructor is None or not layer.settings["scan"]:
            return layer
        loops[path] = layer.settings["times"]
        return serial(*layer.layers)

    net = map_layers(once, net)
    containers = {path for path, layer in walk(net) if layer.children and can_rebuild(layer)}
    frozen = ["/".join(path) for path in frozen_paths(net)]
    found: dict[str, tuple[Layer, Any]] = {}

    def recorded(path: tuple[str, ...], layer: Layer) -> Layer:
        if path in containers:
            return layer

        def shape(in_shape: Any) -> Any:
            found["/".join(path)] = layer, in_shape
            return layer.shape(in_shape)

        return dataclasses.replace(layer, shape=shape)

    rewire(net, recorded).shape(in_shape)
    for path, (layer, shape) in found.items():
        times = math.prod(number for loop, number in loops.items() if _is_inside(path, loop))
        yield layer, shape, times, not any(_is_inside(path, container) for container in frozen)


def _is_inside(path: str, container: str) -> bool:
    return not container or path == container or path.startswith(f"{container}/")


class _Leaf(NamedTuple):
    """A parameter: its name in its layer, shape and type."""

    name: str
    shape: Shape
    dtype: Any

    def tree(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {self.name: jax.ShapeDtypeStruct(self.shape, self.dtype)}


def _sizes_of(layer: Layer, in_shape: Any) -> tuple[list[_Leaf], int, int]:
    """Return the parameters of a layer, the bytes of its state, and the number of its outputs for one example."""
    outputs = _entries(layer.shape(in_shape))
    if inspect.unwrap(layer.init) is no_parameters:
        return [], 0, outputs
    key = jax.eval_shape(lambda: jax.random.key(0))
    params, state = jax.eval_shape(lambda key: layer.init(key, in_shape), key)
    leaves = [_Leaf(path[-1].key, leaf.shape, leaf.dtype) for path, leaf in jax.tree_util.tree_leaves_with_path(params)]
    return leaves, _bytes(state), outputs


def check(need: MemoryNeed) -> None:
    """Compare what training needs with the memory of the device, or of the machine if it trains on the CPU.

    A MemoryWarning is issued if it fits into the memory only once other programs free some.

    Raises:
        NotEnoughMemory: when it exceeds all the memory that there is.
    """
    device = jax.devices()[0]
    limit = (device.memory_stats() or {}).get("bytes_limit")
    total, free = (limit, limit) if limit else (machine_total(), machine_free())
    where = f"the device {device}" if limit else "this machine"
    if total is not None and need.total > total:
        raise NotEnoughMemory(_message(need, where, total))
    if free is not None and need.total > free:
        warnings.warn(
            f"training needs at least {in_bytes(need.total)} of memory, and {in_bytes(free)} are free; other programs "
            "may have to free some",
            MemoryWarning,
            stacklevel=2,
        )


def excess(need: MemoryNeed) -> str:
    """Return the message if training needs more than the memory of this machine, else ""; no device is started."""
    total = machine_total()
    return "" if total is None or need.total <= total else _message(need, "this machine", total)


def _message(need: MemoryNeed, where: str, total: int) -> str:
    """Return what is needed, what there is, and the remedy for the part that does not fit."""
    if need.total - need.data - need.activations > total:
        remedy = "make the layers smaller"
    elif need.data > need.activations:
        remedy = "stream the data with data.stream=true"
    else:
        remedy = "make the batch smaller with train.batch_size=N"
    return f"training needs at least {need}, but {where} has {in_bytes(total)}; {remedy}"


def machine_total() -> int | None:
    """Return the memory that this process may use in all: that of the machine, or the limit of its control group."""
    try:
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not on this system
        return None
    return min([machine, *_cgroup_limits()])


def machine_free() -> int | None:
    """Return the memory that is free, or can be freed without swapping; None if the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return kilobytes[0] * 1024 if kilobytes else None


def _cgroup_limits() -> Iterator[int]:
    """Yield the limits of the control group, in a container that has some."""
    for file in _CGROUP_LIMITS:
        try:
            yield int(Path(file).read_text(encoding="ascii"))
        except (OSError, ValueError):  # no such file, or "max"
            continue


def _entries(shape: Any) -> int:
    """Return the number of entries of arrays whose shapes are given, one shape or a tuple or dict of them."""
    parts = shape.values() if isinstance(shape, Mapping) else shape
    one = all(isinstance(part, int) for part in parts)
    return math.prod(parts) if one else sum(map(_entries, parts))


def _bytes(tree: Any) -> int:
    """Return the bytes of the arrays of a pytree of shapes; a random key takes 8."""
    return sum(
        math.prod(leaf.shape) * (8 if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.extended) else leaf.dtype.itemsize)
        for leaf in jax.tree.leaves(tree)
    )


def in_bytes(number: float) -> str:
    """Return a number of bytes as text.

    >>> in_bytes(950), in_bytes(1_260_000), in_bytes(160 * 10**9), in_bytes(4 * 10**16)
    ('950 bytes', '1.3 MB', '160 GB', '40,000 TB')
    """
    if number < 1000:
        return f"{number:.0f} bytes"
    units = ["kB", "MB", "GB", "TB"]
    while (number := number / 1000) >= 1000 and len(units) > 1:
        del units[0]
    return f"{number:,.1f}".removesuffix(".0") + f" {units[0]}"
