"""Tables in Excel workbooks (.xlsx): a sheet whose first row names the columns."""

import datetime
import io
import warnings
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from fnet.core.settings import MissingExtra
from fnet.core.wording import suggestion
from fnet.data.memory import refuse_beyond_memory
from fnet.data.path import file_errors, open_file
from fnet.data.source import DataError
from fnet.data.table.frames import NULLS, Content, check_names, from_values

_ERRORS = frozenset(("#DIV/0!", "#NAME?", "#NULL!", "#NUM!", "#REF!", "#VALUE!"))
"""The results of formulas that failed, which are missing values."""

_MEMORY = 3
"""Memory for the values of a workbook, relative to its decompressed size."""


def read_xlsx(path: Path, sheet: str | None, as_text: Collection[str]) -> Content:
    """Read a table, and return it with what was chosen. Formulas have the results that Excel saved.

    Args:
        path: the file.
        sheet: name of the sheet; None for the first.
        as_text: columns to convert to text.

    Raises:
        DataError: for a damaged file, a sheet that does not exist or is not a table, or a table that does not fit in
            memory.
        MissingExtra: when openpyxl is not installed.
    """
    try:
        import openpyxl  # pyright: ignore[reportMissingModuleSource]
    except ImportError:
        raise MissingExtra(
            f"{path} needs the extra 'excel': run pip install '.[excel]' in the folder of fnet's source"
        ) from None
    with file_errors(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about styles and extensions that do not concern the values
        book: Any = openpyxl.load_workbook(_checked(path), read_only=True, data_only=True, keep_links=False)
        names = [worksheet.title for worksheet in book.worksheets]
        if not names:
            raise DataError(f"{path} does not contain a sheet with cells", "path")
        if sheet is not None and sheet not in names:
            raise DataError(f"{path} has no sheet '{sheet}'{suggestion(sheet, names)}", "sheet")
        chosen = names[0] if sheet is None else sheet
        worksheet = book.worksheets[names.index(chosen)]
        worksheet.reset_dimensions()  # the size that a file declares need not be that of its rows
        columns = _columns(path, worksheet)
        notes = [f"sheet '{chosen}', the first of {len(names)}"] if sheet is None and len(names) > 1 else []
        return Content(from_values(columns, as_text, {*NULLS, *_ERRORS}), notes)


def _checked(path: Path) -> io.BytesIO:
    """Return the content of an archive whose decompressed files fit in memory."""
    with open_file(path) as opened:
        content = io.BytesIO(opened.read())
    if content.getbuffer()[:4] == b"\xd0\xcf\x11\xe0":
        what = "is an old workbook (.xls) or protected by a password"
        raise DataError(f"{path} {what}; save it as .xlsx without a password, or as .csv", "path")
    with zipfile.ZipFile(content) as archive:
        size = sum(member.file_size for member in archive.infolist())
        refuse_beyond_memory(_MEMORY * size, f"{path}: a workbook of {size:,} bytes", "save the sheet as .csv", "path")
        for member in archive.infolist():
            with archive.open(member) as file:
                if b"<!DOCTYPE" in file.read(1 << 12):
                    raise DataError(f"{path} is damaged: {member.filename} defines entities", "path")
    return content


def _columns(path: Path, worksheet: Any) -> dict[str, list[Any]]:
    """Return the values of a sheet by column; rows without values are ignored, as are empty columns at the end."""
    rows = (list(row) for row in worksheet.iter_rows(values_only=True))
    lines = ((number, row) for number, row in enumerate(rows, 1) if any(value is not None for value in row))
    first, header = next(lines, (0, []))
    while header and header[-1] is None:
        header.pop()
    if not header:
        raise DataError(f"{path}: the sheet '{worksheet.title}' is empty", "path")
    names = check_names(path, ["" if value is None else str(value) for value in header])
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for number, row in lines:
        row += [None] * (len(names) - len(row))
        if any(value is not None for value in row[len(names) :]):
            what = f"row {number} has more entries than row {first}, which should name the columns and has {len(names)}"
            raise DataError(
                f"{path}: {what}; remove rows above the names, such as a title, or name all columns", "path"
            )
        for column, value in zip(columns.values(), row, strict=False):
            is_date = type(value) is datetime.date
            column.append(datetime.datetime.combine(value, datetime.time()) if is_date else value)
    return columns
