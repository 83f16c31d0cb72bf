"""The tables of `fnet data show` and `fnet data list`."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from fnet.core.wording import format_score, in_bytes, printable, shorten
from fnet.data.cache import Entry
from fnet.data.inspect import Inspection, Range
from fnet.data.source import DatasetSpec, TableSummary
from fnet.report.text import visible

ROWS = 20
"""The maximum number of classes or features in a table."""


COLUMNS = 100
"""The maximum number of columns of a table that are listed."""


def tables(inspection: Inspection) -> Iterator[Table | Text]:
    """Yield the lines and tables that `fnet data show` prints."""
    spec = inspection.spec
    yield Text(f"{printable(spec.name)}: {spec.size:,} examples {spec.shape} with {spec.targets}")
    stored = f"stored as {inspection.stored}" + ("" if inspection.stored == "float32" else ", float32 for the network")
    if spec.tokens:
        stored = f"token indices, vocabulary of {len(spec.vocabulary)}" if spec.vocabulary else "token indices"
    splits = ", ".join(f"{printable(name)} {size:,}" for name, size in spec.splits)
    yield Text(stored + (f"; splits of the source: {splits}" if splits else ""))
    if inspection.table is not None:
        if inspection.table.notes:
            yield Text(printable("; ".join(inspection.table.notes)))
        yield _columns_table(inspection.table)
    yield _parts_table(inspection)
    if not spec.tokens:
        yield _entries_table(inspection)
    if spec.targets.kind == "classes":
        yield _classes_table(inspection)
    else:
        names = spec.targets.names or tuple(f"value {number}" for number in range(1, spec.targets.number + 1))
        yield _ranges_table("target", names, [(part.name, part.values) for part in inspection.parts])
    if inspection.parts[0].features and len(inspection.parts[0].features) > 1:
        yield _ranges_table("feature", inspection.feature_names, [("train", inspection.parts[0].features)])


def _table(*columns: str, texts: int = 1, title: str = "") -> Table:
    """Return a table whose first columns contain text, and the others numbers."""
    table = Table(title=title or None, title_justify="left", title_style="")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < texts else "right", overflow="fold")
    return table


def _columns_table(summary: TableSummary) -> Table:
    """List the columns of a table: type, number of values, missing entries, examples, and features or why none."""
    has_missing = any(column.missing for column in summary.columns)
    table = _table("column", "type", "examples", "values", *(("missing",) if has_missing else ()), "features", texts=3)
    for column in summary.columns[:COLUMNS]:
        kind = f"{column.type} ({column.origin})" if column.type and column.origin == "set" else column.type
        left_out = not column.features
        features = f"{column.features:,}"
        if left_out:
            features = "target" if column.note == "target" else f"0 ({column.note})"
        table.add_row(
            Text(visible(column.name)),
            kind or "",
            Text(printable(shorten(", ".join(column.examples), 40))),
            "" if column.note == "dropped" else f"{column.distinct:,}",
            *((f"{column.missing:,}" if column.note != "dropped" else "",) if has_missing else ()),
            features,
            style="dim" if left_out and column.note != "target" else None,
        )
    if len(summary.columns) > COLUMNS:
        table.add_row(f"{len(summary.columns) - COLUMNS} more", style="dim")
    return table


def _parts_table(inspection: Inspection) -> Table:
    table = _table("part", "source", "examples", texts=2)
    for part in inspection.parts:
        table.add_row(part.name, Text(printable(part.source)), f"{part.examples:,}")
    return table


def _entries_table(inspection: Inspection) -> Table:
    """Summarize the entries of every part as stored, and after normalization for the network."""
    forms = {"as stored": [(part.name, [part.stored]) for part in inspection.parts]}
    if inspection.normalization != "none":
        forms[inspection.normalization] = [
            (part.name, [part.normalized]) for part in inspection.parts if part.normalized
        ]
    parts = [(name, [r for ranges in forms.values() for r in dict(ranges)[name]]) for name, _ in forms["as stored"]]
    return _ranges_table("entries", list(forms), parts)


def _cells(values: Range) -> list[str]:
    """Write min, max, mean and std with four digits; a mean that is zero up to rounding is written as 0."""
    mean = 0.0 if abs(values.mean) < 1e-6 * values.std else values.mean
    numbers = (values.min, values.max, mean, values.std)
    return [format_score(value) for value in numbers]


def _classes_table(inspection: Inspection) -> Table:
    """Count the targets of every class in each part; of many classes, only the most frequent are listed."""
    counts = [part.classes for part in inspection.parts]
    names = inspection.spec.targets.names or tuple(map(str, range(inspection.spec.targets.number)))
    order = range(len(names))
    hidden = len(names) - ROWS
    if hidden > 0:
        order = sorted(order, key=lambda label: -counts[0][label])[:ROWS]
    table = _table("class", *(cell for part in inspection.parts for cell in (part.name, "")))
    for label in order:
        cells = [(f"{count[label]:,}", f"{100 * count[label] / max(1, sum(count)):.1f}%") for count in counts]
        table.add_row(Text(visible(names[label])), *(cell for pair in cells for cell in pair))
    if hidden > 0:
        rest = [sum(count) - sum(count[label] for label in order) for count in counts]
        table.add_row(f"{hidden} more", *(c for number in rest for c in (f"{number:,}", "")), style="dim")
    return table


def _ranges_table(what: str, names: Sequence[str], parts: Sequence[tuple[str, Sequence[Range]]]) -> Table:
    has_missing = any(values.missing for _, ranges in parts for values in ranges)
    table = _table(what, "part", "min", "max", "mean", "std", *(("missing",) if has_missing else ()), texts=2)
    for number, name in enumerate(names[:ROWS]):
        for part, ranges in parts:
            values = ranges[number]
            missing = (f"{values.missing:,}",) if has_missing else ()
            table.add_row(Text(visible(name)), part, *_cells(values), *missing)
    if len(names) > ROWS:
        table.add_row(f"{len(names) - ROWS} more", style="dim")
    return table


def listing_tables(
    embedded: Mapping[str, Sequence[DatasetSpec]], prepared: Mapping[str, Any], place: str, entries: Sequence[Entry]
) -> Iterator[Table | Text]:
    """Yield the lines and tables that `fnet data list` prints.

    Args:
        embedded: the specs of the datasets that ship with fnet, by source.
        prepared: the folders of prepared TensorFlow Datasets, by name.
        place: the folder of the cache.
        entries: the entries of the cache.
    """
    table = _table("embedded", "source", "targets", "shape", "examples", texts=3)
    for source, specs in embedded.items():
        for spec in specs:
            table.add_row(spec.name, source, str(spec.targets), str(spec.shape), f"{spec.size:,}")
    yield table
    if prepared:
        table = _table("prepared", "folder", texts=2)
        for name, folder in prepared.items():
            table.add_row(Text(printable(name)), Text(printable(str(folder))))
        yield table
    else:
        yield Text("no dataset of TensorFlow Datasets is prepared; prepare one with: fnet data prepare NAME")
    if not entries:
        yield Text(printable(f"there is no decoded data in {place}"))
        return
    yield Text(printable(f"decoded data is in {place}"), overflow="fold")
    table = _table("decoded", "size", "created", title="remove with: fnet data clear [NAME]")
    for entry in entries:
        created = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.created))
        table.add_row(Text(entry.label), in_bytes(entry.size), created)
    if len(entries) > 1:
        table.add_row("total", in_bytes(sum(entry.size for entry in entries)), "", style="bold")
    yield table
