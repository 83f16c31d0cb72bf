"""fnet's compiled loop and PyTorch's usual eager loop on the same data, in alternating epochs."""

import statistics
import time
from collections.abc import Callable, Iterable

import numpy as np
import optax
import torch

import fnet
from fnet.train.loop import Segment


class TorchRunner:
    """PyTorch's usual eager training loop over tensors in memory.

    Args:
        net: network from inputs to logits, with the classes on the last axis.
        optimizer: function from the parameters to a PyTorch optimizer.
        x: inputs of the network.
        y: labels.
        batch: examples per step.
    """

    def __init__(
        self,
        net: torch.nn.Module,
        optimizer: Callable[[Iterable[torch.nn.Parameter]], torch.optim.Optimizer],
        x: np.ndarray,
        y: np.ndarray,
        batch: int,
    ):
        is_integer = x.dtype.kind == "i"
        self.x, self.y = (
            torch.from_numpy(x.astype(np.int64) if is_integer else x.copy()),
            torch.from_numpy(y.astype(np.int64)),
        )
        self.net, self.batch = net, batch
        self.optimizer = optimizer(net.parameters())

    def epoch(self) -> float:
        """Train for one epoch, and return its duration in seconds."""
        began = time.perf_counter()
        for indices in torch.randperm(len(self.x)).split(self.batch):
            self.optimizer.zero_grad()
            logits = self.net(self.x[indices])
            torch.nn.functional.cross_entropy(logits.flatten(0, -2), self.y[indices].flatten()).backward()
            self.optimizer.step()
        return time.perf_counter() - began


def compare(
    net: fnet.Layer,
    optimizer: optax.GradientTransformation,
    data: tuple[np.ndarray, np.ndarray],
    peer: TorchRunner,
    *,
    batch: int,
    rounds: int,
) -> tuple[float, float, float]:
    """Return the median examples per second of fnet and of the peer, and the median ratio of adjacent epochs.

    The first epoch of both warms up. The duration of an epoch of `fnet.train.fit` is that of its steps.
    """
    pairs: list[tuple[float, float]] = []
    seconds = 0.0

    def record(event) -> None:
        nonlocal seconds
        if isinstance(event, Segment):
            seconds += event.seconds
        else:
            pairs.append((seconds, peer.epoch()))
            seconds = 0.0

    fnet.train.fit(net, "cross_entropy", optimizer, data, epochs=rounds + 1, batch_size=batch, on_event=record)
    mine, theirs = (len(data[0]) / statistics.median(column) for column in zip(*pairs[1:], strict=True))
    return mine, theirs, statistics.median(b / a for a, b in pairs[1:])
