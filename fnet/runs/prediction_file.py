"""Write predictions to a file, one example per row, while they are computed."""

import contextlib
import csv
import io
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

from fnet.core.settings import MissingExtra
from fnet.data.source import DataWarning
from fnet.runs.files import OutputError, replacing, to_json
from fnet.runs.predict import Prediction, Predictions

Row = dict[str, str | float]
Write = Callable[[Sequence[Prediction]], None]


def save_predictions(
    file: str, predictions: Predictions, source: str, on_rows: Callable[[int], None] = lambda rows: None
) -> None:
    """Write predictions to a file, which appears when it is complete, and replaces an earlier one.

    A .csv or .parquet file has a column per identifier of the examples, or else `example`; then `prediction`, or one
    column per value or label; and `probability NAME` for every class or label. A .jsonl file has an object per line
    with the keys of the identifiers, prediction and probabilities.

    Args:
        file: path of the file, which ends in .csv, .jsonl or .parquet.
        predictions: the predictions; they are computed while they are written.
        source: path of the examples, which is not overwritten.
        on_rows: called with the number of rows that were written since the last call.

    Raises:
        OutputError: when the file cannot be created.
        OSError: when it cannot be written, such as on a full disk; nothing is left of it.
    """
    path, form = check_output(file, source)
    with contextlib.ExitStack() as stack:
        try:
            opened = stack.enter_context(replacing(path))
        except OSError as error:
            raise OutputError(f"the predictions cannot be written to '{file}': {error.strerror}") from None
        write = stack.enter_context(form(opened, predictions.names))
        for portion in predictions.portions:
            write(portion)
            on_rows(len(portion))


def check_output(file: str, source: str) -> tuple[Path, "Format"]:
    """Return the path and the format of a file of predictions, before anything is predicted.

    Raises:
        OutputError: for a path that cannot be a file of predictions.
        MissingExtra: for a .parquet file when pyarrow is not installed.
    """
    path = Path(os.path.expanduser(file)).resolve()
    extension = path.suffix.lower()
    if extension not in FORMATS:
        raise OutputError(f"--output: expected a file that ends in {', '.join(FORMATS)}, got '{file}'")
    if path.exists() and not path.is_file():
        raise OutputError(f"the predictions cannot be written to '{file}': it is not a regular file")
    if not path.parent.is_dir():
        raise OutputError(f"the predictions cannot be written to '{file}': the folder {path.parent} does not exist")
    if _is_same(path, os.path.expanduser(source)):
        raise OutputError(f"--output: '{file}' is the file of the examples; choose another name")
    if extension == ".parquet":
        _pyarrow()
    return path, FORMATS[extension]


def _is_same(path: Path, source: str) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return os.path.samefile(path, source)
    return False


def row_of(prediction: Prediction, names: Iterable[str]) -> Row:
    """Return a prediction as one row: identifiers, prediction and probabilities, each column with a name of its own.

    >>> row_of(Prediction("7", "cat", {"cat": 0.75, "ant": 0.25}), ("ant", "cat"))
    {'example': '7', 'prediction': 'cat', 'probability ant': 0.25, 'probability cat': 0.75}
    >>> row_of(Prediction("0", {"price": 310.5}, {}, {"id": "a7", "price": "?"}), ("price",))
    {'id': 'a7', 'price': '?', 'predicted price': 310.5}
    """
    row: Row = dict(prediction.identifiers or {"example": prediction.example})
    decision = prediction.decision
    for name, value in decision.items() if isinstance(decision, dict) else [("prediction", decision)]:
        row[_free_name(name, row)] = value
    for name in names if prediction.probabilities else ():
        row[_free_name(f"probability {name}", row)] = prediction.probabilities[name]
    return row


def _free_name(name: str, row: Row) -> str:
    """Return a name that is not a column of a row yet."""
    while name in row:
        name = f"predicted {name}"
    return name


@contextlib.contextmanager
def _csv_file(file: BinaryIO, names: Sequence[str]) -> Iterator[Write]:
    text = io.TextIOWrapper(file, "utf-8", newline="")
    table = csv.writer(text, lineterminator="\n")
    header: list[str] = []
    formulas = 0

    def write(portion: Sequence[Prediction]) -> None:
        nonlocal formulas
        for row in (row_of(prediction, names) for prediction in portion):
            if not header:
                header.extend(row)
                table.writerow(header)
            table.writerow([value if isinstance(value, str) else f"{value:.12g}" for value in row.values()])
            formulas += any(isinstance(value, str) and _is_formula(value) for value in row.values())
        text.flush()

    yield write
    text.detach()
    formulas += any(map(_is_formula, header))
    if formulas:
        what = f"{formulas:,} rows contain an entry that begins with =, +, - or @"
        fix = "a spreadsheet runs it as a formula; import the columns as text, or write .jsonl"
        warnings.warn(f"{what}: {fix}", DataWarning, stacklevel=2)


def _is_formula(text: str) -> bool:
    """Return whether a spreadsheet takes a text for a formula; a number is not one.

    >>> [_is_formula(text) for text in ("=cmd()", "-3.5", "-x", "@a", "cat", "")]
    [True, False, True, True, False, False]
    """
    if not text.startswith(("=", "+", "-", "@", "\t", "\r")):
        return False
    try:
        float(text)
    except ValueError:
        return True
    return False


@contextlib.contextmanager
def _json_lines(file: BinaryIO, names: Sequence[str]) -> Iterator[Write]:
    def write(portion: Sequence[Prediction]) -> None:
        for prediction in portion:
            about: Row = dict(prediction.identifiers or {"example": prediction.example})
            rest: dict[str, Any] = {"prediction": prediction.decision}
            if prediction.probabilities:
                rest["probabilities"] = {name: prediction.probabilities[name] for name in names}
            row = about | {_free_name(name, about): value for name, value in rest.items()}
            file.write(f"{to_json(row)}\n".encode())

    yield write


@contextlib.contextmanager
def _parquet_file(file: BinaryIO, names: Sequence[str]) -> Iterator[Write]:
    pyarrow, parquet = _pyarrow()
    with contextlib.ExitStack() as stack:
        writer: Any = None

        def write(portion: Sequence[Prediction]) -> None:
            nonlocal writer
            table = pyarrow.Table.from_pylist([row_of(prediction, names) for prediction in portion])
            if writer is None:
                writer = stack.enter_context(parquet.ParquetWriter(file, table.schema))
            writer.write_table(table)

        yield write


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtra(
            "--output: a .parquet file needs pyarrow: run pip install pyarrow, or write .csv or .jsonl"
        ) from None
    return pyarrow, parquet


Format = Callable[[BinaryIO, Sequence[str]], contextlib.AbstractContextManager[Write]]

FORMATS: Mapping[str, Format] = MappingProxyType({".csv": _csv_file, ".jsonl": _json_lines, ".parquet": _parquet_file})
"""The formats of files of predictions by extension."""
