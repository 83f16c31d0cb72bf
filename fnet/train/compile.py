"""Compiled programs, which all calls that lower to the same program share.

Optimizers are new functions in every call, and a loss may read a variable that has changed since: whether two functions
compute the same cannot be told from the functions. So a function is traced and lowered every time, which is fast, and
XLA compiles the result, which is slow, only if it did not compile the same program before.
"""

import functools
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import jax
from jax.core import Tracer

PROGRAMS = 128
"""Maximum number of compiled programs to keep; the least recently used is dropped first."""

_ON_HOST = ("callback", "host_transfer")
"""Words in the text of a program that calls back into Python; the text does not identify the function."""

_LOGGING = ("jax_log_compiles", "jax_explain_cache_misses")
"""Settings of JAX that do not change programs."""

TRACED = (
    "fnet.train.fit, evaluation and gradient checks run on the host and cannot be traced, but an argument or a setting "
    "is a traced value; call them outside jax.jit, jax.vmap and jax.grad, or use fnet.train.make_step, which can be "
    "traced"
)
"""The message for traced values where programs are compiled at once."""


class _Programs:
    """The compiled programs by key, of which the most recently used are kept."""

    def __init__(self, size: int):
        self._size = size
        self._programs: OrderedDict[Hashable, jax.stages.Compiled] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> jax.stages.Compiled | None:
        with self._lock:
            if key in self._programs:
                self._programs.move_to_end(key)
            return self._programs.get(key)

    def add(self, key: Hashable, program: jax.stages.Compiled) -> None:
        with self._lock:
            self._programs[key] = program
            while len(self._programs) > self._size:
                self._programs.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._programs.clear()


_programs = _Programs(PROGRAMS)


def compile_for(function: Callable[..., Any], *args: Any, **settings: Any) -> Callable[..., Any]:
    """Return a function compiled for arguments of the shapes, types and devices of `args`.

    The function is traced anew, so that the result depends on what the function computes at this moment. The program is
    compiled only if no earlier call compiled the same program, with the same constants, for the same kind of arguments
    and results, on the same devices and with the same settings of JAX.

    Args:
        function: a function that `jax.jit` accepts.
        args: its positional arguments.
        settings: its keyword arguments, which are constants of the program.

    Returns:
        The compiled function of the positional arguments. It accepts only arguments like `args`.

    Raises:
        ValueError: when an argument, or a value that the function refers to, is traced.

    >>> import jax.numpy as jnp
    >>> def scale(factor):
    ...     return compile_for(lambda x: factor * x, jnp.ones(3))
    >>> scale(2.0) is scale(2.0), scale(3.0)(jnp.ones(3)).tolist()
    (True, [3.0, 3.0, 3.0])
    """
    refuse_tracers(args)
    traced = jax.jit(functools.partial(function, **settings)).trace(*args)
    if len(traced.jaxpr.in_avals) > len(jax.tree.leaves(args)):  # traced values that the function refers to
        raise ValueError(TRACED)
    lowered = traced.lower()
    key = _key_of(traced, lowered, args)
    program = None if key is None else _programs.get(key)
    if program is None:
        program = lowered.compile()
        if key is not None:
            _programs.add(key, program)
    return program


def refuse_tracers(tree: Any) -> None:
    """Check that no leaf of a pytree is traced.

    Raises:
        ValueError: when one is.
    """
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree)):
        raise ValueError(TRACED)


def compile_on_call(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that `compile_for` compiles once for every kind of arguments that it is called with.

    Its keyword arguments are hashable constants. A call with traced arguments is traced as usual.
    """
    programs: dict[Hashable, Callable[..., Any]] = {}

    def call(*args: Any, **settings: Any) -> Any:
        leaves, tree = jax.tree.flatten(args)
        if any(isinstance(leaf, Tracer) for leaf in leaves):
            return function(*args, **settings)
        types = tuple(jax.typeof(leaf) for leaf in leaves)
        kind = tree, types, _places(leaves), tuple(settings.items()), _settings()
        if kind not in programs:
            programs[kind] = compile_for(function, *args, **settings)
        return programs[kind](*args)

    return call


def clear_programs() -> None:
    """Forget all compiled programs, which frees their memory."""
    _programs.clear()


def _key_of(traced: jax.stages.Traced, lowered: jax.stages.Lowered, args: Any) -> Hashable | None:
    """Return the key of a program, equal for equal programs; None if the text does not determine the result.

    The text of a lowered program contains every constant in full, but neither the Python functions that it calls nor
    constants that JAX passes as arguments. It does not tell the types of the trees, of random keys and of weakly typed
    numbers, nor the devices.
    """
    text = lowered.as_text()
    lowering = getattr(lowered, "_lowering", None)  # without what JAX keeps there, programs are not shared
    constants_in_text = not getattr(lowering, "const_args", True)
    if not constants_in_text or any(word in text for word in _ON_HOST):
        return None
    return (
        hashlib.sha256(text.encode()).digest(),
        lowered.in_tree,
        lowered.out_tree,
        tuple(traced.jaxpr.in_avals),
        tuple(traced.jaxpr.out_avals),
        _places(jax.tree.leaves(args)),
        _settings(),
    )


def _places(leaves: list[Any]) -> tuple[Any, ...]:
    """Return the sharding of every array, and whether it is bound to its devices."""
    return tuple((leaf.sharding, leaf.committed) if isinstance(leaf, jax.Array) else None for leaf in leaves)


def _settings() -> tuple[tuple[str, str], ...]:
    """Return the settings of JAX, in the current context, that may change a program or how it is compiled."""
    return tuple((name, str(value)) for name, value in jax.config.values.items() if name not in _LOGGING)
