"""Sets that TensorFlow Datasets has prepared, read without TensorFlow.

What a set holds is read from its header, its arrays from its record files, once: they are cached split by split.
"""

import hashlib
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from fnet.data.cache import cached
from fnet.data.source import Arrays, DataError, Spec, Targets
from fnet.settings import suggestion

_AT_ONCE = 512
"""Examples that are decoded before the next are read."""


class NotPrepared(DataError):
    """The set is not in the folder, or not in a format that can be read without TensorFlow."""


class _Field(NamedTuple):
    """A feature of the examples: the keys that lead to it, and what TensorFlow Datasets knows of it."""

    keys: tuple[str, ...]
    feature: Any

    def of(self, example: Any) -> Any:
        """Its value in an example."""
        for key in self.keys:
            example = example[key]
        return example

    def __str__(self) -> str:
        return "/".join(self.keys)


class _Set(NamedTuple):
    """A prepared set, opened: what learns from what, before any example is read."""

    builder: Any
    kind: Literal["image", "text", "numbers"]
    inputs: tuple[_Field, ...]
    label: _Field
    spec: Spec


def folder(data_dir: str | None) -> Path:
    """The folder of the prepared sets: as given, else $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def prepared(data_dir: str | None) -> dict[str, Path]:
    """The sets that a folder holds, by name (mnist, or glue/cola for one with configurations), and where.

    Of several versions it is the last by name.
    """
    place = folder(data_dir)
    found = {}
    for pattern in ("*/*/dataset_info.json", "*/*/*/dataset_info.json"):
        for header in sorted(place.glob(pattern)):
            if not header.parent.name.startswith("incomplete."):
                found[header.parent.parent.relative_to(place).as_posix()] = header.parent
    return found


def prepare_command(name: str, data_dir: str | None) -> str:
    """The command that prepares a set."""
    return shlex.join(["fnet", "data", "prepare", name, *(["--data-dir", data_dir] if data_dir else [])])


def found(name: str, data_dir: str | None) -> tuple[Path, dict[str, int]]:
    """Where a set is prepared so that it can be read, and its splits with their numbers of examples.

    Raises:
        NotPrepared: when it is not.
    """
    builder = _builder(name, data_dir)
    sizes = {split: int(info.num_examples) for split, info in builder.info.splits.items()}
    return Path(os.fspath(builder.data_path)), sizes


def spec(name: str, settings: Mapping[str, Any]) -> Spec:
    """What the header of a prepared set says.

    Args:
        name: as TensorFlow Datasets writes it: mnist, mnist:3.0.1, glue/cola.
        settings: data_dir, image_key, label_key, text_length, and the parts in `split`, as for `split.divide`, or None.

    Raises:
        NotPrepared: with the command that prepares it.
        DataError: when it holds no pair of an input and a target that can be learnt.
    """
    return _open(name, settings).spec


def load(name: str, settings: Mapping[str, Any]) -> Arrays:
    """The splits of `spec`, one after the other; images as bytes, where they are stored so.

    Raises:
        DataError: when it is not prepared, or a file of it is missing or damaged.
    """
    opened = _open(name, settings)
    parts = [_cached_split(name, settings, opened, split) for split, _ in opened.spec.splits]
    x, y = ([part[array] for part in parts] for array in ("x", "y"))
    joined = x[0] if len(x) == 1 else np.concatenate(x)
    if opened.kind == "text":
        joined = joined.astype(np.int32)
    return Arrays(joined, y[0] if len(y) == 1 else np.concatenate(y))


def _again(place: Path, name: str, data_dir: str | None) -> str:
    return f"remove {place} and prepare it again with: {prepare_command(name, data_dir)}"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _open(name: str, settings: Mapping[str, Any]) -> _Set:
    builder = _builder(name, settings["data_dir"])
    info = builder.info
    inputs, label = _supervised(name, info, settings["image_key"], settings["label_key"])
    kind, shape = _input(name, inputs, settings["text_length"])
    splits = _splits(info, settings["split"])
    what = Spec(
        name,
        shape,
        _targets(name, label),
        sum(size for _, size in splits),
        (0.0, 255.0) if all(field.feature.np_dtype == np.uint8 for field in inputs) else None,
        "int32" if kind == "text" else "float32",
        splits,
        vocabulary=bytes(range(256)) if kind == "text" else None,
    )
    return _Set(builder, kind, inputs, label, what)


def _builder(name: str, data_dir: str | None) -> Any:
    """What TensorFlow Datasets opens a prepared set with.

    Raises:
        NotPrepared: when there is none that can be read.
    """
    from tensorflow_datasets.core import file_adapters, read_only_builder, registered  # half a second

    place, command = folder(data_dir), prepare_command(name, data_dir)
    try:
        builder = read_only_builder.builder_from_files(name, data_dir=str(place))
        formats = builder.info.available_file_formats()
    except Exception as error:  # a damaged header makes more than one library stumble
        at = prepared(data_dir).get(name.partition(":")[0])
        if at is not None and not isinstance(error, registered.DatasetNotFoundError):
            what = f"the header of '{name}' cannot be read ({_first_line(error)})"
            raise DataError(f"{what}; {_again(at, name, data_dir)}", "name") from error
        near = suggestion(name, prepared(data_dir).keys() - {name}, listing=False)
        what = f"'{name}' is not prepared in {place}{f'{near} Or' if near else ';'} prepare it with: {command}"
        raise NotPrepared(what, "name") from None
    if not formats & file_adapters.FileFormat.with_random_access():
        as_what = ", ".join(sorted(found.value for found in formats))
        what = f"'{name}' is prepared in {place} as {as_what}, which only TensorFlow reads; convert it with: {command}"
        raise NotPrepared(what, "name")
    return builder


def _splits(info: Any, parts: tuple[float | str, ...] | None) -> tuple[tuple[str, int], ...]:
    """The splits that the parts need: those that they name, or, for fractions, all that have labels."""
    sizes = {split: int(found.num_examples) for split, found in info.splits.items()}
    terms = [term for part in parts or () if isinstance(part, str) for term in part.split("+")]
    named = {term.partition("[")[0].strip() for term in terms}
    fractions = parts is None or any(part for part in parts if not isinstance(part, str))
    if fractions or not named <= sizes.keys():
        named |= sizes.keys() - {"unsupervised"}
    return tuple((split, size) for split, size in sizes.items() if split in named)


def _supervised(
    name: str, info: Any, image_key: str | None, label_key: str | None
) -> tuple[tuple[_Field, ...], _Field]:
    """The features that the input consists of, and that of the target.

    Raises:
        DataError: when the set does not say which they are, or a key does not exist.
    """
    features: Any = info.features
    said = info.supervised_keys or (None, None)
    chosen, label = image_key or said[0], label_key or said[1]
    wanted = [f"data.{name}" for name, key in (("image_key", chosen), ("label_key", label)) if key is None]
    if wanted:
        known = ", ".join(features)
        raise DataError(
            f"'{name}' does not say what is learnt from what; set {' and '.join(wanted)}; its features: {known}"
        )
    inputs = tuple(field for key in _flat(chosen) for field in _leaves(_field(name, features, key, "image_key")))
    return inputs, _field(name, features, label, "label_key")


def _flat(keys: Any) -> list[str]:
    """The keys of a nest of tuples and dicts, in its order."""
    if isinstance(keys, str):
        return [keys]
    return [key for inner in (keys.values() if isinstance(keys, Mapping) else keys) for key in _flat(inner)]


def _field(name: str, features: Any, key: Any, setting: str) -> _Field:
    if not isinstance(key, str):
        raise DataError(f"'{name}' has several targets ({', '.join(_flat(key))}); set data.{setting} to one", setting)
    keys = tuple(key.split("/"))
    feature = features
    for part in keys:
        inner = _inner(feature)
        if part not in inner:
            raise DataError(f"'{name}' has no feature '{key}'{suggestion(part, inner)}", setting)
        feature = inner[part]
    return _Field(keys, feature)


def _inner(feature: Any) -> dict[str, Any]:
    """The features that one consists of; none for one that holds values itself."""
    return dict(feature.items()) if isinstance(feature, _classes().FeaturesDict) else {}


def _classes() -> Any:
    """The module of the classes of features."""
    from tensorflow_datasets.core import features

    return features


def _leaves(field: _Field) -> list[_Field]:
    inner = _inner(field.feature)
    return [leaf for key in inner for leaf in _leaves(_Field((*field.keys, key), inner[key]))] or [field]


def _input(
    name: str, inputs: tuple[_Field, ...], text_length: int
) -> tuple[Literal["image", "text", "numbers"], tuple[int, ...]]:
    """Of which kind the input is, and the shape of one example.

    Raises:
        DataError: for features that are not of one size, or no numbers, images or text.
    """
    features = _classes()
    first = inputs[0]
    if len(inputs) == 1 and isinstance(first.feature, features.Text):
        return "text", (text_length,)
    if len(inputs) == 1 and isinstance(first.feature, features.Image):
        _fixed(name, first, "images")
        if first.feature.np_dtype != np.uint8:
            raise DataError(
                f"'{name}': the images of '{first}' hold {np.dtype(first.feature.np_dtype)}, not bytes", "name"
            )
        return "image", tuple(first.feature.shape)
    for field in inputs:
        number = isinstance(field.feature, features.Tensor) and np.dtype(field.feature.np_dtype).kind in "fiub"
        if not number or isinstance(field.feature, features.ClassLabel | features.Text):
            raise DataError(
                f"'{name}': feature '{field}' is a {type(field.feature).__name__}, and only numbers can be joined to "
                "one example; choose an image, a text or numbers with data.image_key",
                "image_key",
            )
        _fixed(name, field, "arrays")
    if len(inputs) == 1 and first.feature.shape:
        return "numbers", tuple(first.feature.shape)
    return "numbers", (sum(int(np.prod(field.feature.shape)) for field in inputs),)


def _fixed(name: str, field: _Field, what: str) -> None:
    if None in field.feature.shape:
        shape = " x ".join("?" if size is None else str(size) for size in field.feature.shape)
        raise DataError(f"'{name}': the {what} of feature '{field}' are not all of one size, but {shape}", "name")


def _targets(name: str, label: _Field) -> Targets:
    """What there is to learn.

    Raises:
        DataError: when it is neither one class an example, nor numbers.
    """
    features = _classes()
    feature = label.feature
    if isinstance(feature, features.ClassLabel) and feature.num_classes:
        return Targets("classes", feature.num_classes, tuple(feature.names))
    if isinstance(feature, features.Tensor) and not isinstance(feature, features.ClassLabel | features.Text):
        kind = np.dtype(feature.np_dtype).kind
        if kind == "b" and not feature.shape:
            return Targets("classes", 2, ("false", "true"))
        if kind == "f" and len(feature.shape) <= 1 and None not in feature.shape:
            number = feature.shape[0] if feature.shape else 1
            return Targets("values", number, () if feature.shape else (str(label),))
    raise DataError(
        f"'{name}': feature '{label}' ({feature}) is no target: expected a class, true or false, or real numbers",
        "label_key",
    )


def _cached_split(name: str, settings: Mapping[str, Any], opened: _Set, split: str) -> Mapping[str, np.ndarray]:
    """The arrays x and y of a split, from the cache or decoded for it.

    Raises:
        DataError: when a file is missing or damaged.
    """
    place = Path(os.fspath(opened.builder.data_path))
    again = _again(place, name, settings["data_dir"])
    digest = hashlib.sha256()
    try:
        for header in ("dataset_info.json", "features.json"):
            digest.update((place / header).read_bytes())
        for file in opened.builder.info.splits[split].filepaths:
            state = os.stat(file)
            digest.update(f"{os.path.basename(file)} {state.st_size} {state.st_mtime_ns} ".encode())
    except FileNotFoundError as error:
        raise DataError(f"'{name}': {error.filename} is missing; {again}", "name") from None
    key = {
        "name": f"tfds {name} {split}",
        "files": digest.hexdigest(),
        "split": split,
        "inputs": [str(field) for field in opened.inputs],
        "label": str(opened.label),
        "shape": list(opened.spec.shape),
    }

    def decode() -> Mapping[str, np.ndarray]:
        try:
            return _decode(opened, split)
        except Exception as error:  # whatever the libraries that read records and images raise
            raise DataError(
                f"'{name}': the files of its split '{split}' cannot be read ({_first_line(error)}); {again}", "name"
            ) from error

    return cached(key, decode)


def _decode(opened: _Set, split: str) -> Mapping[str, np.ndarray]:
    spec, label = opened.spec, opened.label
    size = dict(spec.splits)[split]
    as_bytes = opened.kind == "text" or all(field.feature.np_dtype == np.uint8 for field in opened.inputs)
    x = np.zeros((size, *spec.shape), np.uint8 if as_bytes else np.float32)
    one_target = spec.targets.kind == "classes"
    y = np.empty(size, np.int32) if one_target else np.empty((size, spec.targets.number), np.float32)
    first = opened.inputs[0]
    source = opened.builder.as_data_source(split=split, decoders=_decoders(opened))
    for start in range(0, size, _AT_ONCE):
        rows = range(start, min(size, start + _AT_ONCE))
        for row, example in zip(rows, source.__getitems__(list(rows)), strict=True):
            value = first.of(example)
            if opened.kind == "image":
                x[row] = first.feature.decode_example_np_with_pil(value, spec.shape[-1])
            elif opened.kind == "text":
                data = (value if isinstance(value, bytes) else str(value).encode())[: spec.shape[0]]
                x[row, : len(data)] = np.frombuffer(data, np.uint8)
            elif len(opened.inputs) == 1:
                x[row] = value
            else:
                x[row] = np.concatenate([np.ravel(field.of(example)) for field in opened.inputs])
            y[row] = label.of(example)
    return {"x": x, "y": y}


def _decoders(opened: _Set) -> Any:
    """Leaves images to be decoded by name of the decoder: choosing it anew each time takes half the reading."""
    if opened.kind != "image":
        return None
    from tensorflow_datasets.core.decode import SkipDecoding

    decoders: Any = SkipDecoding()
    for key in reversed(opened.inputs[0].keys):
        decoders = {key: decoders}
    return decoders
