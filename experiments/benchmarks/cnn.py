"""Training throughput of a small convolutional network: fnet's compiled loop against PyTorch, in one run.

pip install '.[bench]'
python experiments/benchmarks/cnn.py
"""

import argparse
import statistics
import time

import numpy as np
import optax
import torch

import fnet
from fnet.train.loop import Segment

BATCH, BATCHES, ROUNDS = 128, 10, 5


def data(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images of MNIST's size; their content does not matter to the time."""
    rng = np.random.default_rng(seed)
    size = BATCH * BATCHES
    return rng.uniform(size=(size, 28, 28, 1)).astype(np.float32), rng.integers(0, 10, size).astype(np.int32)


def fnet_network() -> fnet.Layer:
    """conv 32 - conv 64 - max-pool - dense 128 - dense 10."""
    return fnet.serial(
        fnet.conv(32, 3, padding="valid"), fnet.relu(),
        fnet.conv(64, 3, padding="valid"), fnet.relu(),
        fnet.max_pool(2), fnet.flatten(),
        fnet.dense(128), fnet.relu(), fnet.dense(10),
    )  # fmt: skip


def torch_network() -> torch.nn.Module:
    """The same, channels first, as PyTorch has it."""
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 32, 3), torch.nn.ReLU(),
        torch.nn.Conv2d(32, 64, 3), torch.nn.ReLU(),
        torch.nn.MaxPool2d(2), torch.nn.Flatten(),
        torch.nn.Linear(64 * 12 * 12, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10),
    )  # fmt: skip


class TorchRunner:
    """An epoch of PyTorch's usual eager loop over tensors that are in memory."""

    def __init__(self, x: np.ndarray, y: np.ndarray):
        self.x = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
        self.y = torch.from_numpy(y.astype(np.int64))
        self.net = torch_network()
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.01, momentum=0.9)

    def epoch(self) -> float:
        """Seconds."""
        began = time.perf_counter()
        for batch in torch.randperm(len(self.x)).split(BATCH):
            self.optimizer.zero_grad()
            torch.nn.functional.cross_entropy(self.net(self.x[batch]), self.y[batch]).backward()
            self.optimizer.step()
        return time.perf_counter() - began


def fnet_epochs(x: np.ndarray, y: np.ndarray, epochs: int, on_epoch) -> None:
    """Trains with `fnet.train.fit`, and calls on_epoch with the seconds that the steps of each epoch took."""
    taken = 0.0

    def note(event) -> None:
        nonlocal taken
        if isinstance(event, Segment):
            taken += event.seconds
        else:
            on_epoch(taken)
            taken = 0.0

    optimizer = optax.sgd(0.01, momentum=0.9)
    fnet.train.fit(fnet_network(), "cross_entropy", optimizer, (x, y), epochs=epochs, batch_size=BATCH, on_event=note)


def main() -> None:
    """After a first epoch of both to warm up, they take turns epoch by epoch; prints medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    x, y = data()
    peer = TorchRunner(x, y)
    pairs: list[tuple[float, float]] = []
    fnet_epochs(x, y, rounds + 1, lambda seconds: pairs.append((seconds, peer.epoch())))
    mine, theirs = (BATCH * BATCHES / statistics.median(column) for column in zip(*pairs[1:], strict=True))
    ratio = statistics.median(b / a for a, b in pairs[1:])
    print(f"| fnet, images/s | PyTorch {torch.__version__}, images/s | ratio |\n|---|---|---|")
    print(f"| {mine:,.0f} | {theirs:,.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
