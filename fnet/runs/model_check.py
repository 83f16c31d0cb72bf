"""Checks of what a model file contains: each part by itself, and that the parts belong together.

Every check raises ValueError with the entry, what was expected and what was received.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import TypeAdapter, ValidationError

from fnet.core.description import MAX_VALUES
from fnet.core.layer import Layer, ShapeError
from fnet.core.settings import model_of
from fnet.core.wording import errors_in_words, format_value, shorten, suggestion
from fnet.data.normalize import IDENTITY, Normalizer
from fnet.data.source import Column, DatasetSpec, Targets
from fnet.layers.vocabulary import build
from fnet.losses import DATA_PARAMETERS, LOSSES
from fnet.train.initialize import leaf_names

Arrays = Mapping[str, np.ndarray]
"""Arrays by name, such as "params/dense_1/w"."""


def network_of(description: Any) -> Layer:
    """Return the network that a description in a file stands for."""
    check_size(description)
    try:
        return build(description)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"network: {reason(error)}") from None


def check_size(description: Any) -> None:
    """Check that the description of a network can be built in seconds."""
    items = sum(1 for _ in _items(description))
    if items > MAX_VALUES:
        raise ValueError(f"network: expected at most {MAX_VALUES:,} items, got {items:,}; use repeat for equal layers")


def _items(description: Any) -> Iterator[Any]:
    """Yield everything inside a description at any depth, without recursion."""
    rest = [description]
    while rest:
        item = rest.pop()
        yield item
        if isinstance(item, Mapping):
            rest.extend(item.values())
        elif isinstance(item, list):
            rest.extend(item)


def spec_of(plain: Any) -> DatasetSpec:
    """Return the description of a dataset that `DatasetSpec.plain` wrote as JSON."""
    _check_fields("spec", plain, DatasetSpec)
    _check_fields("spec.targets", plain["targets"], Targets)
    for column in plain["columns"] if isinstance(plain["columns"], list) else ():
        _check_fields("spec.columns", column, Column)
    vocabulary = plain["vocabulary"]
    is_bytes = isinstance(vocabulary, list)
    if is_bytes and not all(type(byte) is int and 0 <= byte < 256 for byte in vocabulary):
        raise ValueError("spec.vocabulary: expected text, or a list of bytes 0 ... 255, got another list")
    try:
        text = json.dumps({**plain, "vocabulary": None if is_bytes else vocabulary})
        spec = TypeAdapter(DatasetSpec).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, ('spec', *first['loc'])))}: {errors_in_words(first)}") from None
    spec = spec._replace(vocabulary=bytes(vocabulary)) if is_bytes else spec
    _check_spec(spec)
    return spec


def _check_fields(where: str, plain: Any, record: Any) -> None:
    """Check that plain data is a mapping with all fields of a record and no others."""
    if not isinstance(plain, Mapping) or plain.keys() != set(record._fields):
        received = ", ".join(map(str, plain)) if isinstance(plain, Mapping) else format_value(plain)
        raise ValueError(
            f"{where}: expected the entries {', '.join(record._fields)}, got {shorten(received)}; "
            "another version of fnet wrote it"
        )


def _check_spec(spec: DatasetSpec) -> None:
    """Check that the fields of a dataset's description belong together."""
    targets = spec.targets
    sizes = {"shape": spec.shape, "targets.shape": targets.shape, "targets.number": (targets.number,)}
    for name, values in sizes.items():
        if any(value < 1 for value in values):
            raise ValueError(f"spec.{name}: expected sizes of at least 1, got {format_value(min(values))}")
    if spec.size < 0 or any(size < 0 for _, size in spec.splits):
        raise ValueError("spec.size and spec.splits: expected at least 0 examples, got a negative number")
    if spec.range is not None and not spec.range[0] < spec.range[1]:
        raise ValueError(f"spec.range: expected a min below the max, got {spec.range[0]:g} and {spec.range[1]:g}")
    if targets.names and len(targets.names) != targets.number:
        raise ValueError(
            f"spec.targets.names: expected a name for each of the {format_value(targets.number)} {targets.kind}, got "
            f"{len(targets.names)} names"
        )
    if spec.vocabulary is not None:
        if not spec.tokens:
            raise ValueError("spec.vocabulary: expected null, because spec.tokens is false, got a vocabulary")
        if not spec.vocabulary or (spec.is_language and len(spec.vocabulary) != targets.number):
            raise ValueError(
                f"spec.vocabulary: expected one entry for each of the {format_value(targets.number)} classes, got "
                f"{len(spec.vocabulary)}"
            )
    names = [column.name for column in spec.columns]
    if len(set(names)) < len(names):
        twice = max(names, key=names.count)
        raise ValueError(
            f"spec.columns: expected each column once, got {format_value(twice)} {names.count(twice)} times"
        )
    width = sum(column.width for column in spec.columns)
    if spec.columns and spec.shape != (width,):
        raise ValueError(f"spec.columns: expected columns for examples of shape {spec.shape}, got {width} features")


