"""Training throughput of a small convolutional network: fnet's compiled loop compared with PyTorch in one run.

pip install '.[bench]'
python experiments/benchmarks/cnn.py
"""

import argparse

import numpy as np
import optax
import torch
from turns import TorchRunner, compare

import fnet

BATCH, BATCHES = 128, 10


def data(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return random images of MNIST's size and labels; the content does not affect the time."""
    rng = np.random.default_rng(seed)
    size = BATCH * BATCHES
    return rng.uniform(size=(size, 28, 28, 1)).astype(np.float32), rng.integers(0, 10, size).astype(np.int32)


def fnet_network() -> fnet.Layer:
    """Return the network conv 32 - conv 64 - max-pool - dense 128 - dense 10."""
    return fnet.serial(
        fnet.conv(32, 3, padding="valid"), fnet.relu(),
        fnet.conv(64, 3, padding="valid"), fnet.relu(),
        fnet.max_pool(2), fnet.flatten(),
        fnet.dense(128), fnet.relu(), fnet.dense(10),
    )  # fmt: skip


def torch_network() -> torch.nn.Module:
    """Return the same network in PyTorch, channels first."""
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 32, 3), torch.nn.ReLU(),
        torch.nn.Conv2d(32, 64, 3), torch.nn.ReLU(),
        torch.nn.MaxPool2d(2), torch.nn.Flatten(),
        torch.nn.Linear(64 * 12 * 12, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10),
    )  # fmt: skip


def main() -> None:
    """Print a row of the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    x, y = data()
    peer = TorchRunner(
        torch_network(),
        lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.9),
        x.transpose(0, 3, 1, 2),
        y,
        BATCH,
    )
    optimizer = optax.sgd(0.01, momentum=0.9)
    mine, theirs, ratio = compare(fnet_network(), optimizer, (x, y), peer, batch=BATCH, rounds=rounds)
    print(f"| fnet, images/s | PyTorch {torch.__version__}, images/s | ratio |\n|---|---|---|")
    print(f"| {mine:,.0f} | {theirs:,.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
