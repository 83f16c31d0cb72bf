"""Functions as settings: a function that can be imported is named by its dotted path, such as "jax.nn.mish"."""

import importlib
import itertools
import sys
from collections.abc import Callable
from typing import Any


def function_at(path: str) -> Callable[..., Any]:
    """Return the function at a dotted path.

    >>> function_at("math.sqrt")(9)
    3.0

    Raises:
        ValueError: if the path cannot be imported or does not lead to a function.
    """
    module, _, name = path.rpartition(".")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"cannot import the function '{path}': {error}") from None
    if not callable(function):
        raise ValueError(f"'{path}' is not a function, but {type(function).__name__}; give the path of a function")
    return function


def path_of(function: Callable[..., Any]) -> str:
    """Return the dotted path of a function of a module, the shortest one without private names if there is one.

    >>> import math
    >>> path_of(math.sqrt)
    'math.sqrt'

    Raises:
        ValueError: for a lambda, a local function, a method, or any other function that a path does not lead to.
    """
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if module and module != "__main__" and name.isidentifier():
        # A library may define a function in a private module, jax._src.nn.functions, and export it from jax.nn.
        public = [part for part in module.split(".") if not part.startswith("_")]
        packages = itertools.accumulate(public, "{}.{}".format)
        for package in (*packages, module):
            if getattr(sys.modules.get(package), name, None) is function:
                return f"{package}.{name}"
    raise ValueError(
        f"a description cannot contain the function {name or function!r}, because no dotted path leads to it; define "
        'it in a module with def, and give its path as text, such as "my_module.my_function"'
    )
