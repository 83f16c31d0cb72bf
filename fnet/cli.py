"""The command line: parse, call, print."""

import contextlib
import functools
import json
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

import typer

app = typer.Typer(
    help="Functional neural networks on JAX, with every gradient checked against one written by hand.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

data = typer.Typer(help="Look at data, and at what is kept of them.", no_args_is_help=True)
app.add_typer(data, name="data")

ConfigFile = Annotated[str, typer.Argument(metavar="CONFIG", help="A YAML file.", show_default=False)]
RunFolder = Annotated[str, typer.Argument(metavar="RUN", help="The folder of a run.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...", help="Settings in place of the file's: train.epochs=3", show_default=False
    ),
]
Precision = Literal["float64", "float32"]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for a program to read.")]


def command(
    function: Callable[..., int | None], group: typer.Typer = app, name: str | None = None, **context: Any
) -> Callable[..., None]:
    """Registers a command and turns what it raises into messages and exit statuses.

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


def _console() -> Any:
    from rich.console import Console

    return Console(highlight=False)


def _start_jax() -> None:
    """Keeps compiled programs between processes, where a cache can be written."""
    import jax

    from fnet.data import cache

    folder = cache.root() / "compiled"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_raise_persistent_cache_errors", False)


@command
def train(config: ConfigFile, overrides: Overrides = None) -> int:
    """Train the network of CONFIG, and write the run's folder."""
    from fnet.config.load import dump, load
    from fnet.report.console import TrainingProgress, scores_table
    from fnet.train.run import run

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    _start_jax()
    console = _console()
    experiment = load(config, overrides or ())
    settings, spec = experiment.config, experiment.spec
    console.print(
        f"{settings.name}: {spec.name}, {spec.size} examples {spec.shape} with {spec.targets}", soft_wrap=True
    )
    epochs = experiment.plan().epochs
    with TrainingProgress(console, epochs) as progress:
        outcome = run(experiment, dump(settings), progress)
    fitted = outcome.fitted
    if fitted.stopped != "done":
        why = {"early": "stopped early", "interrupted": "interrupted"}[fitted.stopped]
        console.print(f"{why} after {len(fitted.history)} of {epochs} epochs; kept epoch {fitted.kept_epoch}")
    console.print(scores_table(outcome.scores, outcome.sizes))
    console.print(
        f"the run is in {outcome.folder}: config.yaml, environment.json, metrics.jsonl, model.safetensors",
        soft_wrap=True,
    )
    console.print(f"look closer with: fnet evaluate {outcome.folder}", soft_wrap=True)
    if spec.vocabulary is not None and spec.targets.shape:
        console.print(f'go on with a text: fnet predict {outcome.folder} "…"', soft_wrap=True)
    return 130 if fitted.stopped == "interrupted" else 0


@command
def evaluate(run: RunFolder, as_json: Json = False) -> None:
    """Score the network of RUN on every part of its data, and show which classes it confuses."""
    from fnet.config.load import load
    from fnet.report.console import confusion_table, scores_table
    from fnet.train.folder import load_model, to_json
    from fnet.train.run import evaluate

    _start_jax()
    model = load_model(run)
    experiment = load(os.path.join(run, "config.yaml"))
    result = evaluate(experiment, model.params, model.state)
    if as_json:
        print(to_json({"examples": result.sizes, "scores": result.scores}))
        return
    console = _console()
    console.print(scores_table(result.scores, result.sizes))
    targets = experiment.spec.targets
    if targets.kind == "classes":
        names = targets.names or tuple(map(str, range(targets.number)))
        console.print(f"on the {result.part} part:")
        console.print(confusion_table(result.decisions, result.labels, names))


@command
def predict(
    run: RunFolder,
    given: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            show_default=False,
            help="A file of examples (.csv, .npz, .npy, image, folder of images, IDX), or the beginning of a text.",
        ),
    ],
    length: Annotated[int, typer.Option(min=1, help="Of a text: characters, or bytes, to add.")] = 200,
    temperature: Annotated[
        float, typer.Option(min=0, help="Of a text: below 1 likely characters become likelier; 0 takes the likeliest.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Of a text: of the draws.")] = 0,
    as_json: Json = False,
) -> None:
    """Decide on the examples in INPUT, or go on with a text, with the network of RUN."""
    from fnet.report.console import predictions_table
    from fnet.train.folder import to_json
    from fnet.train.predict import continuation, predict, trained

    _start_jax()
    network = trained(run)
    if network.is_language:
        pieces = continuation(network, given, length=length, temperature=temperature, seed=seed)
        if as_json:
            print(to_json({"prompt": given, "continuation": "".join(pieces)}))
            return
        print(given, end="", flush=True)
        for piece in pieces:
            print(piece, end="", flush=True)
        print()
        return
    found = predict(network, given)
    if as_json:
        print(to_json({"predictions": [prediction._asdict() for prediction in found]}))
    else:
        _console().print(predictions_table(found))


