"""Input and target features of a dataset prepared by TensorFlow Datasets, and their kinds, read from its header."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from fnet.core import imports
from fnet.core.wording import suggestion
from fnet.data.source import DataError, DatasetSpec, Targets

Kind = Literal["image", "text", "numbers"]

MAX_CLASSES = 10_000_000
"""The number of classes in a header: each needs a name in memory, and a row of the last layer."""


class Field(NamedTuple):
    """A feature of the examples.

    keys: the keys that lead to the feature.
    feature: its description by TensorFlow Datasets.
    """

    keys: tuple[str, ...]
    feature: Any

    def of(self, example: Any) -> Any:
        """Return the value of the feature in an example."""
        for key in self.keys:
            example = example[key]
        return example

    def __str__(self) -> str:
        return "/".join(self.keys)


class Prepared(NamedTuple):
    """A prepared dataset, opened.

    builder: the builder of TensorFlow Datasets that reads the dataset.
    kind: kind of the input.
    inputs: the features that the input consists of.
    label: the feature that is the target.
    spec: description of the dataset.
    """

    builder: Any
    kind: Kind
    inputs: tuple[Field, ...]
    label: Field
    spec: DatasetSpec

    @property
    def is_bytes(self) -> bool:
        """Whether the input is stored as bytes."""
        return self.kind == "text" or all(field.feature.np_dtype == np.uint8 for field in self.inputs)


CLASS_KEYS = ("pythonClassName", "python_class_name", "type")
"""The keys in the header of a prepared dataset whose values are dotted paths of classes."""


def check_classes(name: str, directory: Path) -> None:
    """Check that the header of a prepared dataset names only classes of TensorFlow Datasets, or of trusted modules.

    TensorFlow Datasets imports the module of every class of features that the header names.

    Args:
        name: name of the dataset in TensorFlow Datasets.
        directory: folder of prepared datasets.

    Raises:
        DataError: when the header names another class.
    """
    from tensorflow_datasets.core import naming

    if ".." in name:
        raise DataError(f"expected the name of a dataset in TensorFlow Datasets, got '{name}'", "name")
    folder = directory / naming.parse_builder_name_kwargs(name)[0].name
    for header in (*folder.glob("*/features.json"), *folder.glob("*/*/features.json")):
        for path in _classes(json.loads(header.read_text(encoding="utf-8"))):
            if not path.startswith("tensorflow_datasets.") and path.rpartition(".")[0] not in sys.modules:
                try:
                    with imports.closed():
                        imports.lookup(path)
                except ValueError as error:
                    raise DataError(f"{header} names the class {path}: {error}", "name") from error


def _classes(content: Any) -> Iterator[str]:
    """Yield the dotted paths of classes in the content of a header."""
    values = content.items() if isinstance(content, Mapping) else enumerate(content)
    for key, value in values:
        if isinstance(value, Mapping | list):
            yield from _classes(value)
        elif key in CLASS_KEYS and isinstance(value, str) and "." in value:
            yield value


def supervised(name: str, info: Any, image_key: str | None, label_key: str | None) -> tuple[tuple[Field, ...], Field]:
    """Return the features that the input consists of, and the feature that is the target.

    Raises:
        DataError: when the dataset does not define them, or a key does not exist.
    """
    features: Any = info.features
    default_input, default_label = info.supervised_keys or (None, None)
    inputs, label = image_key or default_input, label_key or default_label
    missing = [f"data.{setting}" for setting, key in (("image_key", inputs), ("label_key", label)) if key is None]
    if missing:
        known = ", ".join(features)
        what = f"'{name}' does not define its input and target"
        raise DataError(f"{what}; set {' and '.join(missing)}; its features: {known}")
    fields = (leaf for key in _flat(inputs) for leaf in _leaves(_field(name, features, key, "image_key")))
    return tuple(fields), _field(name, features, label, "label_key")


def input_of(name: str, inputs: tuple[Field, ...], text_length: int) -> tuple[Kind, tuple[int, ...]]:
    """Return the kind of the input, and the shape of one example.

    Raises:
        DataError: for features of variable size, or that are neither numbers, an image nor a text.
    """
    features = _feature_classes()
    first = inputs[0]
    if len(inputs) == 1 and isinstance(first.feature, features.Text):
        return "text", (text_length,)
    if len(inputs) == 1 and isinstance(first.feature, features.Image):
        _check_fixed_size(name, first, "images")
        if first.feature.np_dtype != np.uint8:
            dtype = np.dtype(first.feature.np_dtype)
            raise DataError(f"'{name}': the images of '{first}' have dtype {dtype}, not uint8", "name")
        return "image", tuple(first.feature.shape)
    for field in inputs:
        if not _is_number(field):
            received = f"the feature '{field}' of type {type(field.feature).__name__}"
            what = f"expected an image, a text or numbers, got {received}"
            raise DataError(f"'{name}': {what}; choose another input with data.image_key", "image_key")
        _check_fixed_size(name, field, "arrays")
    if len(inputs) == 1 and first.feature.shape:
        return "numbers", tuple(first.feature.shape)
    return "numbers", (sum(int(np.prod(field.feature.shape)) for field in inputs),)


def targets_of(name: str, label: Field) -> Targets:
    """Describe the targets.

    Raises:
        DataError: when they are neither one class per example nor numbers.
    """
    features = _feature_classes()
    feature = label.feature
    if isinstance(feature, features.ClassLabel) and feature.num_classes:
        if feature.num_classes > MAX_CLASSES:
            received = f"'{name}': expected at most {MAX_CLASSES:,} classes in its header, got {feature.num_classes:,}"
            raise DataError(f"{received}; prepare it again, or choose another target with data.label_key", "label_key")
        return Targets("classes", feature.num_classes, tuple(feature.names))
    if isinstance(feature, features.Tensor) and not isinstance(feature, features.ClassLabel | features.Text):
        kind = np.dtype(feature.np_dtype).kind
        if kind == "b" and not feature.shape:
            return Targets("classes", 2, ("false", "true"))
        if kind == "f" and len(feature.shape) <= 1 and None not in feature.shape:
            number = feature.shape[0] if feature.shape else 1
            return Targets("values", number, () if feature.shape else (str(label),))
    what = f"expected a class, true or false, or real numbers as target, got the feature '{label}' ({feature})"
    raise DataError(f"'{name}': {what}; choose another target with data.label_key", "label_key")


def _field(name: str, features: Any, key: Any, setting: str) -> Field:
    """Return the feature that a key such as a/b leads to."""
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


def _flat(keys: Any) -> list[str]:
    """Return the keys in nested tuples and dicts, in order."""
    if isinstance(keys, str):
        return [keys]
    return [key for inner in (keys.values() if isinstance(keys, Mapping) else keys) for key in _flat(inner)]


def _leaves(field: Field) -> list[Field]:
    """Return the features inside a feature, at any depth; the feature itself if there are none."""
    inner = _inner(field.feature)
    return [leaf for key in inner for leaf in _leaves(Field((*field.keys, key), inner[key]))] or [field]


def _inner(feature: Any) -> dict[str, Any]:
    """Return the direct features of a composite feature; none for a feature with values."""
    return dict(feature.items()) if isinstance(feature, _feature_classes().FeaturesDict) else {}


def _is_number(field: Field) -> bool:
    features = _feature_classes()
    if not isinstance(field.feature, features.Tensor) or isinstance(field.feature, features.ClassLabel | features.Text):
        return False
    return np.dtype(field.feature.np_dtype).kind in "fiub"


def _check_fixed_size(name: str, field: Field, what: str) -> None:
    if None in field.feature.shape:
        shape = " x ".join("?" if size is None else str(size) for size in field.feature.shape)
        raise DataError(f"'{name}': the {what} of feature '{field}' must have the same size, got {shape}", "name")


def _feature_classes() -> Any:
    """Return the module of TensorFlow Datasets that defines the classes of features."""
    from tensorflow_datasets.core import features

    return features
