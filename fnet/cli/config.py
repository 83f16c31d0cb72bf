"""The commands that read or describe configs: `fnet summary`, `validate`, `explain` and `schema`."""

import json
import warnings
from typing import TYPE_CHECKING, Annotated

import typer

from fnet.cli.command import ConfigFile, Json, Overrides, Trust, command, terminal
from fnet.core.wording import in_bytes, printable

if TYPE_CHECKING:
    from fnet.runs.memory import MemoryNeed


@command
def summary(config: ConfigFile, overrides: Overrides = None, trust: Trust = None, as_json: Json = False) -> None:
    """Show the network of CONFIG: layers, output shapes, parameters, FLOPs and the memory that training needs."""
    from fnet.config.load import load
    from fnet.report.summary import summarize
    from fnet.report.tables import summary_table
    from fnet.runs import memory
    from fnet.runs.files import to_json

    experiment = load(config, overrides or (), trust=trust or ())
    rows = summarize(experiment.net, experiment.spec.shape)
    if as_json:
        print(to_json([row._asdict() for row in rows]))
    else:
        need = memory.estimate(experiment)
        console = terminal()
        console.print(summary_table(rows, experiment.spec.shape))
        console.print(f"training needs at least {need}", soft_wrap=True)
        _warn_of_excess(need)


@command
def validate(
    config: ConfigFile,
    overrides: Overrides = None,
    trust: Trust = None,
    resolved: Annotated[bool, typer.Option(help="Print the config with every default filled in.")] = False,
) -> None:
    """Check CONFIG without reading data or training."""
    from fnet.config.load import load
    from fnet.runs import memory

    experiment = load(config, overrides or (), trust=trust or ())
    if resolved:
        print(experiment.config_text(None), end="")
    else:
        need = memory.estimate(experiment)
        print(f"{printable(config)}: ok; training needs at least {in_bytes(need.total)} of memory")
        _warn_of_excess(need)


def _warn_of_excess(need: "MemoryNeed") -> None:
    """Issue a warning if training needs more than the memory of this machine."""
    from fnet.runs import memory

    excess = memory.excess(need)
    if excess:
        warnings.warn(excess, memory.MemoryWarning, stacklevel=2)


@command
def explain(
    key: Annotated[
        str,
        typer.Argument(
            metavar="KEY",
            show_default=False,
            help="A key (train.epochs) or the name of a layer, optimizer, schedule, dataset, augmentation or loss.",
        ),
    ] = "",
) -> None:
    """Explain a setting: its type, default and meaning."""
    from fnet.config.explain import explain
    from fnet.report.explanation import print_explanation

    console = terminal()
    for explanation in explain(key):
        print_explanation(console, explanation)


@command
def schema() -> None:
    """Print the JSON Schema of the config, for editors."""
    from fnet.config.json_schema import json_schema

    print(json.dumps(json_schema(), indent=2))