@command
def gradcheck(
    target: Annotated[str, typer.Argument(metavar="CONFIG|RUN", help="A YAML file, or the folder of a run.")],
    overrides: Overrides = None,
    leaf: Annotated[
        str | None, typer.Option(metavar="NAME", help="Report on one leaf, such as dense_2/w.", show_default=False)
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Entries of every leaf to compare with differences; by default 20, in a large network fewer.",
            show_default=False,
        ),
    ] = None,
    examples: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Training examples to take; by default 64, or as many sequences as have 128 steps.",
            show_default=False,
        ),
    ] = None,
    precision: Annotated[Precision, typer.Option(help="What JAX computes its gradients in.")] = "float64",
    after_steps: Annotated[int, typer.Option(min=0, help="Check again after so many steps of training.")] = 0,
    html: Annotated[str | None, typer.Option(metavar="FILE", help="Write a page as well.", show_default=False)] = None,
    as_json: Json = False,
) -> int:
    """Check the gradients of a network: by hand, by JAX and by differences. Exit status 1 if one is wrong."""
    from fnet.config.load import load
    from fnet.report.gradients import print_check, save_page
    from fnet.train.folder import load_model, to_json
    from fnet.train.gradients import check_gradients

    _start_jax()
    model = load_model(target) if os.path.isdir(target) else None
    experiment = load(os.path.join(target, "config.yaml") if model else target, overrides or ())
    checks = check_gradients(
        experiment,
        trained=model and (model.params, model.state),
        after_steps=after_steps,
        examples=examples,
        leaf=leaf,
        samples=samples,
        precision=precision,
    )
    if html is not None:
        save_page(html, experiment.config.name, checks)
    ok = all(check.report.ok for check in checks)
    if as_json:
        found = [{"when": when, "examples": examples, **report.plain()} for when, examples, report in checks]
        print(to_json({"ok": ok, "checks": found}))
    else:
        loss = experiment.config.loss and experiment.config.loss.name
        for when, examples, report in checks:
            print_check(_console(), f"{experiment.config.name}: {loss} of {examples} examples, {when}", report)
    return 0 if ok else 1


def _no_option(given: Any) -> Any:
    """Arguments may begin with a minus, but not with two: that is an option misspelt."""
    for text in [given] if isinstance(given, str) else given or []:
        if text.startswith("--"):
            raise typer.BadParameter(f"no such option: {text}; an expression begins with one minus at most")
    return given


@functools.partial(command, ignore_unknown_options=True)
def trace(
    expression: Annotated[
        str,
        typer.Argument(metavar="EXPRESSION", help='As in "(x + y) * z".', show_default=False, callback=_no_option),
    ],
    values: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=VALUE]...", help="x=2, x=-2.5e-3, x=[1,2,3].", show_default=False, callback=_no_option
        ),
    ] = None,
    steps: Annotated[bool, typer.Option("--steps", help="Show the backward pass one message at a time.")] = False,
    order: Annotated[int, typer.Option(min=1, max=2, help="2 for the second derivatives as well.")] = 1,
    svg: Annotated[str | None, typer.Option(metavar="FILE", help="Draw the graph.", show_default=False)] = None,
    as_json: Json = False,
) -> int:
    """Trace EXPRESSION through its computational graph, beside JAX. Exit status 1 if a gradient is wrong."""
    from fnet.gradcheck.trace import trace
    from fnet.report.trace import as_data, print_trace
    from fnet.train.folder import save, to_json

    _start_jax()
    result = trace(expression, values or (), order=order)
    if svg is not None:
        from fnet.report.graph_svg import draw

        save(svg, draw(result), "drawing")
    if as_json:
        print(to_json(as_data(result)))
    else:
        print_trace(_console(), result, steps=steps)
    return 0 if result.ok else 1


