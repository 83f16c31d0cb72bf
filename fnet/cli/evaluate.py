"""`fnet evaluate`."""

import warnings
from typing import Annotated

import typer

from fnet.cli.command import Json, RunFolder, Trust, command, start_jax, terminal


@command
def evaluate(
    run: RunFolder,
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="[FILE]",
            show_default=False,
            help="Other data with targets: a table, an .npz archive, a folder of images; by default the data of RUN.",
        ),
    ] = None,
    trust: Trust = None,
    as_json: Json = False,
) -> None:
    """Score the network of RUN on each part of its data, or on FILE, and show which classes or labels it confuses."""
    from fnet.config.run import load_run
    from fnet.data.source import DataWarning
    from fnet.report.tables import comparison_text, confusion_table, labels_table, scores_table
    from fnet.runs.evaluation import change_since_training, evaluate
    from fnet.runs.files import to_json

    start_jax()
    experiment, model = load_run(run, file=file, trust=trust or ())
    result = evaluate(experiment, model.params, model.state, model.normalizer, model.target_normalizer)
    change = None
    if file is not None:
        result = result.of_file()
    elif model.spec is not None:
        sizes = {"size": experiment.spec.size, "trained_size": model.spec.size}
        change = change_since_training(run, result.fingerprint, **sizes)
    if change is not None:
        warnings.warn(change, DataWarning, stacklevel=2)
    if as_json:
        comparison = {} if result.comparison is None else {"comparison": result.comparison.plain()}
        about = {"examples": result.sizes, "scores": result.scores, "changed": change is not None}
        print(to_json(about | comparison))
        return
    console = terminal()
    console.print(scores_table(result.scores, result.sizes, experiment.loss.metrics))
    if result.comparison is not None:
        console.print(comparison_text(result.comparison), markup=False, highlight=False, soft_wrap=True)
    targets = experiment.spec.targets
    if targets.kind != "values":
        names = targets.names or tuple(map(str, range(targets.number)))
        console.print(f"on the {result.part} part:" if file is None else "on the file:")
        table = confusion_table if targets.kind == "classes" else labels_table
        console.print(table(result.predictions, result.labels, names))
