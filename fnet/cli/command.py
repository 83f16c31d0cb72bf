"""What all commands share: their arguments, how they end, and what they print with."""

import contextlib
import functools
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer

ConfigFile = Annotated[str, typer.Argument(metavar="CONFIG", help="A YAML file.", show_default=False)]
RunFolder = Annotated[str, typer.Argument(metavar="RUN", help="The folder of a run.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...", help="Settings in place of the file's: train.epochs=3", show_default=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for a program to read.")]


def command(
    function: Callable[..., int | None], *, group: typer.Typer, name: str | None = None, **context: Any
) -> Callable[..., None]:
    """Registers a command with a group, and turns what it raises into messages and exit statuses.

    Its name is its function's, if it is given no other.

    0 done; 1 the thing checked does not hold; 2 the request is wrong; 3 the run failed; 70 a bug of ours;
    130 interrupted. Further arguments are settings of the command's context.
    """

    @group.command(name, context_settings=context)
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            with _plain_warnings():
                status = function(*args, **kwargs)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            status = 130
        except BrokenPipeError:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (nobody reads on; the interpreter still flushes at exit)
            status = 0
        except Exception as error:
            status = getattr(error, "exit_status", None)
            if status is None and isinstance(error, OSError):
                status = 3
            if status is None:
                traceback.print_exc()
                print("\nThis is a bug of fnet's: please report it with the lines above.", file=sys.stderr)
                status = 70
            else:
                print(error if hasattr(error, "lines") else f"error: {error}", file=sys.stderr)
        raise SystemExit(status or 0)

    return run


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Prints warnings of fnet's own as one line on standard error, once each, without their place in the code."""
    shown, said = warnings.showwarning, set[str]()

    def show(message: Any, category: type[Warning], *args: Any, **kwargs: Any) -> None:
        if not category.__module__.startswith("fnet."):
            shown(message, category, *args, **kwargs)
        elif str(message) not in said:
            said.add(str(message))
            print(f"warning: {message}", file=sys.stderr)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = shown


def terminal() -> Any:
    from rich.console import Console

    return Console(highlight=False)


def start_jax() -> None:
    """Keeps compiled programs between processes, where a cache can be written."""
    import jax

    from fnet.data import cache

    folder = cache.root() / "compiled"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_raise_persistent_cache_errors", False)
