"""fnet's compiled loop and PyTorch's usual eager loop, over the same data, taking turns epoch by epoch."""

import statistics
import time
from collections.abc import Callable, Iterable

import numpy as np
import optax
import torch

import fnet
from fnet.train.loop import Segment


class TorchRunner:
    """An epoch of PyTorch's usual eager loop over tensors that are in memory.

    Args:
        net: from inputs to logits, the classes on the last axis.
        optimizer: from the parameters, PyTorch's optimizer.
        x: the inputs, as the network takes them.
        y: labels.
        batch: examples a step.
    """

    def __init__(
        self,
        net: torch.nn.Module,
        optimizer: Callable[[Iterable[torch.nn.Parameter]], torch.optim.Optimizer],
        x: np.ndarray,
        y: np.ndarray,
        batch: int,
    ):
        whole = x.dtype.kind == "i"
        self.x, self.y = (
            torch.from_numpy(x.astype(np.int64) if whole else x.copy()),
            torch.from_numpy(y.astype(np.int64)),
        )
        self.net, self.batch = net, batch
        self.optimizer = optimizer(net.parameters())

    def epoch(self) -> float:
        """Seconds."""
        began = time.perf_counter()
        for chosen in torch.randperm(len(self.x)).split(self.batch):
            self.optimizer.zero_grad()
            logits = self.net(self.x[chosen])
            torch.nn.functional.cross_entropy(logits.flatten(0, -2), self.y[chosen].flatten()).backward()
            self.optimizer.step()
        return time.perf_counter() - began


def compared(
    net: fnet.Layer,
    optimizer: optax.GradientTransformation,
    data: tuple[np.ndarray, np.ndarray],
    peer: TorchRunner,
    *,
    batch: int,
    rounds: int,
) -> tuple[float, float, float]:
    """Examples a second of fnet and of the peer, medians, and the median ratio of neighboring epochs.

    A first epoch of both warms up; the seconds of an epoch of `fnet.train.fit` are those that its steps took.
    """
    pairs: list[tuple[float, float]] = []
    taken = 0.0

    def note(event) -> None:
        nonlocal taken
        if isinstance(event, Segment):
            taken += event.seconds
        else:
            pairs.append((taken, peer.epoch()))
            taken = 0.0

    fnet.train.fit(net, "cross_entropy", optimizer, data, epochs=rounds + 1, batch_size=batch, on_event=note)
    mine, theirs = (len(data[0]) / statistics.median(column) for column in zip(*pairs[1:], strict=True))
    return mine, theirs, statistics.median(b / a for a, b in pairs[1:])
