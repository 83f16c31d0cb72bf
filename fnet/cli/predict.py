"""`fnet predict`."""

import itertools
from typing import TYPE_CHECKING, Annotated

import typer

from fnet.cli.command import Json, RunFolder, Trust, command, start_jax, terminal
from fnet.core.wording import printable

if TYPE_CHECKING:
    from fnet.runs.predict import Trained

LENGTH, TEMPERATURE, SEED = 200, 1.0, 0


@command
def predict(
    run: RunFolder,
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            show_default=False,
            help="Examples (a table, .npz, .npy, .txt, an image, a folder of images, IDX), a text to classify, or the "
            "beginning of a text to continue.",
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help="Write the predictions for all examples to a .csv, .jsonl or .parquet file; replaces the file.",
        ),
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(help="Text: number of characters (or bytes) to generate.", show_default=str(LENGTH)),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(help="Text: sampling temperature; 0 is greedy.", show_default=str(TEMPERATURE)),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Text: seed of the sampling.", show_default=str(SEED))] = None,
    trust: Trust = None,
    as_json: Json = False,
) -> None:
    """Predict for the examples in INPUT, or continue a text, with the network of RUN."""
    from fnet.runs.predict import RequestError, load_trained

    start_jax()
    network = load_trained(run, trust=trust or ())
    generation = {"length": length, "temperature": temperature, "seed": seed}
    unused = {"output": output} if network.spec.is_language else generation
    for name, value in unused.items():
        if value is not None:
            raise RequestError(
                f"--{name} applies to {'examples' if name == 'output' else 'language models'}, but the network of "
                f"{run} predicts {network.spec.targets}; remove the option"
            )
    if network.spec.is_language:
        _continue_text(
            network,
            source,
            LENGTH if length is None else length,
            TEMPERATURE if temperature is None else temperature,
            seed or SEED,
            as_json,
        )
    elif output is not None:
        _write_predictions(network, source, output, as_json)
    else:
        _print_predictions(network, source, as_json)


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


def _print_predictions(network: "Trained", source: str, as_json: bool) -> None:
    """Print the first predictions as a table, or all as JSON."""
    from fnet.report.tables import MAX_PREDICTIONS, predictions_table
    from fnet.runs.files import to_json
    from fnet.runs.predict import predict

    size, _, portions = predict(network, source)
    rows = itertools.chain.from_iterable(portions)
    if as_json:
        print(to_json({"predictions": [prediction._asdict() for prediction in rows]}))
    else:
        terminal().print(predictions_table(list(itertools.islice(rows, MAX_PREDICTIONS)), size))


def _write_predictions(network: "Trained", source: str, output: str, as_json: bool) -> None:
    """Write all predictions to a file, with a progress bar on a terminal."""
    from fnet.report.progress import counting
    from fnet.runs.files import to_json
    from fnet.runs.predict import predict
    from fnet.runs.prediction_file import check_output, save_predictions

    check_output(output, source)
    predictions = predict(network, source)
    with counting("predicting", predictions.size) as advance:
        save_predictions(output, predictions, source, advance)
    if as_json:
        print(to_json({"output": output, "examples": predictions.size}))
    else:
        print(printable(f"{predictions.size:,} predictions are in {output}"))
