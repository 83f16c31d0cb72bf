"""Sets that TensorFlow Datasets has prepared, read without TensorFlow.

What a set holds is read from its header, its arrays from its record files, once: they are cached split by split.
"""

import functools
import hashlib
import json
import math
import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fnet.core.wording import suggestion
from fnet.data.cache import Portions, cached, kept, room
from fnet.data.path import digest
from fnet.data.records import Field, Prepared, Records, decode, decode_targets, first_line
from fnet.data.source import Arrays, DataError, Spec, Targets, portions
from fnet.data.stream import Joined, Stream
from fnet.data.text import as_tokens


class NotPrepared(DataError):
    """The set is not in the folder, or not in a format that can be read without TensorFlow."""


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
        DataError: when it holds no pair of an input and a target that can be learned.
    """
    return _open(name, settings).spec


def load(name: str, settings: Mapping[str, Any]) -> Arrays:
    """The splits of `spec`, one after the other; images as bytes, where they are stored so.

    Raises:
        DataError: when it is not prepared, or a file of it is missing or damaged.
    """
    opened = _open(name, settings)
    parts = [
        cached(_key(name, settings, opened, split), functools.partial(_decoded, decode, name, settings, opened, split))
        for split, _ in opened.spec.splits
    ]
    x, y = ([part[array] for part in parts] for array in ("x", "y"))
    joined = x[0] if len(x) == 1 else np.concatenate(x)
    if opened.kind == "text":
        joined = as_tokens(joined)
    return Arrays(joined, y[0] if len(y) == 1 else np.concatenate(y))


def stream(name: str, settings: Mapping[str, Any]) -> Stream:
    """The same, without holding the examples in memory: from their decoded copy on the disk.

    The copy is made portion by portion, where none is kept. Where it would take more than half of the room that the
    disk has left, each example is decoded from its record whenever it is asked for; the targets alone are kept.

    Raises:
        DataError: when it is not prepared, or a file of it is missing or damaged.
    """
    opened = _open(name, settings)
    parts = [_streamed_split(name, settings, opened, split) for split, _ in opened.spec.splits]
    x, y = ([part[array] for part in parts] for array in ("x", "y"))
    whole = Stream(x[0] if len(x) == 1 else Joined(x), y[0] if len(y) == 1 else np.concatenate(y))
    return whole.mapped(x=as_tokens) if opened.kind == "text" else whole


def _streamed_split(name: str, settings: Mapping[str, Any], opened: Prepared, split: str) -> Mapping[str, Any]:
    """The rows x and y of a split."""
    key = _key(name, settings, opened, split)
    arrays = kept(key)
    if arrays is not None:
        return arrays
    records = Records(opened, split, _again(opened, name, settings))

    def targets() -> Mapping[str, np.ndarray]:
        return _decoded(decode_targets, name, settings, opened, split)

    if math.prod(records.shape) * records.dtype.itemsize <= room() / 2:
        decoding = Portions(records.shape, records.dtype, lambda: (records[rows] for rows in portions(records)))
        return cached(key, lambda: {"x": decoding, **targets()})
    return {"x": records, **cached(key | {"name": f"{key['name']} targets"}, targets)}


def fingerprint(name: str, settings: Mapping[str, Any]) -> str:
    """A hash of the records of the splits of `spec`, and of what is read of them: nothing is decoded for it.

    Raises:
        DataError: when it is not prepared, or a file of it is missing.
    """
    opened = _open(name, settings)
    state = hashlib.sha256()
    for split, _ in opened.spec.splits:
        _, files = _files(name, settings, opened, split)
        state.update(json.dumps(_reading(opened, split)).encode())
        for file in files:
            state.update(digest(file).encode())
    return state.hexdigest()


def _decoded(
    decode: Callable[[Prepared, str], Mapping[str, np.ndarray]],
    name: str,
    settings: Mapping[str, Any],
    opened: Prepared,
    split: str,
) -> Mapping[str, np.ndarray]:
    """What a function decodes of a split.

    Raises:
        DataError: for whatever the libraries that read records and images raise.
    """
    try:
        return decode(opened, split)
    except Exception as error:
        what = f"the files of its split '{split}' cannot be read ({first_line(error)})"
        raise DataError(f"'{name}': {what}; {_again(opened, name, settings)}", "name") from error


def _again(opened: Prepared, name: str, settings: Mapping[str, Any]) -> str:
    return _mend(os.fspath(opened.builder.data_path), name, settings["data_dir"])


def _mend(place: str | Path, name: str, data_dir: str | None) -> str:
    return f"remove {place} and prepare it again with: {prepare_command(name, data_dir)}"


def _open(name: str, settings: Mapping[str, Any]) -> Prepared:
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
    return Prepared(builder, kind, inputs, label, what)


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
            what = f"the header of '{name}' cannot be read ({first_line(error)})"
            raise DataError(f"{what}; {_mend(at, name, data_dir)}", "name") from error
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


def _supervised(name: str, info: Any, image_key: str | None, label_key: str | None) -> tuple[tuple[Field, ...], Field]:
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
            f"'{name}' does not say what is learned from what; set {' and '.join(wanted)}; its features: {known}"
        )
    inputs = tuple(field for key in _flat(chosen) for field in _leaves(_field(name, features, key, "image_key")))
    return inputs, _field(name, features, label, "label_key")


def _flat(keys: Any) -> list[str]:
    """The keys of a nest of tuples and dicts, in its order."""
    if isinstance(keys, str):
        return [keys]
    return [key for inner in (keys.values() if isinstance(keys, Mapping) else keys) for key in _flat(inner)]


def _field(name: str, features: Any, key: Any, setting: str) -> Field:
    if not isinstance(key, str):
        raise DataError(f"'{name}' has several targets ({', '.join(_flat(key))}); set data.{setting} to one", setting)
    keys = tuple(key.split("/"))
    feature = features
    for part in keys:
        inner = _inner(feature)
        if part not in inner:
            raise DataError(f"'{name}' has no feature '{key}'{suggestion(part, inner)}", setting)
        feature = inner[part]
    return Field(keys, feature)


def _inner(feature: Any) -> dict[str, Any]:
    """The features that one consists of; none for one that holds values itself."""
    return dict(feature.items()) if isinstance(feature, _classes().FeaturesDict) else {}


def _classes() -> Any:
    """The module of the classes of features."""
    from tensorflow_datasets.core import features

    return features


def _leaves(field: Field) -> list[Field]:
    inner = _inner(field.feature)
    return [leaf for key in inner for leaf in _leaves(Field((*field.keys, key), inner[key]))] or [field]


def _input(
    name: str, inputs: tuple[Field, ...], text_length: int
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


def _fixed(name: str, field: Field, what: str) -> None:
    if None in field.feature.shape:
        shape = " x ".join("?" if size is None else str(size) for size in field.feature.shape)
        raise DataError(f"'{name}': the {what} of feature '{field}' are not all of one size, but {shape}", "name")


def _targets(name: str, label: Field) -> Targets:
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


def _key(name: str, settings: Mapping[str, Any], opened: Prepared, split: str) -> dict[str, Any]:
    """What the arrays of a split are a function of.

    Raises:
        DataError: when a file is missing.
    """
    state = hashlib.sha256()
    headers, records = _files(name, settings, opened, split)
    for header in headers:
        state.update(header.read_bytes())
    for file in records:
        status = os.stat(file)
        state.update(f"{file.name} {status.st_size} {status.st_mtime_ns} ".encode())
    return {"name": f"tfds {name} {split}", "files": state.hexdigest(), **_reading(opened, split)}


def _reading(opened: Prepared, split: str) -> dict[str, Any]:
    """What of the files is read, and how."""
    return {
        "split": split,
        "inputs": [str(field) for field in opened.inputs],
        "label": str(opened.label),
        "shape": list(opened.spec.shape),
    }


def _files(name: str, settings: Mapping[str, Any], opened: Prepared, split: str) -> tuple[list[Path], list[Path]]:
    """The headers of a set, and the files of records of a split.

    Raises:
        DataError: when one is missing.
    """
    place = Path(os.fspath(opened.builder.data_path))
    headers = [place / header for header in ("dataset_info.json", "features.json")]
    records = [Path(os.fspath(file)) for file in opened.builder.info.splits[split].filepaths]
    for file in (*headers, *records):
        if not file.is_file():
            raise DataError(f"'{name}': {file} is missing; {_again(opened, name, settings)}", "name")
    return headers, records