def shape_of(plain: Any) -> Any:
    """Return the shape of an example, or a dict or tuple of shapes, that JSON contains as lists."""
    if isinstance(plain, Mapping):
        return {name: shape_of(inner) for name, inner in plain.items()}
    if isinstance(plain, list) and all(type(size) is int and size >= 0 for size in plain):
        return tuple(plain)
    if isinstance(plain, list):
        return tuple(map(shape_of, plain))
    if plain is None:
        return None
    raise ValueError(f"in_shape: expected the sizes of an example, got {format_value(plain)}")


def check_loss(loss: Any) -> None:
    """Check the name of a loss, and the settings of one of fnet's losses."""
    if not isinstance(loss, Mapping) or not isinstance(loss.get("name"), str):
        raise ValueError(f"loss: expected a mapping with the name of the loss, got {format_value(loss)} without one")
    name = loss["name"]
    if name not in LOSSES:
        return
    try:
        model_of(LOSSES[name].function, name, DATA_PARAMETERS).model_validate(loss)
    except ValidationError as error:
        first = error.errors()[0]
        problem = "unknown setting" if first["type"] == "extra_forbidden" else errors_in_words(first)
        raise ValueError(f"loss.{first['loc'][0]}: {problem}") from None


def check_outputs(net: Layer, spec: DatasetSpec, loss: Mapping[str, Any] | None) -> None:
    """Check that a network has the outputs that one of fnet's losses takes for the targets of a dataset."""
    try:
        received = net.shape(spec.shape)
    except (ShapeError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"network: it does not take the examples of spec.shape {spec.shape}: {reason(error)}"
        ) from None
    if loss is None or loss["name"] not in LOSSES:
        return
    targets = spec.targets
    single = LOSSES[loss["name"]].targets == "labels" and targets.kind == "classes"
    if single and targets.number != 2:
        raise ValueError(
            f"loss.name: expected a loss for {format_value(targets.number)} classes, got '{loss['name']}', for two"
        )
    expected = (*targets.shape, 1 if single else targets.number)
    if received != expected:
        raise ValueError(
            f"network: expected outputs of shape {expected}, because spec.targets is {targets}, got {received}"
        )


def check_arrays(net: Layer, in_shape: Any, arrays: Arrays) -> None:
    """Check that parameters and state have the names, shapes and dtypes that the network initializes, and are finite.

    JAX's x64 mode decides between 32 and 64 bits, so that this difference does not count.

    Args:
        net: the network.
        in_shape: shape of one example.
        arrays: the arrays by name.
    """
    try:
        params, state = jax.eval_shape(lambda key: net.init(key, in_shape), jax.random.key(0))
    except (ShapeError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"network: it cannot be initialized for examples {in_shape}: {reason(error)}") from None
    expected = leaf_names({"params": params, "state": state})
    for name, leaf in expected.items():
        wanted = f"{leaf.dtype} of shape {leaf.shape}"
        if name not in arrays:
            raise ValueError(f"{name}: expected {wanted}, got nothing: the entry is missing")
        array = arrays[name]
        if array.shape != leaf.shape or _at_32_bits(array.dtype) != _at_32_bits(leaf.dtype):
            raise ValueError(f"{name}: expected {wanted}, got {array.dtype} of shape {shorten(str(array.shape))}")
    for name in arrays:
        if name not in expected:
            raise ValueError(f"{name}: expected an entry of the network, got another{suggestion(name, expected)}")
    for name, array in arrays.items():
        place = non_finite(array)
        # A state may be infinite before its first update, such as a running min.
        if place is not None and not (name.startswith("state/") and _starts_non_finite(net, in_shape, name)):
            raise ValueError(f"{name}: expected finite numbers, got {place}")


def check_names(net: Layer, arrays: Arrays) -> None:
    """Check the names of layers, and that all numbers are finite: what is known without the shape of an example."""
    for name, array in arrays.items():
        _, *keys, _ = name.split("/")
        layer: Layer | None = net
        for number, key in enumerate(keys):
            children = dict(layer.children)
            if not children:
                break
            if key not in children:
                known = ("/".join((*keys[:number], child)) for child in children)
                path = "/".join(keys[: number + 1])
                raise ValueError(f"{name}: the network does not have a layer '{path}'{suggestion(path, known)}")
            layer = children[key]
        check_finite(name, array)


