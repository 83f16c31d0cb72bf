"""Training throughput of an LSTM and a character-level GPT: fnet's compiled loop compared with PyTorch in one run.

pip install '.[bench]'
python experiments/benchmarks/sequences.py
"""

import argparse

import numpy as np
import optax
import torch
from turns import TorchRunner, compare

import fnet

CHARACTERS, WIDTH, BLOCK = 65, 128, 64
LAYERS, HEADS = 4, 4


def lstm() -> fnet.Layer:
    """Return an embedding, an LSTM and a read-out, all of width 128."""
    return fnet.serial(fnet.embedding(CHARACTERS, WIDTH), fnet.lstm(WIDTH), fnet.dense(CHARACTERS))


def gpt() -> fnet.Layer:
    """Return a GPT of four pre-norm transformer blocks of width 128 with four heads."""
    blocks = [fnet.transformer(WIDTH, HEADS, causal=True) for _ in range(LAYERS)]
    read_out = [fnet.layer_norm(), fnet.dense(CHARACTERS)]
    return fnet.serial(fnet.embedding(CHARACTERS, WIDTH), fnet.positions(BLOCK), *blocks, *read_out)


class TorchLstm(torch.nn.Module):
    """The same LSTM network in PyTorch, whose LSTM is a single call of compiled code."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(CHARACTERS, WIDTH)
        self.lstm = torch.nn.LSTM(WIDTH, WIDTH, batch_first=True)
        self.read_out = torch.nn.Linear(WIDTH, CHARACTERS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits (batch, time, characters)."""
        return self.read_out(self.lstm(self.embedding(x))[0])


class TorchBlock(torch.nn.Module):
    """A pre-norm transformer block with PyTorch's fused attention."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = torch.nn.LayerNorm(WIDTH), torch.nn.LayerNorm(WIDTH)
        self.projections = torch.nn.Linear(WIDTH, 3 * WIDTH)
        self.out = torch.nn.Linear(WIDTH, WIDTH)
        self.hidden, self.back = torch.nn.Linear(WIDTH, 4 * WIDTH), torch.nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output of the block, (batch, time, width)."""
        q, k, v = (
            part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in self.projections(self.norm_1(x)).chunk(3, -1)
        )
        a = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(a.transpose(1, 2).flatten(-2))
        return x + self.back(torch.nn.functional.gelu(self.hidden(self.norm_2(x)), approximate="tanh"))


class TorchGpt(torch.nn.Module):
    """The same GPT in PyTorch."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(CHARACTERS, WIDTH)
        self.positions = torch.nn.Embedding(BLOCK, WIDTH)
        self.blocks = torch.nn.Sequential(*(TorchBlock() for _ in range(LAYERS)))
        self.norm, self.read_out = torch.nn.LayerNorm(WIDTH), torch.nn.Linear(WIDTH, CHARACTERS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits (batch, time, characters)."""
        h = self.embedding(x) + self.positions.weight[: x.shape[1]]
        return self.read_out(self.norm(self.blocks(h)))


NETWORKS = {
    "LSTM, batch size 64": (lstm, TorchLstm, 64, 20),
    "GPT, 4 layers, batch size 12": (gpt, TorchGpt, 12, 30),
}
"""For each network: its fnet and PyTorch versions, the examples per step, and the steps per epoch."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    rng = np.random.default_rng(0)
    print(
        f"| network | fnet, ms per step | PyTorch {torch.__version__}, ms per step | throughput ratio |\n"
        "|---|---|---|---|"
    )
    for name, (net, torch_net, batch, steps) in NETWORKS.items():
        x, y = (rng.integers(0, CHARACTERS, (batch * steps, BLOCK), np.int32) for _ in range(2))
        peer = TorchRunner(torch_net(), lambda parameters: torch.optim.Adam(parameters, lr=1e-3), x, y, batch)
        mine, theirs, ratio = compare(net(), optax.adam(1e-3), (x, y), peer, batch=batch, rounds=rounds)
        print(f"| {name} | {1e3 * batch / mine:.1f} | {1e3 * batch / theirs:.1f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
