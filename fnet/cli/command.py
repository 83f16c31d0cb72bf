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

    0 success; 1 a check failed; 2 invalid request; 3 the run failed; 70 a bug in fnet; 130 interrupted.
    """

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            with _plain_warnings():
                status = function(*args, **kwargs) or 0
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            status = 130
        except BrokenPipeError:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (the reader has closed the pipe; the interpreter still flushes at exit)
            status = 0
        except Exception as error:
            status = _report(error)
        raise SystemExit(status)

    return run


def _report(error: Exception) -> int:
    """Print an error and return its exit status; an error without one is a bug, shown with its traceback."""
    status = getattr(error, "exit_status", 3 if isinstance(error, OSError) else None)
    if status is None:
        traceback.print_exception(error)
        print("\nThis is a bug in fnet: please report it with the traceback above.", file=sys.stderr)
        return 70
    print(error if hasattr(error, "lines") else f"error: {error}", file=sys.stderr)
    return status


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print each of fnet's own warnings once, as one line on standard error without its source location."""
    show_other, printed = warnings.showwarning, set[str]()

    def show(message: Any, category: type[Warning], *args: Any, **kwargs: Any) -> None:
        if not category.__module__.startswith("fnet."):
            show_other(message, category, *args, **kwargs)
        elif str(message) not in printed:
            printed.add(str(message))
            print(f"warning: {message}", file=sys.stderr)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = show_other


def terminal() -> "Console":
    """Return the console for standard output."""
    from rich.console import Console

    class PipedConsole(Console):
        def on_broken_pipe(self) -> None:
            """Raise the BrokenPipeError again; Rich itself would exit with status 1, which means a failed check."""
            raise

    return PipedConsole(highlight=False)


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
