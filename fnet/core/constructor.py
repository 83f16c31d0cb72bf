"""Constructors: functions of settings that check their arguments and make a record, such as a `Layer`.

`make_constructor` makes the constructors of layers, composites and augmentations, fnet's own and those of users.
"""

import contextlib
import functools
import inspect
import math
import numbers
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, ParamSpec, TypeVar, overload

from fnet.core.layer import Apply, Layer, Shape, ShapeError, freeze, headline, is_shape, made_by
from fnet.core.settings import check_settings, layers_parameter, shown_signature
from fnet.core.traversal import RECORDED

MAX_ENTRIES = 2**48
"""The number of entries of one output, which takes a million gigabytes; beyond 2**63 the compiler fails."""


class Parts(NamedTuple):
    """The parts of a layer that the body of its constructor returns.

    shape, init, apply: the layer's functions, as `fnet.Layer` describes them.
    children: (name, layer) pairs of a container.
    draw: (key, shape) -> the random mask that apply draws in training; None if apply is deterministic.
    indices: number of different indices that the input may contain, for a layer that takes indices. By default a
        container takes those of its first layer that does not only rearrange its input.
    rearranges: whether the layer only rearranges the entries of its input, so that its input may be indices too.
    several_inputs: whether the input is a tuple or dict of arrays. By default a container takes what its first layer
        takes.
    """

    shape: Callable[[Any], Any]
    init: Callable[[Any, Any], tuple[dict[str, Any], dict[str, Any]]]
    apply: Apply
    children: tuple[tuple[str, Layer], ...] = ()
    draw: Callable[[Any, Any], Any] | None = None
    indices: int | Mapping[str, int | None] | None = None
    rearranges: bool = False
    several_inputs: bool | None = None


