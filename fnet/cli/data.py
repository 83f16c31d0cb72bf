"""The commands of `fnet data`: look at data, and at what is kept of them."""

import functools
import signal
from typing import Annotated

import typer

from fnet.cli.command import ConfigFile, Json, Overrides, command, terminal

data = typer.Typer(help="Look at data, and at what is kept of them.", no_args_is_help=True)


@functools.partial(command, group=data, name="show")
def data_show(
    config: ConfigFile,
    overrides: Overrides = None,
    png: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Where to write the picture; by default NAME-data.png.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Look at the data of CONFIG: shapes, classes, ranges before and after normalization, and a picture of samples."""
    from fnet.config.load import load
    from fnet.data import catalog
    from fnet.data.inspect import inspect
    from fnet.report.data import tables
    from fnet.report.samples import draw
    from fnet.runs.files import save, to_json

    experiment = load(config, overrides or ())
    settings, spec = experiment.config.data, experiment.spec
    arrays = catalog.read(settings.source, settings.name, settings.own(), experiment.config.seed)
    parts = settings.parts(spec.splits)
    found = inspect(arrays, spec, parts, settings.normalize or "none", seed=experiment.config.seed)
    picture = png or f"{experiment.config.name}-data.png"
    if png is not None or not as_json:
        save(picture, draw(found), "picture")
    if as_json:
        print(to_json(found.plain()))
        return
    console = terminal()
    for table in tables(found):
        console.print(table)
    console.print(f"the picture is in {picture}", soft_wrap=True)


@functools.partial(command, group=data, name="list")
def data_list(
    data_dir: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Of prepared sets, in place of the usual.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """List the data that ship with fnet, the sets that are prepared, and what is kept decoded, with sizes."""
    from fnet.data import cache, catalog, tfds
    from fnet.report.data import listing_tables
    from fnet.runs.files import to_json

    embedded = catalog.embedded()
    prepared = {name: str(folder) for name, folder in tfds.prepared(data_dir).items()}
    entries = cache.entries()
    if as_json:
        named = {source: [spec.name for spec in specs] for source, specs in embedded.items()}
        kept = [{**entry.key, "path": str(entry.path), "bytes": entry.size, "made": entry.made} for entry in entries]
        print(to_json({"embedded": named, "prepared": prepared, "cache": str(cache.folder()), "decoded": kept}))
        return
    console = terminal()
    for table in listing_tables(embedded, prepared, str(cache.folder()), entries):
        console.print(table)


@functools.partial(command, group=data, name="prepare")
def data_prepare(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="As TensorFlow Datasets writes it: mnist.", show_default=False)
    ],
    data_dir: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Where it is put; by default $TFDS_DATA_DIR, or ~/tensorflow_datasets.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Download and prepare a set of TensorFlow Datasets, once; the one thing that needs TensorFlow."""
    from fnet.data.prepare_tfds import prepare

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    place, splits = prepare(name, data_dir)
    sizes = ", ".join(f"{split} {size:,}" for split, size in splits.items())
    print(f"{name} is prepared in {place}: {sizes} examples")


@functools.partial(command, group=data, name="clear")
def data_clear(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Of one data set; by default all.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Remove decoded data; they are decoded again when they are next needed."""
    from fnet.data import cache
    from fnet.report.data import size
    from fnet.runs.files import to_json

    chosen = cache.entries() if name is None else cache.named(name)
    freed = cache.clear(None if name is None else chosen)
    if as_json:
        print(to_json({"removed": [str(entry.path) for entry in chosen], "bytes": freed}))
    else:
        print(f"removed {size(freed)} of decoded data from {cache.folder()}")
