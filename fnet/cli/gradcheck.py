"""`fnet gradcheck`."""

import os
from typing import Annotated, Literal

import typer

from fnet.cli.command import Json, Overrides, Trust, command, start_jax, terminal


@command
def gradcheck(
    target: Annotated[
        str, typer.Argument(metavar="CONFIG|RUN", help="YAML file of an experiment, or folder of a run.")
    ],
    overrides: Overrides = None,
    leaf: Annotated[
        str | None, typer.Option(metavar="NAME", help="Check only this parameter: dense_2/w.", show_default=False)
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Entries per parameter to differentiate numerically; by default 20, fewer in a large network.",
            show_default=False,
        ),
    ] = None,
    examples: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of training examples; by default 64, or sequences with 128 steps in total.",
            show_default=False,
        ),
    ] = None,
    precision: Annotated[Literal["float64", "float32"], typer.Option(help="Precision of JAX's gradients.")] = "float64",
    after_steps: Annotated[int, typer.Option(min=0, help="Check again after this many training steps.")] = 0,
    html: Annotated[
        str | None, typer.Option(metavar="FILE", help="Also write the report as an HTML page.", show_default=False)
    ] = None,
    trust: Trust = None,
    as_json: Json = False,
) -> int:
    """Check every gradient three ways: by hand, by JAX and numerically. Exit status 1 if one is wrong."""
    from fnet.config.load import load
    from fnet.config.run import load_run
    from fnet.report.gradients import page, print_check
    from fnet.runs.files import save, to_json
    from fnet.runs.gradcheck import check_gradients

    start_jax()
    settings, trusted = overrides or (), trust or ()
    if os.path.isdir(target):
        experiment, model = load_run(target, settings, trust=trusted)
    else:
        experiment, model = load(target, settings, trust=trusted), None
    checks = check_gradients(
        experiment,
        trained=model and (model.params, model.state),
        after_steps=after_steps,
        examples=examples,
        leaf=leaf,
        samples=samples,
        precision=precision,
    )
    name, loss = experiment.name, experiment.loss_settings["name"]
    if html is not None:
        save(html, page(name, checks), "page")
    ok = all(check.report.ok for check in checks)
    if as_json:
        reports = [{"when": when, "examples": number, **report.plain()} for when, number, report in checks]
        print(to_json({"ok": ok, "checks": reports}))
    else:
        for when, number, report in checks:
            print_check(terminal(), f"{name}: {loss} of {number} examples, {when}", report)
    return 0 if ok else 1
