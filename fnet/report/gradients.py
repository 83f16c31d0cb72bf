"""The output of `fnet gradcheck`: tables on the terminal, and an HTML page."""

import math
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fnet.gradcheck.report import EXTRA_PARTS, VERDICT_TEXTS, LeafReport, Report, Summary
from fnet.runs.gradcheck import Checked

MAX_NAME_WIDTH = 36
"""A longer name is folded, to leave room for the verdict."""

HEADINGS = {"total": "", "data loss": "data loss alone", "penalty": "penalty alone", **EXTRA_PARTS}


def print_check(console: Console, title: str, report: Report) -> None:
    """Print the tables of a check, the entries that differ most, the verdict and its causes.

    The first table ends with a summary of every part that has nothing to list, such as evaluation mode.
    """
    console.print(title, soft_wrap=True)
    for number, (heading, rows) in enumerate(by_part(report)):
        if heading:
            console.print(heading)
        console.print(_table(rows, () if number else report.summaries))
    for row in report.rows:
        if not row.ok and row.worst is not None:
            console.print(Text(format_worst(row)), soft_wrap=True)
    console.print(report.verdict, style="green" if report.ok else "bold red", soft_wrap=True, markup=False)
    for culprit in report.culprits:
        console.print(f"the mistake is in {culprit}", style="bold", soft_wrap=True, markup=False)
    if report.remark:
        console.print(report.remark, soft_wrap=True, markup=False)


def by_part(report: Report) -> list[tuple[str, list[LeafReport]]]:
    """Group the listed rows by part, each part with its heading; the total has none."""
    parts = dict.fromkeys(row.part for row in report.listed)
    return [(HEADINGS[part], [row for row in report.listed if row.part == part]) for part in parts]


def _table(rows: Sequence[LeafReport], summaries: Sequence[Summary] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    longest = max(len(row.name) for row in rows)
    table.add_column("", overflow="fold", no_wrap=longest <= MAX_NAME_WIDTH)
    table.add_column("shape", no_wrap=True)
    table.add_column("difference", justify="right", no_wrap=True)
    table.add_column("checked", justify="right", no_wrap=True)
    table.add_column("order", justify="right", no_wrap=True)
    table.add_column("verdict")
    for row in rows:
        verdict = Text(VERDICT_TEXTS[row.verdict], "green" if row.ok else "bold red")
        if row.diagnosis:
            verdict.append(f": {row.diagnosis}", "default")
        table.add_row(row.name, str(row.shape), f"{row.relative:.1e}", format_checked(row), format_order(row), verdict)
    for summary in summaries:
        table.add_row(HEADINGS[summary.part], summary.size, f"{summary.relative:.1e}", "", "", Text("ok", "green"))
    return table


def format_checked(row: LeafReport) -> str:
    """Write the number of entries compared with finite differences, such as "18 of 20" if 2 lie on a kink."""
    total = row.checked + row.kinks
    return "" if not total else f"{row.checked} of {total}" if row.kinks else str(total)


def format_order(row: LeafReport) -> str:
    """Write the exponent of the Taylor remainder, if it was measured."""
    if not row.checked + row.kinks:
        return ""
    return "linear" if row.order is None else f"{row.order:.2f}"


def format_worst(row: LeafReport) -> str:
    """Write the three values of the entry that differs most, and the cosine and norm ratio of the whole arrays.

    >>> row = LeafReport("w", (2,), 2.0, 0.5, "by hand", cosine=0.99, ratio=0.5, worst=(1,), values=(2.0, 4.0, 4.0))
    >>> format_worst(row)
    'w[1]: by hand 2, by JAX 4, by finite differences 4; cosine 0.990000, norm ratio 0.5'
    """
    names = ("by hand", "by JAX", "by finite differences")
    values = ", ".join(f"{name} {v:.10g}" for name, v in zip(names, row.values, strict=True) if v is not None)
    place = f"[{', '.join(map(str, row.worst))}]" if row.worst else ""
    return f"{row.name}{place}: {values}; cosine {row.cosine:.6f}, norm ratio {row.ratio:.6g}"


def page(name: str, checks: Sequence[Checked]) -> str:
    """Render the checks as one self-contained HTML page."""
    from jinja2 import Environment, PackageLoader

    templates = Environment(loader=PackageLoader("fnet.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    templates.globals |= {
        "bar": _bar, "checked": format_checked, "order": format_order, "worst": format_worst,
        "verdicts": VERDICT_TEXTS, "by_part": by_part, "headings": HEADINGS,
    }  # fmt: skip
    return templates.get_template("gradcheck.html").render(name=name, checks=checks)


def _bar(row: LeafReport, tolerance: float) -> dict[str, Any]:
    """Return the positions of a relative difference and of the tolerance on a scale from 1e-17 to 1, in percent."""

    def position(value: float) -> float:
        return 100 * min(1.0, max(0.0, (math.log10(value) + 17) / 17)) if value > 0 else 0.0

    return {"width": round(position(min(row.relative, 1.0)), 1), "limit": round(position(tolerance), 1)}
