"""`fnet predict`."""

import itertools
from typing import TYPE_CHECKING, Annotated

import typer

from fnet.cli.command import Json, RunFolder, Trust, command, start_jax, terminal
from fnet.core.wording import printable

if TYPE_CHECKING:
    from fnet.runs.predict import Trained


@command
def predict(
    run: RunFolder,
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            show_default=False,
            help="Examples (.csv, .npz, .npy, an image, a folder of images, IDX), or the beginning of a text.",
        ),
    ],
    length: Annotated[int, typer.Option(min=1, help="Text: number of characters (or bytes) to generate.")] = 200,
    temperature: Annotated[float, typer.Option(min=0, help="Text: sampling temperature; 0 is greedy.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Text: seed of the sampling.")] = 0,
    trust: Trust = None,
    as_json: Json = False,
) -> None:
    """Predict for the examples in INPUT, or continue a text, with the network of RUN."""
    from fnet.runs.predict import load_trained

    start_jax()
    network = load_trained(run, trust=trust or ())
    if network.spec.is_language:
        _continue_text(network, source, length, temperature, seed, as_json)
    else:
        _predict_examples(network, source, as_json)


def _continue_text(network: "Trained", prompt: str, length: int, temperature: float, seed: int, as_json: bool) -> None:
    """Print a prompt and, as they are sampled, the characters that follow it."""
    from fnet.runs.files import to_json
    from fnet.runs.predict import continue_text

    pieces = continue_text(network, prompt, length=length, temperature=temperature, seed=seed)
    if as_json:
        print(to_json({"prompt": prompt, "continuation": "".join(pieces)}))
        return
    for piece in itertools.chain([prompt], pieces):
        # A tabulator is as harmless as a space, and frequent in source code.
        print("\t".join(printable(part, multiline=True) for part in piece.split("\t")), end="", flush=True)
    print()


def _predict_examples(network: "Trained", path: str, as_json: bool) -> None:
    """Print a prediction per example."""
    from fnet.report.tables import predictions_table
    from fnet.runs.files import to_json
    from fnet.runs.predict import predict

    predictions = predict(network, path)
    if as_json:
        print(to_json({"predictions": [prediction._asdict() for prediction in predictions]}))
    else:
        terminal().print(predictions_table(predictions))