def no_parameters(key: Any, in_shape: Shape) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return empty parameters and an empty state: the `init` of a layer that has neither."""
    del key, in_shape
    return {}, {}


P = ParamSpec("P")
Body = TypeVar("Body")
Record = TypeVar("Record")


class Call(NamedTuple):
    """A checked call of a constructor.

    constructor: the constructor that was called.
    kind: name of the constructor, or its dotted path if it lies outside fnet.
    settings: values of all settings, defaults included.
    layers: positional layers of a container or composite.
    name: the setting `name`, if there is one.
    """

    constructor: Callable[..., Any]
    kind: str
    settings: dict[str, Any]
    layers: tuple[Layer, ...]
    name: str | None


def make_constructor(
    body: Callable[P, Body], record: type[Record], assemble: Callable[[Call, Body], Record]
) -> Callable[P, Record]:
    """Make a constructor from a function of settings.

    Args:
        body: an annotated function of the settings.
        record: the type that the constructor returns, which is also the return annotation of its signature.
        assemble: makes the record from the checked call and the value that `body` returned.

    Returns:
        The constructor. It checks its arguments against the signature of `body`.
    """
    signature = inspect.signature(body)
    kind = body.__name__ if body.__module__.startswith("fnet.") else f"{body.__module__}.{body.__name__}"
    variadic = layers_parameter(body)

    @functools.wraps(body)
    def construct(*args: P.args, **kwargs: P.kwargs) -> Record:
        try:
            arguments = signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise TypeError(f"{body.__name__}: {error}") from None
        layers = arguments.pop(variadic, ()) if variadic else ()
        settings = check_settings(body, {key: freeze(value) for key, value in arguments.items()})
        call = Call(construct, kind, settings, layers, settings.pop("name", None))
        return assemble(call, body(*layers, **settings))  # pyright: ignore[reportCallIssue]

    vars(construct).update(__signature__=shown_signature(body, record), record=record)
    return construct


@overload
def constructor(body: Callable[P, Parts | Layer]) -> Callable[P, Layer]: ...


@overload
def constructor(*, reference: Any) -> Callable[[Callable[P, Parts | Layer]], Callable[P, Layer]]: ...


def constructor(body: Any = None, *, reference: Any = None) -> Any:
    """Make a layer constructor from a function of settings that returns `Parts`, or another layer for a composite.

    The constructor checks its arguments against the annotated signature: an invalid setting raises a ValueError that
    names it. The layer checks that `train` is a Python bool, and its shape errors say where they occurred. The kind is
    the function's name, or its dotted path if it lies outside fnet, so that `describe` and the config find it again.

    Args:
        body: the function of settings.
        reference: the hand-written forward and backward pass, a `fnet.reference.Rule`, with which the gradient check
            compares JAX's gradient.

    >>> import fnet
    >>> @fnet.constructor
    ... def double(*, name: str | None = None):
    ...     '''y = 2 x.'''
    ...     def apply(params, state, x, *, train, key=None, mask=None):
    ...         return 2 * x, {}
    ...     return fnet.Parts(lambda in_shape: in_shape, fnet.no_parameters, apply)
    >>> double().shape((3,))
    (3,)

    A composite is defined by another layer, whose children it shows as its own:

    >>> @fnet.constructor
    ... def block(units: int, *, name: str | None = None):
    ...     '''A dense layer and its activation.'''
    ...     return fnet.serial(fnet.dense(units), fnet.relu())
    >>> [name for name, _ in block(3).children]
    ['dense_1', 'relu_1']
    """
    if body is None:
        return functools.partial(constructor, reference=reference)
    return make_constructor(body, Layer, functools.partial(_layer, reference))


def _layer(reference: Any, call: Call, body: Parts | Layer) -> Layer:
    expansion = body if isinstance(body, Layer) else None
    several = body.several_inputs
    if several is None:
        several = bool(body.children) and body.children[0][1].several_inputs
    layer = Layer(
        call.kind,
        call.settings,
        shape=_checked_shape(body.shape, call.kind, several),
        init=_checked_init(body.init, call.kind),
        apply=_checked_apply(body.apply, call.kind, several),
        children=body.children,
        name=call.name,
        draw=body.draw,
        indices=_indices_of_first(body.children) if body.indices is None else body.indices,
        rearranges=body.rearranges,
        several_inputs=several,
        reference=reference,
    )
    return made_by(layer, call.constructor, call.layers, expansion)


def _indices_of_first(children: tuple[tuple[str, Layer], ...]) -> int | Mapping[str, int | None] | None:
    """Return the number of indices that layers in series take: that of the first one that does not only rearrange."""
    return next((child.indices for _, child in children if not child.rearranges), None)


def _checked_shape(shape: Callable[[Any], Any], kind: str, several: bool) -> Callable[[Any], Any]:
    """Make a `shape` function check that it receives the shape of one array, unless the layer takes several."""

    @functools.wraps(shape)
    def checked(in_shape):
        if not several and not is_shape(in_shape):
            raise _too_many(kind, in_shape)
        with _located(kind):
            out_shape = shape(in_shape)
            # A size may be symbolic where a program for any size is exported.
            if is_shape(out_shape) and math.prod(n for n in out_shape if isinstance(n, int)) > MAX_ENTRIES:
                raise ShapeError(
                    f"its output would have the shape {out_shape}, which no machine holds; make it smaller"
                )
            return out_shape

    return checked


def _checked_init(init: Callable[[Any, Any], Any], kind: str) -> Callable[[Any, Any], Any]:
    """Make an `init` function check that it receives a key and a shape."""

    @functools.wraps(init)
    def checked(key, in_shape):
        if not isinstance(in_shape, tuple | Mapping):
            received = f"an array of shape {in_shape.shape}" if hasattr(in_shape, "shape") else repr(in_shape)
            raise TypeError(
                f"{kind}: init expects the shape of one example, without the batch axis, such as (28, 28, 1), got "
                f"{received}; pass a tuple, such as x.shape[1:]"
            )
        if key is None or isinstance(key, numbers.Integral):
            raise TypeError(f"{kind}: init expects a random key, got {key}; pass jax.random.key({key or 0})")
        with _located(kind):
            return init(key, in_shape)

    return checked


_REQUIRED: Any = object()
"""The default of a required argument whose absence has a message of its own."""


def _checked_apply(apply: Apply, kind: str, several: bool) -> Apply:
    """Make an `apply` function check its arguments and its result."""

    @functools.wraps(apply)
    def checked(params, state, x=_REQUIRED, *, train: Any = _REQUIRED, key=None, mask=None):
        _check_arguments(kind, params, state, x, train, mask)
        if not several and isinstance(x, tuple | Mapping):
            raise _too_many(kind, x)
        try:
            with _located(kind):
                result = apply(params, state, x, train=train, key=key, mask=mask)
        except KeyError as error:
            missing = error.args[0] if error.args else None
            own = "." in kind  # may look for keys of other mappings
            if own or not isinstance(missing, str) or (missing in params and missing in state):
                raise
            raise ValueError(
                f"{kind}: apply did not find the entry '{missing}' (parameters: {_names(params)}; state: "
                f"{_names(state)}); pass the params and the state that init returned for this network"
            ) from error
        return _check_result(kind, state, result)

    return checked


def _too_many(kind: str, x: Any) -> ShapeError:
    """Return the error for several arrays, or their shapes, where one is expected."""
    match x:
        case Mapping():
            received = f"a dict of {', '.join(map(str, x))}"
        case tuple():
            received = f"a tuple of {len(x)}"
        case _:
            received = f"a {type(x).__name__}"
    return ShapeError(
        f"expects one array, got {received}; choose one, or combine them with a graph that has several inputs",
        kind=kind,
    )


def _check_arguments(kind: str, params: Any, state: Any, x: Any, train: Any, mask: Any) -> None:
    if x is _REQUIRED:
        raise TypeError(
            f"{kind}: apply expects params, state and x, got two arguments; pass the state that init returned, "
            "even if it is empty: net.apply(params, state, x, train=False)"
        )
    if not isinstance(train, bool):
        if train is _REQUIRED:
            raise TypeError(
                f"{kind}: apply needs train: train=True for batch statistics and dropout, train=False for evaluation"
            )
        raise TypeError("train must be a Python bool: jit with static_argnames='train'")
    for name, tree in (("params", params), ("state", state)):
        if not isinstance(tree, Mapping):
            raise TypeError(
                f"{kind}: apply expects the {name} that init returned, a dict, got {type(tree).__name__}; "
                "call net.apply(params, state, x, train=...)"
            )
    received = getattr(mask, "dtype", type(mask).__name__)
    if mask is not None and str(received) != "bool":
        raise TypeError(
            f"{kind}: expects a Boolean mask, True for real examples or steps, got {received}; use mask.astype(bool), "
            "and give weights to the loss"
        )


def _check_result(kind: str, state: Mapping[str, Any], result: Any) -> tuple[Any, dict[str, Any]]:
    """Return the result of `apply` if it is an output and a state with the entries of the old state."""
    if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[1], Mapping):
        received = f"a tuple of {len(result)}" if isinstance(result, tuple) else f"a {type(result).__name__}"
        raise TypeError(f"{kind}: apply must return (y, state), with a dict as state, got {received}; return y, {{}}")
    forgotten = state.keys() - result[1].keys() - {RECORDED}
    if forgotten:
        raise ValueError(
            f"{kind}: apply must return a state with the entries that it received, but {_names(sorted(forgotten))} is "
            "missing; return y, state"
        )
    return result[0], dict(result[1])


def _names(names: Any) -> str:
    return ", ".join(map(str, names)) or "none"


@contextlib.contextmanager
def _located(kind: str) -> Iterator[None]:
    """Add a kind to the shape errors raised inside."""
    try:
        yield
    except ShapeError as error:
        raise ShapeError(error.message, error.path, kind) from error.__cause__


@contextlib.contextmanager
def at_child(name: str, child: Layer) -> Iterator[None]:
    """Add the name of a child to errors raised inside: to the path of a shape error, as a note to any other error."""
    try:
        yield
    except ShapeError as error:
        raise ShapeError(error.message, (name, *error.path)) from error.__cause__
    except Exception as error:
        error.add_note(f"in layer {name!r} ({headline(child)})")
        raise
