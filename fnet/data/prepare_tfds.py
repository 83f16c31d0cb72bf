"""Prepare a dataset with TensorFlow Datasets, in a separate process: the only task that needs TensorFlow.

`prepare` runs this module as that process and waits for it. The dataset appears in its folder only when it is complete;
the next process removes the leftovers of a killed one.
"""

import errno
import fcntl
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fnet.core.wording import suggestion
from fnet.data import tfds
from fnet.data.source import DataError

_RETRIES = 4
"""Number of retries of a download, for a few seconds; the default of TensorFlow Datasets takes minutes."""


class MissingTensorFlow(ImportError):
    """TensorFlow is not installed."""

    exit_status = 2


class PreparationFailed(RuntimeError):
    """The dataset could not be prepared.

    exit_status: 2 when the user must change the name or provide files, 3 when a later attempt may succeed.
    """

    def __init__(self, message: str, exit_status: int = 3):
        super().__init__(message)
        self.exit_status = exit_status


def prepare(name: str, data_dir: str | None = None) -> tuple[Path, dict[str, int]]:
    """Download and prepare a dataset, or convert one that only TensorFlow can read; progress goes to standard error.

    A dataset that is already prepared is left unchanged.

    Args:
        name: as TensorFlow Datasets writes it: mnist, glue/cola, mnist:3.0.1.
        data_dir: the folder of prepared datasets, by default as for `tfds.folder`.

    Returns:
        The folder of the dataset, and the sizes of its splits.

    Raises:
        MissingTensorFlow: when TensorFlow is not installed.
        PreparationFailed: for an unknown name, a missing network or a full disk.
    """
    with suppress(DataError):
        return tfds.locate(name, data_dir)
    if importlib.util.find_spec("tensorflow") is None:
        raise MissingTensorFlow(
            "preparing a dataset needs TensorFlow, although training does not: run pip install '.[prepare]' in the "
            "folder of fnet's source, here or on another machine; then set data.data_dir to the folder of prepared "
            "datasets"
        )
    directory = tfds.folder(data_dir).absolute()
    output = _run_child(name, directory)
    answer: dict[str, Any] = json.loads(output) if output.strip() else {"error": "the process ended without output"}
    if "error" in answer:
        raise PreparationFailed(f"'{name}' could not be prepared: {answer['error']}", answer.get("exit_status", 3))
    return tfds.locate(name, data_dir)


def _run_child(name: str, directory: Path) -> str:
    """Run this module as a separate process, and return its standard output.

    Raises:
        PreparationFailed: when a signal kills it.
    """
    child = subprocess.Popen(
        [sys.executable, "-m", "fnet.data.prepare_tfds", name, str(directory)],
        stdout=subprocess.PIPE,
        text=True,
        env={"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "0", **os.environ},
    )
    try:
        output, _ = child.communicate()
    finally:
        if child.poll() is None:
            child.terminate()
            child.wait()
    if child.returncode < 0:
        name_of_signal = signal.Signals(-child.returncode).name
        what = f"the process that prepares '{name}' was killed by {name_of_signal}"
        raise PreparationFailed(f"{what}; no incomplete dataset remains")
    return output


def main() -> None:
    """Prepare the dataset sys.argv[1] in the folder sys.argv[2], and print the result as one line of JSON."""
    requested = sys.argv[1], Path(sys.argv[2])
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)  # redirect what TensorFlow Datasets prints to standard error, like its progress
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            _prepare(*requested)
            result: dict[str, Any] = {}
        except KeyboardInterrupt:
            raise SystemExit(130) from None
        except Exception as error:
            message, exit_status = _reason(error, *requested)
            result = {"error": message, "exit_status": exit_status}
        print(json.dumps(result), file=answer)


