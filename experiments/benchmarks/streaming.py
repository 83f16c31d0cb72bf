"""Training throughput on MNIST read as a stream, against the same in memory, taking turns in one run.

python experiments/benchmarks/streaming.py FOLDER

FOLDER holds MNIST as its IDX files, or as TensorFlow Datasets prepared it; then the records themselves are streamed as
well, besides their decoded copy.
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
    """Whether a folder contains IDX files, not a dataset of TensorFlow Datasets."""
    return any(folder.glob("*-ubyte*"))


def experiment(folder: Path, *overrides: str) -> Experiment:
    """MNIST as it lies in a folder."""
    if is_idx(folder):
        return load(str(CONFIGS / "mnist-idx.yaml"), [f"data.path={folder}", "data.split={train: train}", *overrides])
    return load(str(CONFIGS / "mnist-mlp.yaml"), [f"data.data_dir={folder}", "data.split={train: train}", *overrides])


def anonymous() -> float:
    """Megabytes of memory of this process that are no mapped files."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")) / 1000


def turn(data, start: TrainState | None, number: int) -> tuple[TrainState, float, list[float]]:
    """Goes on for two epochs; the seconds of the second, which finds examples read ahead, and the memory in it."""
    seconds, memory = [], []

    def note(event) -> None:
        memory.append(anonymous())
        if isinstance(event, Epoch):
            seconds.append(event.seconds)
            if len(seconds) == 1:
                memory.clear()

    net = fnet.serial(fnet.flatten(), fnet.dense(256), fnet.relu(), fnet.dense(128), fnet.relu(), fnet.dense(10))
    fitted = fnet.train.fit(
        net, "cross_entropy", optax.sgd(0.1, momentum=0.9), data, batch_size=BATCH, epochs=2 * number, start=start,
        on_event=note,
    )  # fmt: skip
    return fitted.train_state, seconds[1], memory


def main() -> None:
    """After a first turn of each to warm up, medians of the others, and the memory within an epoch of the last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        streamed = experiment(given.folder, "data.stream=true")
        with mock.patch("fnet.data.tfds.free_space", return_value=0):  # for a decoded copy
            first = load_data(streamed)[0].train
        kinds = {"in memory": load_data(experiment(given.folder))[0].train}
        if not is_idx(given.folder):
            kinds["stream of records"] = first
        kinds["stream of decoded files"] = load_data(streamed)[0].train
        states: dict[str, TrainState | None] = dict.fromkeys(kinds)
        seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
        memory: dict[str, list[float]] = {}
        for number in range(1, given.rounds + 2):
            for kind, data in kinds.items():
                states[kind], taken, memory[kind] = turn(
                    tuple(data) if kind == "in memory" else data, states[kind], number
                )
                seconds[kind].append(taken)
        size = kinds["in memory"].size
    leaves = [jax.tree.leaves(state.params) for state in states.values() if state is not None]
    same = all(np.array_equal(a, b) for other in leaves[1:] for a, b in zip(leaves[0], other, strict=True))
    print("| data | images/s | of in memory | memory at the beginning, the middle and the end of the last epoch, MB |")
    print("|---|---|---|---|")
    for kind, taken in seconds.items():
        ratio = statistics.median(seconds["in memory"][1:]) / statistics.median(taken[1:])
        within = [memory[kind][place] for place in (0, len(memory[kind]) // 2, -1)]
        print(
            f"| {kind} | {size / statistics.median(taken[1:]):,.0f} | {ratio:.2f} | "
            f"{' '.join(f'{value:.0f}' for value in within)} |"
        )
    print(f"the parameters are {'the same to the bit' if same else 'DIFFERENT'}")


if __name__ == "__main__":
    main()
