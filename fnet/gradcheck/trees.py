"""Inputs and outputs that are one array, or a tuple or dict of arrays: their names, and their replacement."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np


def named(prefix: str, tree: Any) -> dict[str, Any]:
    """Return the arrays of a tree by name; the name of a tree that is one array is the prefix.

    >>> named("input", 1.0), named("input", {"query": 1.0, "memory": None})
    ({'input': 1.0}, {'input/query': 1.0})
    """
    return {_name(prefix, path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def replaced(prefix: str, tree: Any, arrays: Mapping[str, Any]) -> Any:
    """Return the tree with these arrays in place of those with the same name."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: arrays.get(_name(prefix, path), leaf), tree)


def differentiable(prefix: str, tree: Any) -> tuple[str, ...]:
    """Return the names of the arrays of real numbers; an array of integers cannot be differentiated."""
    return tuple(name for name, leaf in named(prefix, tree).items() if not np.issubdtype(leaf.dtype, np.integer))


def examples(tree: Any) -> int:
    """Return the number of examples, the length of the first axis of every array."""
    return len(jax.tree.leaves(tree)[0])


def _name(prefix: str, path: Any) -> str:
    return "/".join(filter(None, (prefix, jax.tree_util.keystr(path, simple=True, separator="/"))))
