"""`fnet init`."""

import shlex
from typing import Annotated

import typer

from fnet.cli.command import command, terminal


@command
def init(
    data: Annotated[
        str,
        typer.Argument(
            metavar="FILE|FOLDER",
            show_default=False,
            help="Your data: a table, an array (.npz), a text, a folder of images.",
        ),
    ],
    target: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Column of the table to predict.", show_default=False),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="File of the config; by default NAME.yaml.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing config.")] = False,
) -> None:
    """Write a commented config for your data: what was found, a suitable network, and why."""
    from fnet.config.starter import config_path, starter
    from fnet.runs.files import save

    path = config_path(data, output, force=force)
    made = starter(data, path.parent, target)
    save(str(path), made.text.encode(), "config")
    console, name = terminal(), shlex.quote(str(path))
    console.print(f"{made.spec.name}: {made.spec.size:,} examples {made.spec.shape} with {made.spec.targets}")
    if made.chosen:
        console.print(f"the target is '{made.target}', {made.chosen}; choose another with --target", soft_wrap=True)
    console.print(f"the config is in {path}; look at the data: fnet data show {name}", soft_wrap=True)
    console.print(f"train it: fnet train {name}", soft_wrap=True)
