"""Constructors: functions of settings that check their arguments and make a record, such as a `Layer`.

`make_constructor` makes the constructors of layers, composites and augmentations, fnet's own and those of users.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, ParamSpec, TypeVar

from fnet.core.layer import Layer, Shape, ShapeError, freeze, headline
from fnet.core.settings import check_settings, layers_parameter


class Parts(NamedTuple):
    """The parts of a layer that the body of its constructor returns.

    shape, init, apply: the layer's functions, as `fnet.Layer` describes them.
    children: (name, layer) pairs of a container.
    draw: (key, shape) -> the random mask that apply draws in training; None if apply is deterministic.
    indices: number of different indices that the input may contain, for a layer that takes indices. By default a
        container takes those of its first layer that does not only rearrange its input.
    rearranges: whether the layer only rearranges the entries of its input, so that its input may be indices too.
    """

    shape: Callable[[Shape], Shape]
    init: Callable[[Any, Shape], tuple[dict[str, Any], dict[str, Any]]]
    apply: Callable[..., tuple[Any, dict[str, Any]]]
    children: tuple[tuple[str, Layer], ...] = ()
    draw: Callable[[Any, Shape], Any] | None = None
    indices: int | None = None
    rearranges: bool = False


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

    vars(construct)["__signature__"] = signature.replace(return_annotation=record)
    return construct


def constructor(body: Callable[P, Parts | Layer]) -> Callable[P, Layer]:
    """Make a layer constructor from a function of settings that returns `Parts`, or another layer for a composite.

    The constructor checks its arguments against the annotated signature: an invalid setting raises a ValueError that
    names it. The layer checks that `train` is a Python bool, and its shape errors say where they occurred. The kind is
    the function's name, or its dotted path if it lies outside fnet, so that `describe` and the config find it again.

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
    return make_constructor(body, Layer, _layer)


def _layer(call: Call, body: Parts | Layer) -> Layer:
    return Layer(
        **call._asdict(),
        shape=_locate_errors(body.shape, call.kind),
        init=_locate_errors(body.init, call.kind),
        apply=_locate_errors(_check_modes(body.apply, call.kind), call.kind),
        children=body.children,
        expansion=body if isinstance(body, Layer) else None,
        indices=_indices_of_first(body.children) if body.indices is None else body.indices,
        rearranges=body.rearranges,
        draw=body.draw,
    )


def _indices_of_first(children: tuple[tuple[str, Layer], ...]) -> int | None:
    """Return the number of indices that layers in series take: that of the first one that does not only rearrange."""
    return next((child.indices for _, child in children if not child.rearranges), None)


def _locate_errors(function: Callable[..., Any], kind: str) -> Callable[..., Any]:
    """Add the layer's kind to the shape errors of a function; a container replaces it by the layer's path."""

    @functools.wraps(function)
    def locating(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except ShapeError as error:
            raise ShapeError(error.message, error.path, kind) from None

    return locating


def _check_modes(apply: Callable[..., Any], kind: str) -> Callable[..., Any]:
    """Make an `apply` function check that `train` is a Python bool and the mask an array of Booleans."""

    @functools.wraps(apply)
    def checking(params, state, x, *, train, key=None, mask=None):
        if not isinstance(train, bool):
            raise TypeError("train must be a Python bool: jit with static_argnames='train'")
        received = getattr(mask, "dtype", type(mask).__name__)
        if mask is not None and str(received) != "bool":
            raise TypeError(
                f"{kind}: expects a Boolean mask, True for real examples or steps, got {received}; use "
                "mask.astype(bool), and give weights to the loss"
            )
        return apply(params, state, x, train=train, key=key, mask=mask)

    return checking


@contextlib.contextmanager
def at_child(name: str, child: Layer) -> Iterator[None]:
    """Add the name of a child to errors raised inside: to the path of a shape error, as a note to any other error."""
    try:
        yield
    except ShapeError as error:
        raise ShapeError(error.message, (name, *error.path)) from None
    except Exception as error:
        error.add_note(f"in layer {name!r} ({headline(child)})")
        raise
