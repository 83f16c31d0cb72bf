"""A first config for the user's own data: what was found in it, a suitable network, and the choices explained."""

import contextlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fnet.core.wording import printable, suggestion
from fnet.data import files
from fnet.data.images import files_below
from fnet.data.path import existing_path
from fnet.data.source import ColumnSummary, DataError, DatasetSpec, TableSummary
from fnet.data.table import readers
from fnet.train.plan import BATCH_SIZE

TARGETS = ("target", "label", "labels", "class", "outcome", "y")
"""Names of columns that are taken as the target, in this order; otherwise the last column is."""

MIN_EXAMPLES = 1_000
"""Number of examples below which a part of 10 % is too small to choose the best epoch."""

STEPS = 3_000
"""Number of steps that suffices for small networks on small data; large data is seen 10 times."""

LARGE = 20_000
"""Number of examples from which larger batches are used."""

PENALTY_OF_VALUES, PENALTY_OF_CLASSES = 10.0, 0.5
"""L2 penalty times the number of examples."""

MAX_SIDE = 64
"""Height and width to which larger images are resized."""

_SAMPLE = 200
"""Number of images whose sizes are compared."""

_PLAIN = re.compile(r"((\.\.)?/)*[^\W\d][\w./-]*( [\w.-]+)*")
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "none"}


def config_path(data: str, output: str | None, *, force: bool) -> Path:
    """Return the path of the config to write: that of the user, or NAME.yaml in the current directory.

    Raises:
        DataError: when it exists, unless it may be replaced.
    """
    name = Path(os.path.abspath(data)).name.split(".")[0] or "data"
    path = Path(output or f"{name}.yaml").expanduser()
    if path.exists() and not force:
        raise DataError(f"'{path}' exists; choose another file with --output, or replace it with --force")
    return path


class Starter(NamedTuple):
    """A config for the user's own data.

    text: the config as YAML with comments.
    spec: description of the dataset.
    target: the column to predict, for a table.
    chosen: why this column was chosen; empty if the user named it.
    """

    text: str
    spec: DatasetSpec
    target: str = ""
    chosen: str = ""


def starter(path: str, folder: Path, target: str | None = None) -> Starter:
    """Return a config for a file or folder of data.

    Args:
        path: the data, relative to the current directory.
        folder: the folder of the config, to which the path in it is relative.
        target: for a table, the column to predict; by default a column called target, label, class, outcome or y, else
            the last one.

    Raises:
        DataError: when the data cannot be used.
    """
    name = files.format_of(path)
    location = existing_path(path)
    relative = os.path.relpath(location, folder)
    if name in files.TABLES:
        return _table(name, path, relative, target)
    if target is not None:
        raise DataError(f"{path} is not a table, so that it has no column '{target}'; leave out --target")
    settings: dict[str, Any] = {}
    if name == "images":
        settings = _size_of_images(location)
    spec = files.source(name, {"path": str(location), **settings}).spec()
    data = [f"path: {_scalar(relative)}", *_image_lines(settings)]
    return Starter(_config(path, spec, data), spec)


def _table(name: str, path: str, relative: str, target: str | None) -> Starter:
    """Return the config of a table, whose columns it lists with their types."""
    location = str(existing_path(path))
    names = list(map(str, readers.read(location, name=name).frame.columns))
    target, chosen = _target(path, names) if target is None else (target, "")
    if target not in names:
        raise DataError(f"{path} has no column '{target}'{suggestion(target, names)}", "target")
    source = files.source(name, {"path": location, "target": target, "missing": "mean"})
    try:
        spec = source.spec()
    except DataError as error:
        if error.setting != "missing":
            raise
        source = files.source(name, {"path": location, "target": target, "missing": "drop"})
        spec = source.spec()
    summary = source.summary()
    assert summary is not None
    data = [
        f"path: {_scalar(relative)}",
        f"target: {_scalar(target)}  # {spec.targets}" + (f"; {chosen}" if chosen else ""),
        *_column_lines(summary),
        *_missing_lines(summary, dropped=not spec.has_missing),
    ]
    return Starter(_config(path, spec, data), spec, target, chosen)


def _target(path: str, names: Sequence[str]) -> tuple[str, str]:
    """Return the column that is probably the target, and why.

    Raises:
        DataError: for a single column.
    """
    if len(names) == 1:
        raise DataError(f"{path} has a single column, '{names[0]}'; a target and at least one feature are needed")
    lower = {name.lower(): name for name in reversed(names)}
    found = next((lower[wanted] for wanted in TARGETS if wanted in lower), None)
    return (found, f"a column called {found}") if found else (names[-1], "the last column")


def _size_of_images(folder: Path) -> dict[str, Any]:
    """Return the setting that gives images one size; none if they all have the same and are small."""
    from PIL import Image

    sizes = set()
    for file in files_below(folder)[:_SAMPLE]:
        with contextlib.suppress(OSError), Image.open(file) as image:
            sizes.add((image.height, image.width))
    if len(sizes) == 1 and max(next(iter(sizes))) <= MAX_SIDE:
        return {}
    side = min(MAX_SIDE, *(number for size in sizes for number in size)) if sizes else MAX_SIDE
    return {"size": [side, side]}


def _column_lines(summary: TableSummary) -> Iterator[str]:
    """Yield the types of the columns, as the user can change them."""
    yield "columns:  # number, boolean, category, date, text or identifier (left out)"
    for column in summary.columns:
        if column.note != "target":
            yield f"  {_scalar(column.name)}: {column.type}  # {_remark(column)}"


