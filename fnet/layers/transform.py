"""Transforms: containers that change how, how often or in which precision the layers inside are computed."""

import dataclasses
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from annotated_types import Interval

from fnet.core.constructor import Parts, constructor
from fnet.core.layer import Layer, Name, walk
from fnet.core.traversal import can_rebuild, key_number, name_children, rewire
from fnet.layers.combine import same_shape, serial, shapes_of

__all__ = ["frozen", "precision", "remat", "repeat"]

MAX_TIMES = 1_000_000
"""Maximum number of repetitions of one `repeat`."""

MAX_LAYERS = 100_000
"""Maximum number of layers of a `repeat` without `scan`, those inside its layers included."""


@constructor
def repeat(
    *layers: Layer, times: Annotated[int, Interval(ge=1, le=MAX_TIMES)], scan: bool = False, name: Name = None
) -> Parts | Layer:
    """Layers repeated several times, each time with its own parameters: a `serial` of `times` `serial` layers.

    With `scan` the repetitions run in a loop (`jax.lax.scan`), so that the time to compile does not depend on their
    number. Their parameters are stacked: every leaf has a first axis of length `times`, under the names of the layers.
    Both forms start from the same weights and compute the same function; without `scan` the compiled program is often
    faster, and every repetition has parameters of its own name.

    Args:
        layers: the layers to repeat, first to last; with `scan` they must preserve the shape.
        times: number of repetitions; for more than 1,000,000, put a `repeat` with `scan` inside another one.
        scan: whether the repetitions run in a loop.
        name: replaces the automatic name (kind and number).

    Raises:
        ShapeError: with `scan`, when the layers change the shape.
        ValueError: when times is less than 1 or more than 1,000,000, or the repetitions without `scan` have more than
            100,000 layers.

    >>> import jax, fnet
    >>> [name for name, _ in fnet.repeat(fnet.dense(8), fnet.relu(), times=3).children]
    ['serial_1', 'serial_2', 'serial_3']
    >>> params, _ = fnet.repeat(fnet.dense(8), fnet.relu(), times=3, scan=True).init(jax.random.key(0), (8,))
    >>> params["dense_1"]["w"].shape
    (3, 8, 8)
    """
    inner = serial(*layers)
    if not scan:
        number = times * sum(1 for _ in walk(inner))
        if number > MAX_LAYERS:
            raise ValueError(
                f"repeat: expected at most {MAX_LAYERS:,} layers without scan, got {number:,} in {times:,} "
                "repetitions; use scan: true, or make times smaller"
            )
        return serial(*[inner] * times)

    def shape(in_shape):
        return same_shape(inner.shape(in_shape), in_shape, "repeat them without scan")

    def keys_of(key):
        if key is None:
            return None
        numbers = jnp.array([key_number(name) for name, _ in name_children([inner] * times)], jnp.uint32)
        return jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)

    def init(key, in_shape):
        shape(in_shape)
        return jax.vmap(lambda key: inner.init(key, in_shape))(keys_of(key))

    def apply(params, state, x, *, train, key=None, mask=None):
        shape(shapes_of(x))

        def body(x, repetition):
            params, state, key = repetition
            y, state = inner.apply(params, state, x, train=train, key=key, mask=mask)
            return jax.tree.map(lambda after, before: after.astype(before.dtype), y, x), state

        return jax.lax.scan(body, x, (params, state, keys_of(key)), length=times)

    return Parts(shape, init, apply, inner.children, indices=inner.indices, rearranges=inner.rearranges)


@constructor
def remat(*layers: Layer, name: Name = None) -> Parts:
    """Layers in series whose activations are recomputed in the backward pass instead of stored.

    Outputs and gradients are those of `serial`. Memory for the activations inside is needed only while the gradient of
    these layers is computed, at the price of a second forward pass. It pays around each block of a deep network.

    Args:
        layers: the layers, first to last, named as in `serial`.
        name: replaces the automatic name (kind and number).

    Source: Chen, Xu, Zhang and Guestrin, "Training deep nets with sublinear memory cost" (2016); `jax.checkpoint`.

    >>> import fnet
    >>> fnet.remat(fnet.dense(3), fnet.relu()).shape((4,))
    (3,)
    """
    inner = serial(*layers)

    def apply(params, state, x, *, train, key=None, mask=None):
        def forward(params, state, x, key, mask):
            return inner.apply(params, state, x, train=train, key=key, mask=mask)

        return jax.checkpoint(forward)(params, state, x, key, mask)

    return Parts(inner.shape, inner.init, apply, inner.children, rearranges=inner.rearranges)


