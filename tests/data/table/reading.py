"""Helpers for tests of reading tables."""

import io
from pathlib import Path

import openpyxl
import pandas as pd

from fnet.data.table import readers


def table(content, name="csv", path="t", **settings):
    """Write a file and read it."""
    Path(path).write_bytes(content if isinstance(content, bytes) else content.encode())
    return readers.read(path, name=name, **settings)


def columns(content, *args, **settings):
    """Write a file, and return its columns as lists, with None for missing entries."""
    return entries(table(content, *args, **settings).frame)


def entries(frame):
    return {
        name: [None if pd.isna(value) else value for value in column] for name, column in frame.to_dict("list").items()
    }


def workbook(*sheets):
    """Return a workbook with these rows in its sheets."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    for number, rows in enumerate(sheets):
        sheet = book.create_sheet(f"sheet {number}")
        for row in rows:
            sheet.append(row)
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()
