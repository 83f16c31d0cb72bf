"""Datasets prepared by TensorFlow Datasets, read without TensorFlow.

A dataset is described by its header. Its arrays are decoded from its record files once, and cached split by split.
"""

import hashlib
import json
import math
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fnet.core.wording import suggestion
from fnet.data.arrays import Arrays
from fnet.data.cache import cached, free_space, lookup
from fnet.data.path import digest, file_errors, refuse_irregular
from fnet.data.source import DataError, DatasetSpec, DataSource
from fnet.data.stream import Joined, Stream
from fnet.data.tfds_features import Prepared, check_classes, input_of, supervised, targets_of
from fnet.data.tfds_records import Records, first_line
from fnet.data.tokens import BYTES, as_tokens


class NotPrepared(DataError):
    """The dataset is missing, or in a format that cannot be read without TensorFlow."""


@dataclass(frozen=True)
class TfdsSource(DataSource):
    """A prepared dataset.

    Args:
        name: as TensorFlow Datasets writes it: mnist, mnist:3.0.1, glue/cola.
        data_dir: the folder of prepared datasets, by default as for `folder`.
        image_key: the input feature; by default the one that the dataset defines.
        label_key: the target feature; by default the one that the dataset defines.
        text_length: number of UTF-8 bytes of a text; texts are truncated or zero-padded.
        split: the parts, as for `split.divide`; only the splits that they name are read.
    """

    name: str
    data_dir: str | None = None
    image_key: str | None = None
    label_key: str | None = None
    text_length: int = 256
    split: tuple[float | str, ...] | None = None

    def spec(self) -> DatasetSpec:
        """Describe the dataset from its header.

        Raises:
            NotPrepared: when it is not prepared; names the command that prepares it.
            DataError: when it does not have a usable input and target.
        """
        return self._open().spec

    def read(self, seed: int) -> Arrays:  # noqa: ARG002
        """Read the splits in the order of `spec`; images that are stored as bytes stay bytes.

        Raises:
            DataError: when the dataset is not prepared, or a file is missing or damaged.
        """
        opened = self._open()
        parts = [
            cached(self._key(opened, split), lambda split=split: self._records(opened, split).decode())
            for split, _ in opened.spec.splits
        ]
        x, y = (_concatenated([part[name] for part in parts]) for name in ("x", "y"))
        return Arrays(as_tokens(x) if opened.spec.tokens else x, y)

    def stream(self, seed: int) -> Stream:  # noqa: ARG002
        """Open the splits in the order of `spec`, for reading batch by batch from their decoded copy on disk.

        The copy is written in chunks if it does not exist. If it would take more than half of the free disk space, each
        example is decoded from its record whenever it is requested, and only the targets are cached.

        Raises:
            DataError: when the dataset is not prepared, or a file is missing or damaged.
        """
        opened = self._open()
        parts = [self._rows(opened, split) for split, _ in opened.spec.splits]
        x, y = ([part[name] for part in parts] for name in ("x", "y"))
        data = Stream(x[0] if len(x) == 1 else Joined(x), _concatenated(y))
        return data.mapped(x=as_tokens) if opened.spec.tokens else data

    def fingerprint(self, data: Arrays | Stream) -> str:
        """Return a hash of the content; for a stream, of the record files and of what is read from them.

        Raises:
            DataError: when the dataset is not prepared, or a file is missing.
        """
        if isinstance(data, Arrays):
            return super().fingerprint(data)
        opened = self._open()
        state = hashlib.sha256()
        for split, _ in opened.spec.splits:
            _, files = self._files(opened, split)
            state.update(json.dumps(_selection(opened, split)).encode())
            for file in files:
                state.update(digest(file).encode())
        return state.hexdigest()

    def _open(self) -> Prepared:
        builder = builder_of(self.name, self.data_dir)
        inputs, label = supervised(self.name, builder.info, self.image_key, self.label_key)
        kind, shape = input_of(self.name, inputs, self.text_length)
        splits = _splits(builder.info, self.split)
        spec = DatasetSpec(
            self.name,
            shape,
            targets_of(self.name, label),
            sum(size for _, size in splits),
            (0.0, 255.0) if all(field.feature.np_dtype == np.uint8 for field in inputs) else None,
            tokens=kind == "text",
            splits=splits,
            vocabulary=BYTES if kind == "text" else None,
        )
        return Prepared(builder, kind, inputs, label, spec)

    def _rows(self, opened: Prepared, split: str) -> Mapping[str, Any]:
        """Return the rows x and y of a split."""
        key = self._key(opened, split)
        arrays = lookup(key)
        if arrays is not None:
            return arrays
        records = self._records(opened, split)
        if math.prod(records.shape) * records.dtype.itemsize <= free_space() / 2:
            return cached(key, records.decode)
        targets = cached(key | {"name": f"{key['name']} targets"}, lambda: {"y": records.targets()})
        return {"x": records, **targets}

    def _records(self, opened: Prepared, split: str) -> Records:
        return Records(opened, split, self._repair(opened))

    def _repair(self, opened: Prepared) -> str:
        return _prepare_again(os.fspath(opened.builder.data_path), self.name, self.data_dir)

    def _key(self, opened: Prepared, split: str) -> dict[str, Any]:
        """Return everything that the arrays of a split depend on.

        Raises:
            DataError: when a file is missing.
        """
        state = hashlib.sha256()
        headers, records = self._files(opened, split)
        for header in headers:
            state.update(header.read_bytes())
        for file in records:
            status = os.stat(file)
            state.update(f"{file.name} {status.st_size} {status.st_mtime_ns} ".encode())
        return {"name": f"tfds {self.name} {split}", "files": state.hexdigest(), **_selection(opened, split)}

    def _files(self, opened: Prepared, split: str) -> tuple[list[Path], list[Path]]:
        """Return the headers of the dataset, and the record files of a split.

        Raises:
            DataError: when one is missing.
        """
        directory = Path(os.fspath(opened.builder.data_path))
        headers = [directory / header for header in ("dataset_info.json", "features.json")]
        try:
            records = [Path(os.fspath(file)) for file in opened.builder.info.splits[split].filepaths]
        except (ValueError, LookupError, AttributeError) as error:
            reason = f"its header does not name files: {error}"
            raise DataError(f"'{self.name}': {reason}; {self._repair(opened)}", "name") from None
        for file in (*headers, *records):
            if not file.is_file():
                raise DataError(f"'{self.name}': {file} is missing; {self._repair(opened)}", "name")
        return headers, records


