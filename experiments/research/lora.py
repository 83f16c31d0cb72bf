"""Low-rank adaptation: fine-tune a trained network by a small matrix product beside each of its frozen weights.

y = x w + bias + (alpha / r) x a b, with a of shape (in, r), b of shape (r, out) and b = 0 at first. Only a and b are
trained; afterwards w + (alpha / r) a b takes the place of w.

Source: Hu et al., "LoRA: low-rank adaptation of large language models" (2021).
"""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import optax
from annotated_types import Ge
from checking import check
from sklearn.datasets import load_digits

import fnet


@fnet.constructor
def lora(*layers: fnet.Layer, rank: Annotated[int, Ge(1)], alpha: float = 8.0, name: str | None = None) -> fnet.Parts:
    """A layer, and a product of rank r beside it: y = layer(x) + (alpha / r) x a b."""
    ((base, layer),) = children = fnet.name_children(layers)

    def init(key, in_shape):
        trees = fnet.ChildTrees()
        trees.init(base, layer, key, in_shape)
        a = jax.random.normal(jax.random.fold_in(key, 0), (in_shape[-1], rank)) / rank
        b = jnp.zeros((rank, layer.shape(in_shape)[-1]))
        return {**trees.params, "a": a, "b": b}, trees.state

    def apply(params, state, x, *, train, key=None, mask=None):
        trees = fnet.ChildTrees(params, state)
        y = trees.apply(base, layer, x, train=train, key=key, mask=mask)
        return y + alpha / rank * (x @ params["a"] @ params["b"]), trees.new_state

    return fnet.Parts(layer.shape, init, apply, children)


def adapted(net, rank):
    """Return the network with its dense layers frozen, and a product of this rank beside each of them."""

    def beside(path, layer):
        return lora(fnet.frozen(layer, name="base"), rank=rank) if layer.kind == "dense" else layer

    return fnet.map_layers(beside, net)


def with_base(params, trained):
    """Return parameters of the adapted network in which the frozen ones are those of the trained network."""
    return {name: {**p, "base": {"dense_1": trained[name]}} for name, p in params.items()}


def merged(net, params):
    """Return the parameters with which the original network computes the same as the adapted one."""

    def weights(settings, p):
        base = p["base"]["dense_1"]
        return {**base, "w": base["w"] + settings["alpha"] / settings["rank"] * p["a"] @ p["b"]}

    return {name: weights(net[name].settings, p) for name, p in params.items()}


pixels, labels = load_digits(return_X_y=True)
x, y = (pixels / 16).astype("float32"), labels.astype("int32")
net = fnet.serial(fnet.dense(32), fnet.relu(), fnet.dense(10))
trained = fnet.train.fit(net, "cross_entropy", optax.adam(1e-2), (x[y < 5], y[y < 5]), epochs=3).params

small = adapted(net, rank=2)
params, _ = small.init(jax.random.key(1), (64,))
params = with_base(params, trained)
optimizer = optax.adamw(1e-2, weight_decay=1e-3)  # decays a and b; frozen layers are left alone
tuned = fnet.train.fit(small, "cross_entropy", optimizer, (x, y), epochs=5, params=params)
trainable = fnet.count({name: {"a": p["a"], "b": p["b"]} for name, p in params.items()})
print(f"{trainable} of {fnet.count(params)} parameters are trained")
print(f"accuracy {tuned.history[0].values['train_accuracy']:.2f} -> {tuned.history[-1].values['train_accuracy']:.2f}")

before, after = dict(fnet.leaves(small, params)), dict(fnet.leaves(small, tuned.params))
frozen = [name for name in before if "/base/" in name]
moved = {name for name in before if np.any(after[name] != before[name])}
check("frozen weights", [after[name] for name in frozen], [before[name] for name in frozen], tolerance=0)
check("number of trained arrays", len(moved), len(before) - len(frozen), tolerance=0)
logits, _ = small.apply(tuned.params, {}, x, train=False)
expected = net.apply(merged(small, tuned.params), {}, x, train=False)[0]
check("outputs with merged weights", logits, expected, tolerance=1e-4)
