"""`fnet evaluate`."""

from fnet.cli.command import Json, RunFolder, Trust, command, start_jax, terminal


@command
def evaluate(run: RunFolder, trust: Trust = None, as_json: Json = False) -> None:
    """Score the network of RUN on each part of its data, and show which classes it confuses."""
    from fnet.config.run import load_run
    from fnet.report.tables import comparison_text, confusion_table, scores_table
    from fnet.runs.evaluation import evaluate
    from fnet.runs.files import to_json

    start_jax()
    experiment, model = load_run(run, trust=trust or ())
    result = evaluate(experiment, model.params, model.state, model.normalizer, model.target_normalizer)
    if as_json:
        comparison = {} if result.comparison is None else {"comparison": result.comparison.plain()}
        print(to_json({"examples": result.sizes, "scores": result.scores, **comparison}))
        return
    console = terminal()
    console.print(scores_table(result.scores, result.sizes, experiment.loss.metrics))
    if result.comparison is not None:
        console.print(comparison_text(result.comparison), markup=False, highlight=False, soft_wrap=True)
    targets = experiment.spec.targets
    if targets.kind == "classes":
        names = targets.names or tuple(map(str, range(targets.number)))
        console.print(f"on the {result.part} part:")
        console.print(confusion_table(result.predictions, result.labels, names))
