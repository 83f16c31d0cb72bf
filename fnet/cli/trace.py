"""`fnet trace`."""

from typing import Annotated, Any

import typer

from fnet.cli.command import Json, command, start_jax, terminal


def _refuse_options(argument: Any) -> Any:
    """Refuse a misspelled option, which is parsed as an argument because an expression may begin with a minus."""
    for text in [argument] if isinstance(argument, str) else argument or []:
        if text.startswith("--"):
            raise typer.BadParameter(
                f"no such option: {text}; an expression may begin with one minus sign, but not two"
            )
    return argument


@command
def trace(
    expression: Annotated[
        str,
        typer.Argument(
            metavar="EXPRESSION", help='Expression: "(x + y) * z".', show_default=False, callback=_refuse_options
        ),
    ],
    values: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME=VALUE",
            help="Values of its variables: x=2, x=-2.5e-3, x=[1,2,3].",
            show_default=False,
            callback=_refuse_options,
        ),
    ] = None,
    steps: Annotated[bool, typer.Option("--steps", help="Show the backward pass one message at a time.")] = False,
    order: Annotated[int, typer.Option(min=1, max=2, help="2 also shows the second derivatives.")] = 1,
    svg: Annotated[
        str | None, typer.Option(metavar="FILE", help="Also draw the graph as an SVG image.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> int:
    """Trace EXPRESSION forward and backward, and compare with JAX. Exit status 1 if a gradient is wrong."""
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
