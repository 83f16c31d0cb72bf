"""A run's folder, and the environment of the run."""

import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import jax


class FolderError(OSError):
    """A run's folder that cannot be created or read."""

    exit_status = 2


def create(out: str, name: str) -> Path:
    """Create the next folder in the sequence out/name-1, out/name-2, ...; two processes never get the same one.

    Args:
        out: parent of the folder; created if it does not exist.
        name: name of the folder, without its number.

    Raises:
        FolderError: when the folder cannot be created.
    """
    parent = Path(out)
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
        raise FolderError(
            f"the output folder '{out}' cannot be written: {error.strerror}; choose another with out=FOLDER"
        ) from None


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
            ["git", *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
