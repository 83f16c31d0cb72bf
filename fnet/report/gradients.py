"""A gradient check, to look at: on the terminal, and as a page of its own."""

import math
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fnet.gradcheck.report import IN_WORDS, Report, Row
from fnet.runs.files import save
from fnet.runs.gradcheck import Checked

LONG = 36
"""Characters of a name from which it is folded, rather than the verdicts."""

HEADINGS = {"total": "", "data loss": "the data loss alone", "penalty": "the penalty alone"}


def print_check(console: Console, title: str, report: Report) -> None:
    """The table of `fnet gradcheck`, and what it found in words."""
    console.print(title, soft_wrap=True)
    for heading, rows in by_part(report):
        if heading:
            console.print(heading)
        console.print(_table(rows))
    for row in report.rows:
        if not row.ok and row.worst is not None:
            console.print(Text(worst_in_words(row)), soft_wrap=True)
    console.print(report.verdict, style="green" if report.ok else "bold red", soft_wrap=True, markup=False)
    for culprit in report.culprits:
        console.print(f"it begins in {culprit}", style="bold", soft_wrap=True, markup=False)
    if report.remark:
        console.print(report.remark, soft_wrap=True, markup=False)


def by_part(report: Report) -> list[tuple[str, list[Row]]]:
    """The rows of every part, with a heading for all but the whole."""
    parts = dict.fromkeys(row.part for row in report.rows)
    return [(HEADINGS[part], [row for row in report.rows if row.part == part]) for part in parts]


def _table(rows: Sequence[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    longest = max(len(row.name) for row in rows)
    table.add_column("", overflow="fold", no_wrap=longest <= LONG)
    table.add_column("shape", no_wrap=True)
    table.add_column("difference", justify="right", no_wrap=True)
    table.add_column("checked", justify="right", no_wrap=True)
    table.add_column("order", justify="right", no_wrap=True)
    table.add_column("verdict")
    for row in rows:
        said = Text(IN_WORDS[row.verdict], "green" if row.ok else "bold red")
        if row.diagnosis:
            said.append(f": {row.diagnosis}", "default")
        table.add_row(row.name, str(row.shape), f"{row.relative:.1e}", checked_in_words(row), order_in_words(row), said)
    return table


def checked_in_words(row: Row) -> str:
    """How many entries were compared with differences, of how many, where some lie on a kink."""
    total = row.checked + row.kinks
    return "" if not total else f"{row.checked} of {total}" if row.kinks else str(total)


def order_in_words(row: Row) -> str:
    """The exponent of the Taylor remainder, where it was looked at."""
    if not row.checked + row.kinks:
        return ""
    return "linear" if row.order is None else f"{row.order:.2f}"


def worst_in_words(row: Row) -> str:
    """The entry that differs most, with its three values, and how the whole arrays lie to each other.

    >>> row = Row("w", (2,), 2.0, 0.5, "by hand", cosine=0.99, ratio=0.5, worst=(1,), values=(2.0, 4.0, 4.0))
    >>> worst_in_words(row)
    'w[1]: by hand 2, by JAX 4, by differences 4; cosine 0.990000, norm ratio 0.5'
    """
    names = ("by hand", "by JAX", "by differences")
    values = ", ".join(f"{name} {v:.10g}" for name, v in zip(names, row.values, strict=True) if v is not None)
    place = f"[{', '.join(map(str, row.worst))}]" if row.worst else ""
    return f"{row.name}{place}: {values}; cosine {row.cosine:.6f}, norm ratio {row.ratio:.6g}"


def save_page(path: str, name: str, checks: Sequence[Checked]) -> None:
    """The checks as one self-contained page, written whole or not at all.

    Raises:
        OutputError: when it cannot be written.
    """
    from jinja2 import Environment, PackageLoader

    templates = Environment(loader=PackageLoader("fnet.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    templates.globals |= {
        "bar": _bar, "checked": checked_in_words, "order": order_in_words, "worst": worst_in_words,
        "words": IN_WORDS, "by_part": by_part,
    }  # fmt: skip
    save(path, templates.get_template("gradcheck.html").render(name=name, checks=checks), "page")


def _bar(row: Row, tolerance: float) -> dict[str, Any]:
    """Where a relative difference lies between 1e-17 and 1, in percent of the width, and where the tolerance does."""

    def place(value: float) -> float:
        return 100 * min(1.0, max(0.0, (math.log10(value) + 17) / 17)) if value > 0 else 0.0

    return {"width": round(place(min(row.relative, 1.0)), 1), "limit": round(place(tolerance), 1)}
