"""Train a network built neuron by neuron on XOR, with the gradients of the computational graph and with JAX.

Neurons 1 and 2 are the inputs, 3 and 4 are hidden, 5 is the output: in_j = sum_i w_ij a_i + b_j, a_j = logistic(in_j),
and the loss is the mean of (y - a_5)^2 over the four examples. Both sides take the same steps of gradient descent from
the same weights, in float64.
"""

import argparse
import json
import time

import jax
import jax.numpy as jnp
import numpy as np

import fnet
from fnet.trace.functions import sigmoid
from fnet.trace.graph import Node, gradient, variable

EXAMPLES = [((0.0, 0.0), 0.0), ((0.0, 1.0), 1.0), ((1.0, 0.0), 1.0), ((1.0, 1.0), 0.0)]

WIRES = {3: (1, 2), 4: (1, 2), 5: (3, 4)}
"""The neurons that each neuron receives inputs from."""

Weights = dict[str, float]


def initial(seed: int) -> Weights:
    """Return initial weights, uniform in [-1, 1], by name: w13, b3 and so on."""
    names = [*(f"w{i}{j}" for j, before in WIRES.items() for i in before), *(f"b{j}" for j in WIRES)]
    return dict(zip(names, np.random.default_rng(seed).uniform(-1, 1, len(names)).tolist(), strict=True))


def output(weights: dict[str, Node], inputs: tuple[float, float]) -> Node:
    """Return a_5, computed neuron by neuron."""
    a: dict[int, Node | float] = {1: inputs[0], 2: inputs[1]}
    for j, before in WIRES.items():
        total = weights[f"b{j}"]
        for i in before:
            total = total + weights[f"w{i}{j}"] * a[i]
        a[j] = sigmoid(total)
    return a[5]  # pyright: ignore[reportReturnType]


def train_graph(weights: Weights, steps: int, rate: float) -> Weights:
    """Train with the gradients of the graph; all examples use the same weights, so their messages add up."""
    for _ in range(steps):
        nodes = {name: variable(weight) for name, weight in weights.items()}
        loss = sum((y - output(nodes, x)) ** 2 for x, y in EXAMPLES) / len(EXAMPLES)
        slopes = gradient(loss, *nodes.values())
        weights = {name: w - rate * float(slope) for (name, w), slope in zip(weights.items(), slopes, strict=True)}
    return weights


def train_jax(weights: Weights, steps: int, rate: float) -> tuple[Weights, np.ndarray]:
    """Train the same network with fnet's layers and jax.grad, in one compiled scan; also return its outputs."""
    net = fnet.serial(fnet.dense(2), fnet.sigmoid(), fnet.dense(1), fnet.sigmoid())
    w = weights
    with jax.enable_x64(True):
        params = {
            "dense_1": {
                "w": jnp.array([[w["w13"], w["w14"]], [w["w23"], w["w24"]]]),
                "b": jnp.array([w["b3"], w["b4"]]),
            },
            "dense_2": {"w": jnp.array([[w["w35"]], [w["w45"]]]), "b": jnp.array([w["b5"]])},
        }
        x, y = jnp.array([x for x, _ in EXAMPLES]), jnp.array([[y] for _, y in EXAMPLES])

        def loss(params):
            return fnet.losses.mse(net.apply(params, {}, x, train=True)[0], y).mean()

        def step(params, _):
            return jax.tree.map(lambda p, g: p - rate * g, params, jax.grad(loss)(params)), None

        params = jax.jit(lambda params: jax.lax.scan(step, params, length=steps)[0])(params)
        outputs = np.asarray(net.apply(params, {}, x, train=False)[0][:, 0])
        (first, second), (b3, b4) = np.asarray(params["dense_1"]["w"]).tolist(), params["dense_1"]["b"].tolist()
        ((w35,), (w45,)), (b5,) = params["dense_2"]["w"].tolist(), params["dense_2"]["b"].tolist()
    named = {"w13": first[0], "w23": second[0], "w14": first[1], "w24": second[1], "w35": w35, "w45": w45}
    return named | {"b3": b3, "b4": b4, "b5": b5}, outputs


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--steps", type=int, default=2000, help="the number of training steps")
    options.add_argument("--rate", type=float, default=5.0, help="the learning rate")
    options.add_argument("--seed", type=int, default=0, help="the seed of the initial weights")
    options.add_argument("--json", metavar="FILE", help="write the result to FILE")
    arguments = options.parse_args()
    start = initial(arguments.seed)
    began = time.perf_counter()
    by_graph = train_graph(start, arguments.steps, arguments.rate)
    seconds = time.perf_counter() - began
    by_jax, outputs = train_jax(start, arguments.steps, arguments.rate)
    print(f"{'weight':>8} {'start':>12} {'graph':>22} {'JAX':>22} {'difference':>11}")
    for name in start:
        difference = abs(by_graph[name] - by_jax[name])
        print(f"{name:>8} {start[name]:12.6f} {by_graph[name]:22.15f} {by_jax[name]:22.15f} {difference:11.1e}")
    largest = max(abs(by_graph[name] - by_jax[name]) for name in start)
    nodes = {name: variable(weight) for name, weight in by_graph.items()}
    graph_outputs = [float(output(nodes, x)) for x, _ in EXAMPLES]
    for (x, y), by_graph_output, by_jax_output in zip(EXAMPLES, graph_outputs, outputs, strict=True):
        print(f"{x} -> {by_graph_output:.6f} by the graph, {by_jax_output:.6f} by JAX; target {y:.0f}")
    print(
        f"largest difference of a weight after {arguments.steps} steps: {largest:.1e} ({seconds:.1f} s for the graph)"
    )
    if arguments.json:
        result = {
            "steps": arguments.steps,
            "rate": arguments.rate,
            "seed": arguments.seed,
            "largest_difference": largest,
        }
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(result | {"graph": by_graph, "jax": by_jax, "outputs": graph_outputs}, file, indent=2)


if __name__ == "__main__":
    main()
