"""Functions as settings: one that can be imported is replaced by its dotted path, such as "jax.nn.mish"."""

import contextlib
import itertools
import sys
from collections.abc import Callable, Iterator
from typing import Any

from fnet.core import imports
from fnet.core.layer import Shape, ShapeError
from fnet.core.wording import first_line, shorten


def function_at(path: str) -> Callable[..., Any]:
    """Return the function at a dotted path, which a description may name as `fnet.core.imports` says.

    >>> function_at("math.sqrt")(9)
    3.0

    Raises:
        ValueError: if the path cannot be imported or does not lead to a function.
    """
    try:
        function = imports.lookup(path)
    except ValueError as error:
        raise type(error)(f"cannot import the function '{path}': {error}") from error
    if not callable(function):
        raise ValueError(f"'{path}' is not a function, but {type(function).__name__}; give the path of a function")
    return function


def accepted_function(path: str) -> Callable[..., Any]:
    """Return the function at a dotted path that `function_at` accepted, or that `named_by_path` returned."""
    module, _, name = path.rpartition(".")
    return getattr(sys.modules[module], name) if module in sys.modules else function_at(path)


@contextlib.contextmanager
def blamed(function: str | Callable[..., Any], shape: Shape) -> Iterator[None]:
    """Convert what a function that is named by its dotted path raises into a ShapeError, which names it.

    Args:
        function: the function, or its dotted path.
        shape: the shape for which it is called.
    """
    try:
        yield
    except ShapeError:
        raise
    except Exception as error:
        if not isinstance(function, str):
            raise
        reason = shorten(first_line(error), 200)
        message = f"{function} raises {type(error).__name__} for the shape {shape}: {reason}; name another function"
        raise ShapeError(message) from error


def named_by_path(function: Callable[..., Any]) -> str | Callable[..., Any]:
    """Return the dotted path of a function of a module, the shortest one without private names if there is one.

    No path leads to a lambda, a local function or a method, which are returned unchanged; nor, in another program, to a
    function of the main program.

    >>> import math
    >>> named_by_path(math.sqrt)
    'math.sqrt'
    """
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if module and module != "__main__" and name.isidentifier():
        # A library may define a function in a private module, jax._src.nn.functions, and export it from jax.nn.
        public = [part for part in module.split(".") if not part.startswith("_")]
        for package in (*itertools.accumulate(public, "{}.{}".format), module):
            if getattr(sys.modules.get(package), name, None) is function:
                return f"{package}.{name}"
    return function
