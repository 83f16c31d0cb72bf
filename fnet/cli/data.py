"""The commands of `fnet data`: inspect datasets and the cache of decoded data."""

import signal
from typing import Annotated

import typer

from fnet.cli.command import ConfigFile, Json, Overrides, Trust, command, terminal
from fnet.core.wording import in_bytes, printable

data = typer.Typer(help="Inspect datasets and the cache of decoded data.", no_args_is_help=True)


@data.command()
@command
def show(
    config: ConfigFile,
    overrides: Overrides = None,
    trust: Trust = None,
    png: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="File of the picture; by default NAME-data.png.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the data of CONFIG: shapes, classes, ranges before and after normalization, and a picture of samples."""
    from fnet.config.load import load
    from fnet.data.inspect import inspect
    from fnet.report.data import tables
    from fnet.report.samples import draw
    from fnet.runs.files import save, to_json

    experiment = load(config, overrides or (), trust=trust or ())
    data = experiment.data
    arrays = data.source.read(experiment.seed)
    more = {"rules": data.rules, "keys": data.keys(), "table": data.source.summary()}
    inspection = inspect(arrays, data.spec, data.parts, data.normalization, seed=experiment.seed, **more)
    picture = png or f"{experiment.name}-data.png"
    if png is not None or not as_json:
        save(picture, draw(inspection), "picture")
    if as_json:
        print(to_json(inspection.plain()))
        return
    console = terminal()
    for table in tables(inspection):
        console.print(table)
    console.print(f"the picture is in {picture}", soft_wrap=True)


@data.command("list")
@command
def list_data(
    data_dir: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of prepared datasets; by default $TFDS_DATA_DIR, or ~/tensorflow_datasets.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the datasets that ship with fnet, the prepared ones, and the cache of decoded data."""
    from fnet.data import cache, catalog, tfds
    from fnet.report.data import listing_tables
    from fnet.runs.files import to_json

    embedded = catalog.embedded()
    prepared = {name: str(folder) for name, folder in tfds.prepared(data_dir).items()}
    entries = cache.entries()
    if as_json:
        names = {source: [spec.name for spec in specs] for source, specs in embedded.items()}
        decoded = [
            {**entry.key, "path": str(entry.path), "bytes": entry.size, "made": entry.created} for entry in entries
        ]
        print(to_json({"embedded": names, "prepared": prepared, "cache": str(cache.folder()), "decoded": decoded}))
        return
    console = terminal()
    for table in listing_tables(embedded, prepared, str(cache.folder()), entries):
        console.print(table)


@data.command()
@command
def prepare(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name in TensorFlow Datasets: mnist.", show_default=False)
    ],
    data_dir: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder to write to; by default $TFDS_DATA_DIR, or ~/tensorflow_datasets.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Download and prepare a dataset of TensorFlow Datasets; requires TensorFlow (extra prepare)."""
    from fnet.data.prepare_tfds import prepare

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder, splits = prepare(name, data_dir)
    sizes = ", ".join(f"{split} {size:,}" for split, size in splits.items())
    print(printable(f"{name} is prepared in {folder}: {sizes} examples"))


@data.command()
@command
def clear(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Dataset to remove; by default all.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Remove decoded data from the cache; it is decoded again when needed."""
    from fnet.data import cache
    from fnet.runs.files import to_json

    entries = cache.entries() if name is None else cache.entries_of(name)
    freed = cache.clear(None if name is None else entries)
    if as_json:
        print(to_json({"removed": [str(entry.path) for entry in entries], "bytes": freed}))
    else:
        print(printable(f"removed {in_bytes(freed)} of decoded data from {cache.folder()}"))
