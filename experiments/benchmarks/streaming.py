"""Training throughput on MNIST read as a stream, compared with memory in alternating turns of one run.

python experiments/benchmarks/streaming.py FOLDER

FOLDER contains MNIST as IDX files, or as prepared by TensorFlow Datasets; in the latter case the records are streamed
too, in addition to their decoded copy.
"""

import argparse
import os
import statistics
import tempfile
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import optax

import fnet
from fnet.config.load import load
from fnet.runs.data import load_data
from fnet.runs.experiment import Experiment
from fnet.train.loop import Epoch
from fnet.train.state import TrainState

BATCH, ROUNDS = 128, 7
CONFIGS = Path(__file__).parents[2] / "configs"


def is_idx(folder: Path) -> bool:
    """Return whether a folder contains IDX files rather than a dataset of TensorFlow Datasets."""
    return any(folder.glob("*-ubyte*"))


def experiment(folder: Path, *overrides: str) -> Experiment:
    """Return the experiment for MNIST in a folder, in either format."""
    if is_idx(folder):
        return load(str(CONFIGS / "mnist-idx.yaml"), [f"data.path={folder}", "data.split={train: train}", *overrides])
    return load(str(CONFIGS / "mnist-mlp.yaml"), [f"data.data_dir={folder}", "data.split={train: train}", *overrides])


def anonymous_memory() -> float:
    """Return the resident memory of this process in megabytes, without memory-mapped files."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")) / 1000


def turn(data, start: TrainState | None, number: int) -> tuple[TrainState, float, list[float]]:
    """Continue for two epochs; return the state, and the seconds and memory use of the second."""
    seconds, memory = [], []

    def record(event) -> None:
        memory.append(anonymous_memory())
        if isinstance(event, Epoch):
            seconds.append(event.seconds)
            if len(seconds) == 1:
                memory.clear()

    net = fnet.serial(fnet.flatten(), fnet.dense(256), fnet.relu(), fnet.dense(128), fnet.relu(), fnet.dense(10))
    fitted = fnet.train.fit(
        net, "cross_entropy", optax.sgd(0.1, momentum=0.9), data, batch_size=BATCH, epochs=2 * number, start=start,
        on_event=record,
    )  # fmt: skip
    return fitted.train_state, seconds[1], memory


def main() -> None:
    """Print the medians of all turns but the first, which warms up, and the memory during the last epoch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        streamed = experiment(arguments.folder, "data.stream=true")
        with mock.patch("fnet.data.tfds.free_space", return_value=0):  # as if the disk were too full for a decoded copy
            first = load_data(streamed)[0].train
        kinds = {"in memory": load_data(experiment(arguments.folder))[0].train}
        if not is_idx(arguments.folder):
            kinds["stream of records"] = first
        kinds["stream of decoded files"] = load_data(streamed)[0].train
        states: dict[str, TrainState | None] = dict.fromkeys(kinds)
        seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
        memory: dict[str, list[float]] = {}
        for number in range(1, arguments.rounds + 2):
            for kind, data in kinds.items():
                states[kind], elapsed, memory[kind] = turn(
                    tuple(data) if kind == "in memory" else data, states[kind], number
                )
                seconds[kind].append(elapsed)
        size = kinds["in memory"].size
    leaves = [jax.tree.leaves(state.params) for state in states.values() if state is not None]
    same = all(np.array_equal(a, b) for other in leaves[1:] for a, b in zip(leaves[0], other, strict=True))
    print("| data | images/s | relative to memory | memory at the beginning, middle and end of the last epoch, MB |")
    print("|---|---|---|---|")
    for kind, elapsed in seconds.items():
        ratio = statistics.median(seconds["in memory"][1:]) / statistics.median(elapsed[1:])
        samples = [memory[kind][position] for position in (0, len(memory[kind]) // 2, -1)]
        print(
            f"| {kind} | {size / statistics.median(elapsed[1:]):,.0f} | {ratio:.2f} | "
            f"{' '.join(f'{value:.0f}' for value in samples)} |"
        )
    print(f"the parameters are {'bitwise equal' if same else 'DIFFERENT'}")


if __name__ == "__main__":
    main()
