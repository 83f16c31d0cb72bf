"""How a layer is made: from a function of its settings to a `Layer` that checks what it is given."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, ParamSpec

from fnet.core.layer import Layer, Shape, ShapeError, frozen, headline
from fnet.core.settings import checked, children_of


class Parts(NamedTuple):
    """What the body of a constructor returns: three functions, a container's children, how dropout draws its mask."""

    shape: Callable[[Shape], Shape]
    init: Callable[[Any, Shape], tuple[dict[str, Any], dict[str, Any]]]
    apply: Callable[..., tuple[Any, dict[str, Any]]]
    children: tuple[tuple[str, Layer], ...] = ()
    draw: Callable[[Any, Shape], Any] | None = None


def no_parameters(key: Any, in_shape: Shape) -> tuple[dict[str, Any], dict[str, Any]]:
    """The `init` of a layer that has neither parameters nor state."""
    del key, in_shape
    return {}, {}


P = ParamSpec("P")


def constructor(body: Callable[P, Parts]) -> Callable[P, Layer]:
    """Makes a layer constructor of a function from settings to `Parts`.

    The constructor checks its arguments against the annotated signature (a setting out of bounds raises a ValueError
    that names it), and the layer it returns checks that `train` is a Python bool and that shape errors say where they
    arose. The kind is the function's name, or its dotted path when it lies outside fnet, so that `describe` and the
    config find it again.

    >>> import fnet
    >>> @fnet.constructor
    ... def double(*, name: str | None = None):
    ...     '''y = 2 x.'''
    ...     def apply(params, state, x, *, train, key=None, mask=None):
    ...         return 2 * x, {}
    ...     return fnet.Parts(lambda in_shape: in_shape, fnet.no_parameters, apply)
    >>> double().shape((3,))
    (3,)
    """
    signature = inspect.signature(body)
    own = body.__module__.startswith("fnet.")
    kind = body.__name__ if own else f"{body.__module__}.{body.__name__}"
    children_parameter = children_of(body)

    @functools.wraps(body)
    def construct(*args: P.args, **kwargs: P.kwargs) -> Layer:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{body.__name__}: {error}") from None
        layers = bound.arguments.pop(children_parameter, ()) if children_parameter else ()
        values = checked(body, {key: frozen(value) for key, value in bound.arguments.items()})
        name = values.pop("name", None)
        parts = body(*layers, **values)  # pyright: ignore[reportCallIssue]
        return Layer(
            kind=kind,
            settings=values,
            shape=_located(parts.shape, kind),
            init=_located(parts.init, kind),
            apply=_located(_checking_train(parts.apply), kind),
            children=parts.children,
            name=name,
            constructor=construct,
            draw=parts.draw,
        )

    vars(construct)["makes_layers"] = True
    return construct


def _located(function: Callable[..., Any], kind: str) -> Callable[..., Any]:
    """The function, with the layer's kind in front of its shape errors until a container knows the name."""

    @functools.wraps(function)
    def located(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except ShapeError as error:
            raise ShapeError(error.message, error.path, error.kind or kind) from None

    return located


def _checking_train(apply: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(apply)
    def checking(params, state, x, *, train, key=None, mask=None):
        if not isinstance(train, bool):
            raise TypeError("train must be a Python bool: jit with static_argnames='train'")
        return apply(params, state, x, train=train, key=key, mask=mask)

    return checking


@contextlib.contextmanager
def within(name: str, layer: Layer) -> Iterator[None]:
    """Errors raised inside say the child's name: shape errors in their path, any other in a note."""
    try:
        yield
    except ShapeError as error:
        raise ShapeError(error.message, (name, *error.path), error.kind) from None
    except Exception as error:
        error.add_note(f"in layer {name!r} ({headline(layer)})")
        raise
