"""The `fnet` command and the list of its subcommands."""

import os
import signal
import sys
from importlib import metadata
from typing import Annotated

import typer

from fnet.cli.command import report
from fnet.cli.config import explain, schema, summary, validate
from fnet.cli.data import data
from fnet.cli.evaluate import evaluate
from fnet.cli.gradcheck import gradcheck
from fnet.cli.guide import guide
from fnet.cli.init import init
from fnet.cli.predict import predict
from fnet.cli.trace import trace
from fnet.cli.train import train

app = typer.Typer(
    help="Functional neural networks on JAX, with every gradient checked against one derived by hand.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"fnet {metadata.version('fnet')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options of `fnet` itself."""


app.command()(init)
app.command()(train)
app.command()(evaluate)
app.command()(predict)
app.command()(gradcheck)
app.command(context_settings={"ignore_unknown_options": True})(trace)
app.command()(summary)
app.command()(validate)
app.command()(explain)
app.command()(schema)
app.add_typer(data, name="data")
app.command()(guide)


def _open_missing_streams() -> None:
    """Open the standard streams that the program was started without, as by `>&-`."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 (open until the program ends)


def main() -> None:
    """The entry point of the `fnet` command."""
    _open_missing_streams()
    try:
        app()
    except OSError as error:  # commands report their own; what remains is the help on a full disk
        raise SystemExit(report(error)) from None
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command has ended: Ctrl-C would only disturb the exit
