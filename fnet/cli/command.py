"""Arguments, exit statuses and output that all commands share."""

import contextlib
import functools
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fnet.core.wording import first_line, printable

if TYPE_CHECKING:
    from rich.console import Console

ConfigFile = Annotated[str, typer.Argument(metavar="CONFIG", help="YAML file of an experiment.", show_default=False)]
RunFolder = Annotated[str, typer.Argument(metavar="RUN", help="Folder of a run: runs/NAME-1.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE", help="Settings that override those of the file: train.epochs=3.", show_default=False
    ),
]
Trust = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODULE",
        help="Module of layers or functions of your own that may be imported; repeatable, also FNET_TRUST=A,B.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def command(function: Callable[..., int | None]) -> Callable[..., None]:
    """Turn a function into a command: its result or error becomes an exit status and a message.

    0 success; 1 a check failed; 2 invalid request; 3 the run failed; 70 a bug in fnet; 128 + N stopped by signal N: 130
    interrupted, 143 terminated, 129 terminal closed.
    """

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            with _plain_warnings():
                status = function(*args, **kwargs) or 0
        except KeyboardInterrupt as error:
            with contextlib.suppress(OSError):  # the terminal may be closed
                print(str(error) or "interrupted", file=sys.stderr)
            status = getattr(error, "exit_status", 130)
        except BrokenPipeError:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (the reader has closed the pipe; the interpreter still flushes at exit)
            status = 0
        except Exception as error:
            status = report(error)
        raise SystemExit(status)

    return run


def report(error: Exception) -> int:
    """Print an error and return its exit status; an error without one is a bug, shown with its traceback."""
    status = getattr(error, "exit_status", 3 if isinstance(error, OSError) else None)
    if status is None and _out_of_memory(error):
        text = f"error: there is not enough memory: {first_line(error)}; make the network or the batch smaller"
        print(printable(text), file=sys.stderr)
        return 3
    if status is None:
        print(printable("".join(traceback.format_exception(error)), multiline=True), file=sys.stderr)
        print("\nThis is a bug in fnet: please report it with the traceback above.", file=sys.stderr)
        return 70
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename or 'the output cannot be written'}: {error.strerror}"
    text = text if hasattr(error, "lines") else f"error: {text}"
    print(printable(text, multiline=True), file=sys.stderr)
    return status


def _out_of_memory(error: Exception) -> bool:
    """Return whether an error of Python, NumPy or JAX says that an array does not fit into memory."""
    return isinstance(error, MemoryError) or "Out of memory" in str(error) or "RESOURCE_EXHAUSTED" in str(error)


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print each of fnet's own warnings once, as one line on standard error without its source location."""
    show_other, printed = warnings.showwarning, set[str]()

    def show(message: Any, category: type[Warning], *args: Any, **kwargs: Any) -> None:
        if not category.__module__.startswith("fnet."):
            show_other(printable(str(message), multiline=True), category, *args, **kwargs)
        elif str(message) not in printed:
            printed.add(str(message))
            print(f"warning: {printable(str(message))}", file=sys.stderr)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = show_other


class _IgnoringClosed:
    """A text stream that ignores that its reader has closed it: once writing fails, text is dropped."""

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> int:
        with self._dropping():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._dropping():
            self._stream.flush()

    @contextlib.contextmanager
    def _dropping(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError):  # a closed pipe, a closed terminal, a full disk; a closed stream
            with contextlib.suppress(OSError, ValueError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self._stream.fileno())
                os.close(null)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def ignore_closed_output() -> Iterator[None]:
    """Continue if standard output or standard error cannot be written, within the context."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_IgnoringClosed, before)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stdout, sys.stderr = before


def terminal() -> "Console":
    """Return the console for standard output, which prints text as it is, without markup and control characters."""
    from rich.console import Console
    from rich.segment import Segment

    class Terminal(Console):
        def on_broken_pipe(self) -> None:
            """Raise the BrokenPipeError again; Rich itself would exit with status 1, which means a failed check."""
            raise

        def render(self, *args: Any, **kwargs: Any) -> Iterator[Segment]:
            """Yield the segments of something to print, with visible escapes in place of control characters."""
            for segment in super().render(*args, **kwargs):
                text = segment.text if segment.control else printable(segment.text, multiline=True)
                yield segment._replace(text=text)

    return Terminal(highlight=False, markup=False)


def start_jax() -> None:
    """Cache compiled programs on disk, for later processes, if the cache folder can be written."""
    import jax

    from fnet.data import cache

    folder = cache.root() / "compiled"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_raise_persistent_cache_errors", False)
