"""The `fnet` command and the list of its subcommands."""

import signal
from importlib import metadata
from typing import Annotated

import typer

from fnet.cli.config import explain, schema, summary, validate
from fnet.cli.data import data
from fnet.cli.evaluate import evaluate
from fnet.cli.gradcheck import gradcheck
from fnet.cli.guide import guide
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


def main() -> None:
    """The entry point of the `fnet` command."""
    try:
        app()
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command has ended: Ctrl-C would only disturb the exit
