"""Preparing a set of TensorFlow Datasets: the one thing that needs TensorFlow, done by a process of its own.

`prepare` starts this module as that process and waits for it. The set appears in its folder all at once, when it is
complete: what a killed process leaves is removed by the next one.
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
"""How often a download is tried again: for some seconds, where TensorFlow Datasets would go on for minutes."""


class MissingTensorFlow(ImportError):
    """What prepares is not installed."""

    exit_status = 2


class PreparationFailed(RuntimeError):
    """The set could not be prepared.

    exit_status: 2 when another name or a file that only you can get is needed, 3 when it may work another time.
    """

    def __init__(self, message: str, exit_status: int = 3):
        super().__init__(message)
        self.exit_status = exit_status


def prepare(name: str, data_dir: str | None = None) -> tuple[Path, dict[str, int]]:
    """Downloads and prepares a set, or converts one that only TensorFlow can read; progress goes to standard error.

    Args:
        name: as TensorFlow Datasets writes it: mnist, glue/cola, mnist:3.0.1.
        data_dir: the folder of the prepared sets, by default as in `tfds.folder`.

    Returns:
        The folder of the set, and its splits with their numbers of examples. One that is there already is left alone.

    Raises:
        MissingTensorFlow: when it is not installed.
        PreparationFailed: for an unknown name, without a network, on a full disk.
    """
    with suppress(DataError):
        return tfds.found(name, data_dir)
    if importlib.util.find_spec("tensorflow") is None:
        raise MissingTensorFlow(
            "preparing needs TensorFlow, which training does not: pip install 'fnet[prepare]', here or elsewhere; then "
            "name the folder of the prepared sets with data.data_dir"
        )
    place = tfds.folder(data_dir).absolute()
    child = subprocess.Popen(
        [sys.executable, "-m", "fnet.data.prepare_tfds", name, str(place)],
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
        killed = signal.Signals(-child.returncode).name
        raise PreparationFailed(f"the process that prepares '{name}' was ended by {killed}; nothing is half-written")
    answer: dict[str, Any] = json.loads(output) if output.strip() else {"error": "it broke off without a word"}
    if "error" in answer:
        raise PreparationFailed(f"'{name}' could not be prepared: {answer['error']}", answer.get("exit_status", 3))
    return tfds.found(name, data_dir)


def main() -> None:
    """The process: prepares sys.argv[1] in the folder sys.argv[2], and answers in one line of JSON."""
    requested = sys.argv[1], Path(sys.argv[2])
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)  # TensorFlow Datasets prints: to the same place as its progress
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


def _prepare(name: str, place: Path) -> None:
    """Prepares a set in array_record files, or converts those that are there."""
    import tensorflow_datasets
    from tensorflow_datasets.core.download import downloader

    downloader.MAX_RETRIES = _RETRIES
    with _alone_in(place):
        with suppress(DataError):
            tfds.found(name, str(place))
            return  # another process has prepared it meanwhile
        builder = tensorflow_datasets.builder(name, data_dir=str(place))
        ready = Path(os.fspath(builder.data_path))
        if not (ready / "dataset_info.json").exists():
            builder = tensorflow_datasets.builder(name, data_dir=str(place), file_format="array_record")
            builder.download_and_prepare()
        else:
            _convert(ready, [Path(file) for split in builder.info.splits.values() for file in split.filepaths])


@contextmanager
def _alone_in(place: Path) -> Iterator[None]:
    """Waits until no other process prepares in a folder, then removes what broken-off ones have left there."""
    place.mkdir(parents=True, exist_ok=True)
    with (place / ".fnet-prepare.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process that prepares in {place}", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        _sweep(place)
        try:
            yield
        finally:
            _sweep(place)


def _sweep(place: Path) -> None:
    for pattern in ("*/incomplete.*", "*/*/incomplete.*", "*/*/*/incomplete.*", "downloads/**/*.tmp.*"):
        for left in list(place.glob(pattern)):
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


def _convert(place: Path, files: list[Path]) -> None:
    """Writes array_record files beside tfrecord files, example by example, and says so in the header, last of all."""
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

        _whole(converted, write)
    header = json.loads((place / "dataset_info.json").read_text(encoding="utf-8"))
    header["alternativeFileFormats"] = [*header.get("alternativeFileFormats", ()), "array_record"]
    _whole(place / "dataset_info.json", lambda partial: partial.write_text(json.dumps(header, indent=2), "utf-8"))


def _whole(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file whole or not at all: under another name first, which then takes its place."""
    partial = path.with_name(f"incomplete.{path.name}")
    try:
        write(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _reason(error: Exception, name: str, place: Path) -> tuple[str, int]:
    """What went wrong, in words, and the exit status that says whose turn it is."""
    import requests
    from tensorflow_datasets.core import registered
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    chain: list[BaseException] = [error]
    while (before := chain[-1].__cause__ or chain[-1].__context__) is not None and before not in chain:
        chain.append(before)
    for cause in chain:
        if isinstance(cause, registered.DatasetNotFoundError):
            import tensorflow_datasets

            near = suggestion(name, tensorflow_datasets.list_builders(with_community_datasets=False), listing=False)
            return f"TensorFlow Datasets has no set of this name{near}", 2
        if isinstance(cause, requests.exceptions.ConnectionError | requests.exceptions.Timeout):
            host = urlsplit(cause.request.url).hostname if cause.request is not None else None
            return f"{host or 'the server'} cannot be reached; a download needs a network", 3
        if isinstance(cause, NonMatchingChecksumError):
            return "what was downloaded is not what is expected (its checksum differs); try again", 3
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"the disk of {place} is full", 3
        if isinstance(cause, PermissionError | NotADirectoryError | FileExistsError):
            return f"{place} cannot be written ({cause.strerror}); choose another folder with --data-dir", 2
    text = str(error).strip()
    if "manual" in text.lower():
        return f"its files have to be fetched by hand:\n{text}", 2
    return f"{type(error).__name__}: {text.splitlines()[0] if text else 'no further word'}", 3


if __name__ == "__main__":
    main()