def _remark(column: ColumnSummary) -> str:
    """Return what a column contains, for a comment."""
    examples = ", ".join(printable(example)[:20] for example in column.examples[:3])
    features = "left out" if not column.features else f"{column.features} feature" + "s" * (column.features > 1)
    note = f", {column.note}" if column.note else ""
    return f"{examples}; {column.distinct:,} different, {features}{note}"


def _missing_lines(summary: TableSummary, *, dropped: bool) -> Iterator[str]:
    """Yield the treatment of missing entries, if there are any."""
    missing = {column.name: column.missing for column in summary.columns if column.missing}
    if dropped:
        yield "missing: drop  # rows with missing entries, the target included, are left out; mean fills in the others"
    elif missing:
        what = ", ".join(f"{number:,} of {printable(name)}" for name, number in list(missing.items())[:3])
        more = ", ..." if len(missing) > 3 else ""
        yield f"missing: mean  # {what}{more} are missing; drop leaves these rows out"


def _image_lines(settings: dict[str, Any]) -> Iterator[str]:
    """Yield the size of images that differ in size or are large."""
    if "size" in settings:
        yield f"size: {settings['size']}  # height and width to which all images are resized"


def _config(path: str, spec: DatasetSpec, data: Iterable[str]) -> str:
    """Return the text of a config."""
    first = f"# Made by `fnet init` for {printable(path)}: {spec.size:,} examples {spec.shape} with {spec.targets}."
    lines = [first, "data:", *(f"  {line}" for line in data), *_split_lines(spec), "model:", *_network(spec)]
    return "\n".join([*lines, *_training_lines(spec)]) + "\n"


def _split_lines(spec: DatasetSpec) -> Iterator[str]:
    """Yield the division into parts."""
    if spec.splits or spec.is_language:
        return
    part = _part(spec)
    yield (
        f"  split: {{train: {1 - 2 * part:g}, validation: {part}, test: {part}}}  # parts of the examples; the test "
        "part is only for the final scores"
    )


def _part(spec: DatasetSpec) -> float:
    """Return the fraction of the validation part, and of the test part."""
    return 0.1 if spec.size >= MIN_EXAMPLES else 0.15


def _network(spec: DatasetSpec) -> Iterator[str]:
    """Yield the lines of a network for the shape of the examples."""
    outputs = "classes" if spec.targets.kind == "classes" else str(spec.targets.number)
    if spec.is_language:
        yield "  - embedding: {size: vocabulary, width: 32}  # a vector for every character"
        yield "  - lstm: 128"
        yield "  - dense: vocabulary  # a logit for every character that may follow"
    elif spec.tokens:
        yield "  - embedding: {size: 256, width: 32}  # a vector for every byte of the text"
        yield "  - lstm: {units: 64, sequence: false}"
        yield f"  - dense: {outputs}"
    elif len(spec.shape) == 3:
        yield from _convolutions(spec, outputs)
    else:
        if len(spec.shape) > 1:
            yield "  - flatten"
        units = 64 if math.prod(spec.shape) <= 512 else 128
        yield "  # A linear part beside two hidden layers, so that what is linear need not be found by the layers."
        yield "  - parallel:"
        yield "      combine: add"
        yield "      layers:"
        yield f"        - dense: {outputs}"
        yield f"        - [{{dense: {units}}}, gelu, {{dense: {units}}}, gelu, {{dense: {outputs}}}]"


def _convolutions(spec: DatasetSpec, outputs: str) -> Iterator[str]:
    """Yield a convolutional network: pairs of convolution and pooling until at most 8 pixels are left on a side."""
    side, filters = min(spec.shape[:2]), 16
    yield "  # Convolutions with normalization; each pooling halves height and width."
    while True:
        yield f"  - conv: {{filters: {filters}, kernel_size: 3}}"
        yield "  - batch_norm"
        yield "  - relu"
        if side < 8 or filters >= 128:
            break
        yield "  - max_pool: 2"
        side, filters = side // 2, filters * 2
    yield "  - global_avg_pool"
    yield f"  - dense: {outputs}"


def _training_lines(spec: DatasetSpec) -> Iterator[str]:
    """Yield how the network is trained."""
    yield "optimizer: {name: adam, learning_rate: 3e-3, schedule: cosine}  # the rate falls to 0 along a cosine"
    if len(spec.shape) == 1 and not spec.tokens:
        strength = min(0.1, (PENALTY_OF_VALUES if spec.targets.kind == "values" else PENALTY_OF_CLASSES) / spec.size)
        yield (
            f"regularization: {{l2: {strength:.1g}}}  # smaller weights, so that noise is not learned by heart; the "
            "more examples, the less"
        )
    batch_size = BATCH_SIZE if spec.size < LARGE else 4 * BATCH_SIZE
    examples = spec.splits[0][1] if spec.splits else round((1 - 2 * _part(spec)) * spec.size)
    steps = math.ceil(examples / batch_size)
    epochs = min(500, max(10, math.ceil(STEPS / steps)))
    yield f"train: {{epochs: {epochs}, batch_size: {batch_size}}}  # about {epochs * steps:,} steps"


def _scalar(text: str) -> str:
    """Return text as YAML.

    >>> _scalar("town"), _scalar("year built"), _scalar("../a.csv"), _scalar("no"), _scalar("1.5"), _scalar("a: b")
    ('town', 'year built', '../a.csv', '"no"', '"1.5"', '"a: b"')
    """
    plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS
    return text if plain else json.dumps(text, ensure_ascii=False)