@command
def summary(config: ConfigFile, overrides: Overrides = None, as_json: Json = False) -> None:
    """Show the layers of CONFIG's network: output shapes, parameters, floating-point operations."""
    from fnet.config.load import load
    from fnet.report.console import summary_table
    from fnet.report.summary import summarize
    from fnet.train.folder import to_json

    experiment = load(config, overrides or ())
    rows = summarize(experiment.net, experiment.spec.shape)
    if as_json:
        print(to_json([row._asdict() for row in rows]))
    else:
        _console().print(summary_table(rows, experiment.spec.shape))


@command
def validate(
    config: ConfigFile,
    overrides: Overrides = None,
    resolved: Annotated[bool, typer.Option(help="Print the config with every default filled in.")] = False,
) -> None:
    """Check CONFIG without reading data or training."""
    from fnet.config.load import dump, load

    experiment = load(config, overrides or ())
    if resolved:
        print(dump(experiment.config), end="")
    else:
        print(f"{config}: ok")


@command
def schema() -> None:
    """Print the JSON Schema of the config, for editors: `fnet schema > fnet.schema.json`."""
    from fnet.config.explain import json_schema

    print(json.dumps(json_schema(), indent=2))


@command
def explain(
    key: Annotated[
        str,
        typer.Argument(
            metavar="[KEY]",
            show_default=False,
            help="A key (train.epochs), or a layer, optimizer, schedule, data set or loss.",
        ),
    ] = "",
) -> None:
    """Explain what can be set: type, default, meaning."""
    from fnet.config.explain import explain
    from fnet.report.explanation import print_explanation

    console = _console()
    for explanation in explain(key):
        print_explanation(console, explanation)


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
    """Look at the data of CONFIG: shapes, classes, ranges before and after normalisation, and a picture of samples."""
    from fnet.config.load import load
    from fnet.data import catalog
    from fnet.data.inspect import inspect
    from fnet.report.data import tables
    from fnet.report.samples import save
    from fnet.train.folder import to_json

    experiment = load(config, overrides or ())
    settings, spec = experiment.config.data, experiment.spec
    arrays = catalog.read(settings.source, settings.name, settings.own(), experiment.config.seed)
    parts = settings.parts(spec.splits)
    found = inspect(arrays, spec, parts, settings.normalize or "none", seed=experiment.config.seed)
    picture = png or f"{experiment.config.name}-data.png"
    if png is not None or not as_json:
        save(found, picture)
    if as_json:
        print(to_json(found.plain()))
        return
    console = _console()
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
    from fnet.train.folder import to_json

    embedded = catalog.embedded()
    prepared = {name: str(folder) for name, folder in tfds.prepared(data_dir).items()}
    entries = cache.entries()
    if as_json:
        named = {source: [spec.name for spec in specs] for source, specs in embedded.items()}
        kept = [{**entry.key, "path": str(entry.path), "bytes": entry.size, "made": entry.made} for entry in entries]
        print(to_json({"embedded": named, "prepared": prepared, "cache": str(cache.folder()), "decoded": kept}))
        return
    console = _console()
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
    from fnet.train.folder import to_json

    chosen = cache.entries() if name is None else cache.named(name)
    freed = cache.clear(None if name is None else chosen)
    if as_json:
        print(to_json({"removed": [str(entry.path) for entry in chosen], "bytes": freed}))
    else:
        print(f"removed {size(freed)} of decoded data from {cache.folder()}")


def main() -> None:
    """The entry point of the `fnet` command."""
    app()


if __name__ == "__main__":
    main()