def source(name: str, settings: Mapping[str, Any]) -> DataSource:
    """Return the data source of a prepared dataset with these settings."""
    return TfdsSource(name, **settings)


def folder(data_dir: str | None) -> Path:
    """Return the folder of prepared datasets: data_dir, else $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def prepared(data_dir: str | None) -> dict[str, Path]:
    """Return the folder of each prepared dataset by name (mnist, or glue/cola for one with configurations).

    If there are several versions, it is the last by name.
    """
    directory = folder(data_dir)
    folders = {}
    for pattern in ("*/*/dataset_info.json", "*/*/*/dataset_info.json"):
        for header in sorted(directory.glob(pattern)):
            if not header.parent.name.startswith("incomplete."):
                folders[header.parent.parent.relative_to(directory).as_posix()] = header.parent
    return folders


def locate(name: str, data_dir: str | None) -> tuple[Path, dict[str, int]]:
    """Return the folder of a readable prepared dataset, and the sizes of its splits.

    Raises:
        NotPrepared: when there is no such dataset.
    """
    builder = builder_of(name, data_dir)
    sizes = {split: int(info.num_examples) for split, info in builder.info.splits.items()}
    return Path(os.fspath(builder.data_path)), sizes


def prepare_command(name: str, data_dir: str | None) -> str:
    """Return the command that prepares a dataset."""
    return shlex.join(["fnet", "data", "prepare", name, *(["--data-dir", data_dir] if data_dir else [])])


def builder_of(name: str, data_dir: str | None) -> Any:
    """Return the builder with which TensorFlow Datasets reads a prepared dataset.

    Raises:
        NotPrepared: when it is not prepared, or only TensorFlow can read it.
        DataError: when its header is damaged.
    """
    from tensorflow_datasets.core import file_adapters, read_only_builder, registered  # takes half a second to import

    directory, command = folder(data_dir), prepare_command(name, data_dir)
    known = prepared(data_dir).get(name.partition(":")[0])
    for header in known.parent.glob("*/*.json") if known else ():
        with file_errors(header):
            refuse_irregular(header, os.stat(header).st_mode)
    try:
        check_classes(name, directory)
        builder = read_only_builder.builder_from_files(name, data_dir=str(directory))
        formats = builder.info.available_file_formats()
    except DataError:
        raise
    except Exception as error:  # a damaged header raises errors of various libraries
        existing = prepared(data_dir).get(name.partition(":")[0])
        if existing is not None and not isinstance(error, registered.DatasetNotFoundError):
            what = f"the header of '{name}' cannot be read ({first_line(error)})"
            raise DataError(f"{what}; {_prepare_again(existing, name, data_dir)}", "name") from error
        near = suggestion(name, prepared(data_dir).keys() - {name}, listing=False)
        what = f"'{name}' is not prepared in {directory}{f'{near} Or' if near else ';'} prepare it with: {command}"
        raise NotPrepared(what, "name") from None
    if not formats & file_adapters.FileFormat.with_random_access():
        names = ", ".join(sorted(file_format.value for file_format in formats))
        what = (
            f"'{name}' is prepared in {directory} as {names}, which only TensorFlow reads; convert it with: {command}"
        )
        raise NotPrepared(what, "name")
    return builder


def _prepare_again(directory: str | Path, name: str, data_dir: str | None) -> str:
    return f"remove {directory} and prepare it again with: {prepare_command(name, data_dir)}"


def _splits(info: Any, parts: tuple[float | str, ...] | None) -> tuple[tuple[str, int], ...]:
    """Return the splits that the parts need: those that they name, or, for fractions, all that have labels."""
    sizes = {split: int(description.num_examples) for split, description in info.splits.items()}
    terms = [term for part in parts or () if isinstance(part, str) for term in part.split("+")]
    needed = {term.partition("[")[0].strip() for term in terms}
    fractions = parts is None or any(part for part in parts if not isinstance(part, str))
    if fractions or not needed <= sizes.keys():
        needed |= sizes.keys() - {"unsupervised"}
    return tuple((split, size) for split, size in sizes.items() if split in needed)


def _selection(opened: Prepared, split: str) -> dict[str, Any]:
    """Return the settings that determine what is read from the files of a split."""
    return {
        "split": split,
        "inputs": [str(field) for field in opened.inputs],
        "label": str(opened.label),
        "shape": list(opened.spec.shape),
    }


def _concatenated(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenate arrays; a single one stays memory-mapped."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