def _prepare(name: str, directory: Path) -> None:
    """Prepare a dataset as array_record files, or convert its existing files."""
    import tensorflow_datasets
    from tensorflow_datasets.core.download import downloader

    downloader.MAX_RETRIES = _RETRIES
    with _exclusive(directory):
        with suppress(DataError):
            tfds.locate(name, str(directory))
            return  # another process prepared it in the meantime
        builder = tensorflow_datasets.builder(name, data_dir=str(directory))
        version = Path(os.fspath(builder.data_path))
        if not (version / "dataset_info.json").exists():
            builder = tensorflow_datasets.builder(name, data_dir=str(directory), file_format="array_record")
            builder.download_and_prepare()
        else:
            _convert(version, [Path(file) for split in builder.info.splits.values() for file in split.filepaths])


@contextmanager
def _exclusive(directory: Path) -> Iterator[None]:
    """Wait until no other process prepares datasets in a folder, then remove the leftovers of killed processes."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".fnet-prepare.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process that is preparing a dataset in {directory}", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        _remove_incomplete(directory)
        try:
            yield
        finally:
            _remove_incomplete(directory)


def _remove_incomplete(directory: Path) -> None:
    for pattern in ("*/incomplete.*", "*/*/incomplete.*", "*/*/*/incomplete.*", "downloads/**/*.tmp.*"):
        for path in list(directory.glob(pattern)):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _convert(directory: Path, files: list[Path]) -> None:
    """Convert tfrecord files to array_record files in the same folder, then add the format to the header."""
    import tensorflow  # pyright: ignore[reportMissingModuleSource, reportMissingImports]
    from array_record.python.array_record_module import ArrayRecordWriter

    for number, file in enumerate(files, 1):
        print(f"converting {file.name} ({number} of {len(files)})", file=sys.stderr)
        converted = file.with_name(file.name.replace(".tfrecord-", ".array_record-"))

        def write(partial: Path, file: Path = file) -> None:
            writer = ArrayRecordWriter(str(partial), "group_size:1")
            for record in tensorflow.data.TFRecordDataset(str(file)).as_numpy_iterator():
                writer.write(record)
            writer.close()

        _write_atomically(converted, write)
    header = json.loads((directory / "dataset_info.json").read_text(encoding="utf-8"))
    header["alternativeFileFormats"] = [*header.get("alternativeFileFormats", ()), "array_record"]
    _write_atomically(
        directory / "dataset_info.json", lambda partial: partial.write_text(json.dumps(header, indent=2), "utf-8")
    )


def _write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file atomically: under a temporary name, which is then renamed."""
    partial = path.with_name(f"incomplete.{path.name}")
    try:
        write(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _reason(error: Exception, name: str, directory: Path) -> tuple[str, int]:
    """Return the explanation of an error, and its exit status."""
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    known = (reason for cause in chain if (reason := _known_reason(cause, name, directory)) is not None)
    text = str(error).strip()
    if "manual" in text.lower():
        unknown = f"its files must be downloaded manually:\n{text}", 2
    else:
        unknown = f"{type(error).__name__}: {text.splitlines()[0] if text else 'no message'}", 3
    return next(known, unknown)


def _known_reason(cause: BaseException, name: str, directory: Path) -> tuple[str, int] | None:
    """Return the explanation and exit status of an expected error, or None for any other."""
    import requests
    import tensorflow_datasets
    from tensorflow_datasets.core import registered
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    if isinstance(cause, registered.DatasetNotFoundError):
        near = suggestion(name, tensorflow_datasets.list_builders(with_community_datasets=False), listing=False)
        return f"TensorFlow Datasets has no dataset of this name{near}", 2
    if isinstance(cause, requests.exceptions.ConnectionError | requests.exceptions.Timeout):
        host = urlsplit(cause.request.url).hostname if cause.request is not None else None
        return f"{host or 'the server'} cannot be reached; check the network connection", 3
    if isinstance(cause, NonMatchingChecksumError):
        return "the checksum of the downloaded file is wrong; try again", 3
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {directory} is full", 3
    if isinstance(cause, PermissionError | NotADirectoryError | FileExistsError):
        return f"{directory} cannot be written ({cause.strerror}); choose another folder with --data-dir", 2
    return None


if __name__ == "__main__":
    main()