def check_finite(name: str, array: np.ndarray) -> None:
    """Check that an array consists of finite numbers, also in the precision that JAX uses."""
    place = non_finite(array)
    if place is not None:
        raise ValueError(f"{name}: expected finite numbers, got {place}")


def non_finite(array: np.ndarray) -> str | None:
    """Return the first number that is NaN or infinite, also in the precision that JAX uses, with its index."""
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        return None
    with np.errstate(over="ignore"):
        wrong = ~np.isfinite(array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False))
    if not wrong.any():
        return None
    index = tuple(map(int, np.argwhere(wrong)[0]))
    where = f" at index {index[0] if len(index) == 1 else index}" if index else ""
    return f"{array[index]}{where}"


def _starts_non_finite(net: Layer, in_shape: Any, name: str) -> bool:
    _, state = net.init(jax.random.key(0), in_shape)
    return not np.isfinite(np.asarray(leaf_names({"state": state})[name])).all()


def _at_32_bits(dtype: Any) -> Any:
    """Return the dtype of 32 bits for one of 64, and any other unchanged."""
    return {"float64": "float32", "int64": "int32", "uint64": "uint32", "complex128": "complex64"}.get(
        np.dtype(dtype).name, np.dtype(dtype).name
    )


def normalizer_of(arrays: Arrays, spec: DatasetSpec | None) -> Normalizer:
    """Return the normalizer of examples with these arrays, "normalization/offset" and so on."""
    fields = {"offset", "scale"}
    if spec is not None and spec.has_missing and not spec.tokens:
        fields.add("fill")
    normalizer = _normalizer_of("normalization", arrays, fields, None if spec is None else spec.shape, "an example")
    if spec is not None and spec.tokens and not normalizer.is_identity:
        raise ValueError("normalization: expected offset 0 and scale 1, because spec.tokens is true, got other numbers")
    return normalizer


def target_normalizer_of(arrays: Arrays, spec: DatasetSpec | None) -> Normalizer:
    """Return the normalizer of targets with these arrays, "target_normalization/offset" and so on.

    A file without them is of a network whose targets were not normalized.
    """
    if not arrays:
        return IDENTITY
    shape = None if spec is None else (*spec.targets.shape, spec.targets.number)
    normalizer = _normalizer_of("target_normalization", arrays, {"offset", "scale"}, shape, "the targets")
    if normalizer.fill is not None:
        raise ValueError("target_normalization/fill: expected offset, scale, got another entry")
    if spec is not None and spec.targets.kind != "values" and not normalizer.is_identity:
        raise ValueError(
            f"target_normalization: expected offset 0 and scale 1, because spec.targets is {spec.targets}, got other "
            "numbers"
        )
    return normalizer


def _normalizer_of(part: str, arrays: Arrays, fields: set[str], shape: tuple[int, ...] | None, what: str) -> Normalizer:
    """Return the normalizer with these arrays, which has at least these fields, for values of this shape, if known."""
    missing = sorted({f"{part}/{field}" for field in fields} - arrays.keys())
    if missing:
        raise ValueError(f"{missing[0]}: expected an array of numbers, got nothing: the entry is missing")
    for name, array in arrays.items():
        field = name.removeprefix(f"{part}/")
        if field not in Normalizer._fields:
            raise ValueError(f"{name}: expected {', '.join(Normalizer._fields)}, got another entry")
        if array.dtype not in (np.float32, np.float64):
            raise ValueError(f"{name}: expected float64, got {array.dtype}")
        if shape is not None and not _broadcasts(array.shape, shape):
            raise ValueError(f"{name}: expected the shape () or {shape} of {what}, got {shorten(str(array.shape))}")
        wrong = ~np.isfinite(array) | ((array <= 0) if field == "scale" else False)
        if wrong.any():
            expected = "finite numbers" + (" above 0" if field == "scale" else "")
            raise ValueError(f"{name}: expected {expected}, got {array[wrong][0]}")
    return Normalizer(**{name.removeprefix(f"{part}/"): array for name, array in arrays.items()})


def _broadcasts(shape: tuple[int, ...], into: tuple[int, ...]) -> bool:
    """Return whether an array of this shape has one value for each entry of an example, or shares values."""
    return len(shape) <= len(into) and all(
        size in (1, whole) for size, whole in zip(reversed(shape), reversed(into), strict=False)
    )


def reason(error: Exception) -> str:
    """Return an error's message on one line; what it quotes from a file may be long, so that it is truncated."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return shorten(" ".join(str(error).split()) or type(error).__name__, 600)
