"""Hostile data files: each is refused with one line, or read right, in bounded time and memory.

The files are made by code: damaged headers, sizes that disagree with the file, files that decompress to far more than
they contain, text that is not text, and FIFOs, folders and symbolic links in place of files.
"""

import contextlib
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_files_arrays import Case, archives, idx_files
from data_files_media import images, places, texts
from data_files_tables import tables
from outcome import Outcome, report

SECONDS = 60
"""Maximum duration of a case; a table of 200,000 columns may take longer on a busy machine."""

MEMORY = 6 << 30
"""Address space of the process, in bytes."""


class Slow(BaseException):
    """A case took too long; not an Exception, which could be taken for one of reading the file."""


def cases() -> list[Case]:
    """Return all cases."""
    return [*archives(), *idx_files(), *images(), *tables(), *texts(), *places()]


def failure(case: Case, seed: int) -> str | None:
    """Run one case in a folder of its own, and return how it fails, or None."""
    from fnet.data import files
    from fnet.data.source import DataError

    before, environment = os.getcwd(), dict(os.environ)
    with tempfile.TemporaryDirectory() as folder, _limited_time(), warnings.catch_warnings():
        os.chdir(folder)
        warnings.simplefilter("error")
        try:
            kind, settings = case.write(random.Random(f"{case.name} {seed}"))
            os.environ["XDG_CACHE_HOME"] = os.path.join(folder, "cache")
            source = files.source(kind, {**settings, "path": os.path.join(folder, settings["path"])})
            spec, arrays = source.spec(), source.read(0)
            if isinstance(case.outcome, str):
                return f"it was read: {spec.size} examples of {spec.shape} with {spec.targets}"
            return None if case.outcome(spec, arrays) else f"it was read wrong: {arrays}"
        except DataError as error:
            message = str(error)
            if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in message):
                return f"the message contains control characters: {message!r}"
            if Path("canary").exists():
                return "code in the file was run"
            if not isinstance(case.outcome, str) or not re.search(case.outcome, message):
                return f"unexpected message: {message[:300]}"
            return None
        except BaseException as error:
            return f"{type(error).__name__}: {str(error)[:300]}"
        finally:
            os.chdir(before)
            os.environ.clear()
            os.environ.update(environment)


@contextlib.contextmanager
def _limited_time() -> Iterator[None]:
    """Raise an error after `SECONDS`."""

    def stop(*_: Any) -> None:
        raise Slow(f"it took more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def attack(seed: int) -> list[Outcome]:
    """Return the outcome of all cases, which run in one process with limited memory."""
    command = [sys.executable, __file__, "--run", str(seed)]
    child = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=300, check=False)
    names, failures = [case.name for case in cases()], child.stdout.splitlines()
    if child.returncode:
        failures.append(f"the process ended with status {child.returncode}")
    print("\n".join(failures), end="\n" if failures else "")
    return [Outcome("hostile data files", len(names), len(failures), seed)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the attack as a command, and return its exit status."""
    return report(attack, __doc__, argv)


def _run(seed: int) -> None:
    import pandas  # noqa: F401 (imported before memory and time are limited)

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for case in cases():
        reason = failure(case, seed)
        if reason is not None:
            print(f"{case.name}: {reason}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        sys.exit(_run(int(sys.argv[2])))
    sys.exit(main())