@constructor
def precision(
    *layers: Layer, compute: Literal["bfloat16", "float16", "float32"] = "bfloat16", name: Name = None
) -> Parts:
    """Layers in series that compute in another floating-point format; mixed precision.

    Parameters and state remain as they are, in float32 by default; a copy of the parameters and the input of every
    layer inside, containers included, are converted, except inside another `precision`. Normalization layers compute
    their statistics and attention its softmax in float32 nevertheless. The output is converted back to the format of
    the input, or to JAX's default for an input of indices, so that a loss is computed in float32. Arrays of float64 are
    not converted: the gradient check sees through this layer.

    Args:
        layers: the layers, first to last, named as in `serial`.
        compute: format to compute in. bfloat16 has the range of float32 and about 3 significant digits; float16 has
            more digits and overflows at 65,504.
        name: replaces the automatic name (kind and number).

    Source: Micikevicius et al., "Mixed precision training" (2018).

    >>> import jax, jax.numpy as jnp, fnet
    >>> net = fnet.precision(fnet.dense(3), compute="bfloat16")
    >>> params, state = net.init(jax.random.key(0), (2,))
    >>> y, _ = net.apply(params, state, jnp.ones((1, 2)), train=False)
    >>> params["dense_1"]["w"].dtype.name, y.dtype.name
    ('float32', 'float32')
    """
    inner = serial(*layers)
    nested = [path for path, layer in walk(inner) if layer.kind == precision.__name__]

    originals = dict(walk(inner))

    def converted(path: tuple[str, ...], layer: Layer) -> Layer:
        if any(path[: len(other)] == other for other in nested):
            return layer
        # The layers inside a container convert their own parameters, if it could be made again with them.
        own = not layer.children or not can_rebuild(originals[path])
        return _converting(layer, compute, parameters=own)

    computing = rewire(inner, converted)

    def apply(params, state, x, *, train, key=None, mask=None):
        y, state = computing.apply(params, state, x, train=train, key=key, mask=mask)
        floating = [part.dtype for part in jax.tree.leaves(x) if jnp.issubdtype(part.dtype, jnp.floating)]
        return _cast(y, floating[0] if floating else jnp.result_type(float)), state

    return Parts(inner.shape, inner.init, apply, inner.children, rearranges=inner.rearranges)


def _converting(layer: Layer, dtype: str, *, parameters: bool) -> Layer:
    """Return the layer with its input, and its parameters too if so, converted to a floating-point format."""

    def apply(params, state, x, *, train, key=None, mask=None):
        params = _cast(params, dtype) if parameters else params
        return layer.apply(params, state, _cast(x, dtype), train=train, key=key, mask=mask)

    return dataclasses.replace(layer, apply=apply)


def _cast(tree: Any, dtype: Any) -> Any:
    """Convert the arrays of real numbers in a tree; indices, masks and arrays of float64 remain as they are."""

    def cast(part: jax.Array) -> jax.Array:
        present = jnp.result_type(part)
        return jnp.astype(part, dtype) if jnp.issubdtype(present, jnp.floating) and present != "float64" else part

    return jax.tree.map(cast, tree)


@constructor
def frozen(*layers: Layer, name: Name = None) -> Parts:
    """Layers in series that are not trained: they compute as in evaluation, and their parameters remain as they are.

    Inside, dropout is inactive, normalization uses the statistics of the state, and the state does not change. The
    gradient with respect to the parameters is 0, and passes through to the input. `fnet.train` keeps no optimizer state
    for them and excludes them from weight decay, penalties and the max-norm constraint.

    Args:
        layers: the layers, first to last, named as in `serial`.
        name: replaces the automatic name (kind and number).

    >>> import jax, jax.numpy as jnp, fnet
    >>> net = fnet.serial(fnet.frozen(fnet.dense(2)), fnet.dense(1))
    >>> params, state = net.init(jax.random.key(0), (3,))
    >>> gradient = jax.grad(lambda params: net.apply(params, state, jnp.ones((1, 3)), train=True)[0].sum())(params)
    >>> float(abs(gradient["frozen_1"]["dense_1"]["w"]).sum()), gradient["dense_1"]["b"].tolist()
    (0.0, [1.0])
    """
    inner = serial(*layers)

    def apply(params, state, x, *, train, key=None, mask=None):
        return inner.apply(jax.lax.stop_gradient(params), state, x, train=False, key=key, mask=mask)

    return Parts(inner.shape, inner.init, apply, inner.children, rearranges=inner.rearranges)
