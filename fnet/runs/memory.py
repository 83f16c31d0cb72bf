"""The memory that training needs, estimated before it is asked for."""

import functools
import inspect
import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax

from fnet.core.constructor import no_parameters
from fnet.core.layer import Layer, Shape, freeze, walk
from fnet.core.traversal import can_rebuild, expanded, frozen_paths, in_shapes, loop_paths, renamed
from fnet.core.wording import in_bytes
from fnet.data import memory as machine
from fnet.runs.experiment import Experiment

_ENTRY = 4
"""Bytes of an entry of the data and of an output: float32 or int32."""


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
    targets = math.prod(spec.targets.shape) * (1 if spec.targets.kind == "classes" else spec.targets.number)
    train, validation, _ = experiment.sizes
    rows = 0 if experiment.data.stream else train + validation
    data = rows * (math.prod(spec.shape) + targets) * _ENTRY
    bytes_per_entry = 2 if any(layer.kind == "precision" for _, layer in walk(net)) else _ENTRY
    activations = plan.batch_size * largest * bytes_per_entry
    return MemoryNeed(parameters, gradients, in_optimizer, in_state, best, data, activations)


def _layers(net: Layer, in_shape: Any) -> Iterator[tuple[Layer, Any, int, bool]]:
    """Yield the layers without containers: layer, input shape, repetitions in a loop, and whether it is trained."""
    layers, shapes, frozen = dict(walk(net)), in_shapes(net, in_shape), frozen_paths(net)
    loops = {path: expanded(layers[path]).settings["times"] for path in loop_paths(net)}
    for path, shape in shapes.items():
        layer = layers[path]
        if not (layer.children and can_rebuild(layer)):
            times = math.prod(number for loop, number in loops.items() if path[: len(loop)] == loop)
            yield layer, shape, times, not any(path[: len(container)] == container for container in frozen)


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
    total, free = (limit, limit) if limit else (machine.total(), machine.free())
    where = f"the device {device}" if limit else "this machine"
    if need.total > total:
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
    total = machine.total()
    return "" if need.total <= total else _message(need, "this machine", total)


def _message(need: MemoryNeed, where: str, total: int) -> str:
    """Return a message that compares the memory needed with the memory available, and names the remedy."""
    if need.total - need.data - need.activations > total:
        remedy = "make the layers smaller"
    elif need.data > need.activations:
        remedy = "stream the data with data.stream=true"
    else:
        remedy = "make the batch smaller with train.batch_size=N"
    return f"training needs at least {need}, but {where} has {in_bytes(total)}; {remedy}"


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
