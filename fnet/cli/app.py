"""The command line: parse, call, print."""

import functools
import json
import os
import signal
from typing import Annotated, Any, Literal

import typer

from fnet.cli import command as commands
from fnet.cli.command import ConfigFile, Json, Overrides, RunFolder, start_jax, terminal
from fnet.cli.data import data

app = typer.Typer(
    help="Functional neural networks on JAX, with every gradient checked against one written by hand.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data, name="data")
command = functools.partial(commands.command, group=app)

Precision = Literal["float64", "float32"]


@command
def train(config: ConfigFile, overrides: Overrides = None) -> int:
    """Train the network of CONFIG, and write the run's folder."""
    from fnet.config.load import dump, load
    from fnet.report.progress import TrainingProgress
    from fnet.report.tables import scores_table
    from fnet.runs.run import run

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    start_jax()
    console = terminal()
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
    if spec.is_language:
        console.print(f'go on with a text: fnet predict {outcome.folder} "…"', soft_wrap=True)
    return 130 if fitted.stopped == "interrupted" else 0


@command
def evaluate(run: RunFolder, as_json: Json = False) -> None:
    """Score the network of RUN on every part of its data, and show which classes it confuses."""
    from fnet.config.load import load
    from fnet.report.tables import confusion_table, scores_table
    from fnet.runs.files import to_json
    from fnet.runs.model_file import load_model
    from fnet.runs.run import evaluate

    start_jax()
    model = load_model(run)
    experiment = load(os.path.join(run, "config.yaml"))
    result = evaluate(experiment, model.params, model.state)
    if as_json:
        print(to_json({"examples": result.sizes, "scores": result.scores}))
        return
    console = terminal()
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
    from fnet.report.tables import predictions_table
    from fnet.runs.files import to_json
    from fnet.runs.predict import continuation, predict, trained

    start_jax()
    network = trained(run)
    if network.spec.is_language:
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
        terminal().print(predictions_table(found))


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
    from fnet.report.gradients import page, print_check
    from fnet.runs.files import save, to_json
    from fnet.runs.gradcheck import check_gradients
    from fnet.runs.model_file import load_model

    start_jax()
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
        save(html, page(experiment.config.name, checks), "page")
    ok = all(check.report.ok for check in checks)
    if as_json:
        found = [{"when": when, "examples": examples, **report.plain()} for when, examples, report in checks]
        print(to_json({"ok": ok, "checks": found}))
    else:
        loss = experiment.config.loss and experiment.config.loss.name
        for when, examples, report in checks:
            print_check(terminal(), f"{experiment.config.name}: {loss} of {examples} examples, {when}", report)
    return 0 if ok else 1


def _no_option(given: Any) -> Any:
    """Arguments may begin with a minus, but not with two: that is an option misspelled."""
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
    from fnet.report.trace import as_data, print_trace
    from fnet.runs.files import save, to_json
    from fnet.trace.compare import trace

    start_jax()
    result = trace(expression, values or (), order=order)
    if svg is not None:
        from fnet.report.graph_svg import draw

        save(svg, draw(result), "drawing")
    if as_json:
        print(to_json(as_data(result)))
    else:
        print_trace(terminal(), result, steps=steps)
    return 0 if result.ok else 1


@command
def summary(config: ConfigFile, overrides: Overrides = None, as_json: Json = False) -> None:
    """Show the layers of CONFIG's network: output shapes, parameters, floating-point operations."""
    from fnet.config.load import load
    from fnet.report.summary import summarize
    from fnet.report.tables import summary_table
    from fnet.runs.files import to_json

    experiment = load(config, overrides or ())
    rows = summarize(experiment.net, experiment.spec.shape)
    if as_json:
        print(to_json([row._asdict() for row in rows]))
    else:
        terminal().print(summary_table(rows, experiment.spec.shape))


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

    console = terminal()
    for explanation in explain(key):
        print_explanation(console, explanation)


def main() -> None:
    """The entry point of the `fnet` command."""
    app()


if __name__ == "__main__":
    main()
