"""A run's folder, and the environment of the run."""

import contextlib
import errno
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from fnet.core.wording import shorten
from fnet.runs import files

FOLDS = "folds.json"
"""The file with the scores of the completed folds, in the folder of a cross-validation."""

FILES = ("config.yaml", "environment.json", "model.safetensors", FOLDS)
"""The files of a run that are written as a whole."""


class FolderError(OSError):
    """A run's folder that cannot be created or read."""

    exit_status = 2


def create(out: str, name: str) -> Path:
    """Create the next folder in the sequence out/name-1, out/name-2, ...; two processes never get the same one.

    Args:
        out: parent of the folder; created if it does not exist. A leading ~ is the user's home.
        name: name of the folder, without its number.

    Raises:
        FolderError: when the folder cannot be created.
    """
    parent = _expanded(out)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        endings = [path.name.removeprefix(f"{name}-") for path in parent.glob(f"{_escaped(name)}-*")]
        number = max((int(ending) for ending in endings if ending.isdecimal()), default=0) + 1
        while True:
            try:
                (parent / f"{name}-{number}").mkdir()
                return parent / f"{name}-{number}"
            except FileExistsError:
                number += 1
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG and os.path.isdir(parent):
            limit = os.pathconf(parent, "PC_NAME_MAX")
            raise FolderError(
                f"name: the folder of a run is called NAME-NUMBER, which may have {limit} bytes in '{out}', but the "
                f"name has {len(name.encode())}; choose a shorter one with name=NAME"
            ) from None
        raise FolderError(
            f"the output folder '{out}' cannot be written: {error.strerror}; choose another with out=FOLDER"
        ) from None


def _expanded(out: str) -> Path:
    """Return the path of an output folder, in which a leading ~ is the user's home.

    Raises:
        FolderError: when the home is unknown.
    """
    try:
        return Path(out).expanduser()
    except RuntimeError:
        raise FolderError(
            f"the output folder '{out}': the home folder is unknown; choose another with out=FOLDER"
        ) from None


@contextlib.contextmanager
def claimed(run: Path) -> Iterator[None]:
    """Mark a run as running within the context, and remove the temporary files of killed runs beside it.

    The mark is a lock on the folder, which the system releases when the process ends, however it ends. Where folders
    cannot be locked, runs are not marked, and nothing is removed.
    """
    handle = _lock(run, wait=True)
    try:
        if handle is not None:
            for other in run.parent.iterdir():
                if other != run and any(other.glob(".*-????????")):
                    _remove_temporary_files(other)
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _remove_temporary_files(run: Path) -> None:
    """Remove the temporary files of a run that no process is writing."""
    with contextlib.suppress(OSError):
        handle = _lock(run, wait=False)
        if handle is not None:
            for name in FILES:
                for file in files.temporary_files(run / name):
                    file.unlink(missing_ok=True)
            os.close(handle)


def _lock(run: Path, *, wait: bool) -> int | None:
    """Lock a folder and return the handle of the lock; None if the system cannot lock it.

    Raises:
        BlockingIOError: when another process has locked it, without `wait`.
    """
    try:
        import fcntl

        handle = os.open(run, os.O_RDONLY | os.O_DIRECTORY)
    except (ImportError, OSError):
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        return handle
    except BaseException as error:
        os.close(handle)
        if isinstance(error, OSError) and not isinstance(error, BlockingIOError):
            return None
        raise


def why_unfinished(run: Path) -> str:
    """Return why a folder does not contain a trained network, or "" if it is not the folder of a run.

    A run that was killed has no last record. The lock of `claimed` shows that it no longer runs.
    """
    if (run / FOLDS).is_file():
        return f"it is the folder of a cross-validation; name one of its folds, such as {run / 'fold-1'}"
    if not (run / "environment.json").is_file():
        return ""
    records = _records(run)
    numbers = [record.get("epoch") for record in records if record.get("event") == "epoch"]
    epochs = shorten(str(max((number for number in numbers if type(number) is int), default=0)))
    last = records[-1].get("event") if records else None
    if last == "failed":
        return f"it failed: {shorten(str(records[-1].get('reason')), 600)}"
    if last == "end":
        return f"it was interrupted after {epochs} epochs, and its parameters were not saved"
    try:
        handle = _lock(run, wait=False)
    except BlockingIOError:
        return f"it is still running, and has completed {epochs} epochs; wait for its end"
    if handle is not None:
        os.close(handle)
    return f"it was killed or its disk was full after {epochs} epochs, before its parameters were saved; train again"


def _records(run: Path) -> list[dict[str, Any]]:
    """Return the last records of a run's log, without lines that are not JSON, such as an incomplete one."""
    records = []
    with contextlib.suppress(OSError):
        for line in files.read(run / "metrics.jsonl").splitlines():
            with contextlib.suppress(ValueError, RecursionError):
                records.append(json.loads(line))
    return [record for record in records if isinstance(record, dict)]


def _escaped(name: str) -> str:
    """Return the glob pattern that matches only this name."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def environment(*, seed: int, fingerprint: str) -> dict[str, Any]:
    """Return the environment of a run: time, command, versions, devices, seed, git commit and data fingerprint."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: metadata.version(name) for name in ("fnet", "jax", "jaxlib", "optax", "numpy")},
        "devices": [str(device) for device in jax.devices()],
        "seed": seed,
        "git": _git_commit(),
        "data": fingerprint,
    }


def _git_commit() -> dict[str, Any] | None:
    """Return the commit of the current directory, and whether there are changes; None outside a repository."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-c", "core.fsmonitor=false", *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
