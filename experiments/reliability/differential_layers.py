"""Random layers, each with the same computation in PyTorch: outputs, gradients and new states in both modes."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import torch
from differential import Case, Values
from torch.nn import functional as F

import fnet

Tensor = torch.Tensor
Forward = Callable[..., Any]
"""(params, x) -> outputs, or (params, x, state) -> (outputs, new state) for a layer with a state."""


def case(
    rng: np.random.Generator,
    layer: fnet.Layer,
    x: np.ndarray,
    forward: Forward,
    *,
    train: bool = False,
    mask: Any = None,
) -> Case:
    """Return the comparison of a layer with the same function in PyTorch, at random parameters."""
    params, state = layer.init(jax.random.key(0), x.shape[1:])
    params = jax.tree.map(lambda p: rng.standard_normal(p.shape), params)
    state = jax.tree.map(lambda s: 0.1 + rng.random(s.shape), state)
    g = rng.standard_normal((len(x), *layer.shape(x.shape[1:])))
    floating = np.issubdtype(x.dtype, np.floating)

    def ours() -> Values:
        @jax.jit
        def compute(params, state, x, g):
            def outputs(params, *x_if_real):
                return layer.apply(params, state, *(x_if_real or (x,)), train=train, mask=mask)

            y, pull, after = jax.vjp(outputs, *((params, x) if floating else (params,)), has_aux=True)
            return y, after, pull(g)

        return _named(*compute(params, state, x, g))

    def theirs() -> Values:
        p = jax.tree.map(lambda leaf: torch.tensor(leaf, requires_grad=True), params)
        x_ = torch.tensor(x, requires_grad=floating)
        if state:
            y, after = forward(p, x_, jax.tree.map(torch.tensor, state))
        else:
            y, after = forward(p, x_), {}
        (y * torch.tensor(g)).sum().backward()
        gradients = jax.tree.map(lambda leaf: np.zeros(leaf.shape) if leaf.grad is None else leaf.grad.numpy(), p)
        return _named(y.detach().numpy(), after, (gradients, x_.grad.numpy()) if floating else (gradients,))

    mode = "training" if train else "evaluation"
    return Case(f"{layer.kind} {dict(layer.settings)} on {x.shape}, {mode}", ours, theirs)


def _named(y: Any, state: Any, gradients: Any) -> Values:
    leaves = jax.tree_util.tree_flatten_with_path({"y": y, "state": state, "gradient": gradients})[0]
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def choose(rng: np.random.Generator, *options: Any) -> Any:
    """Return one of the options."""
    return options[rng.integers(len(options))]


def channels_first(x: Tensor) -> Tensor:
    """Return (batch, channels, ...) for (batch, ..., channels)."""
    return x.movedim(-1, 1)


def channels_last(x: Tensor) -> Tensor:
    """Return (batch, ..., channels) for (batch, channels, ...)."""
    return x.movedim(1, -1)


def padded(x: Tensor, sizes: Any, kernel: Any, stride: Any, dilation: Any, value: float = 0.0) -> Tensor:
    """Return x (batch, channels, ...) padded to ceil(n / stride) windows per axis, an odd zero at the end."""
    pads = []
    for n, k, s, d in reversed(list(zip(sizes, kernel, stride, dilation, strict=True))):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads, value=value)


def sizes_of(rng: np.random.Generator, axes: int, low: int, high: int) -> tuple[int, ...]:
    """Return a random number per axis."""
    return tuple(int(n) for n in rng.integers(low, high + 1, axes))


def dense(rng: np.random.Generator) -> Case:
    axes = int(rng.integers(1, 4))
    layer = fnet.dense(int(rng.integers(1, 6)), bias=bool(rng.integers(2)))
    return case(
        rng, layer, rng.standard_normal(sizes_of(rng, axes + 1, 1, 5)), lambda p, x: F.linear(x, p["w"].T, p.get("b"))
    )


def convolution(rng: np.random.Generator, axes: int) -> Case:
    groups = int(choose(rng, 1, 1, 2, 3))
    channels, filters = groups * int(rng.integers(1, 4)), groups * int(rng.integers(1, 4))
    kernel, stride, dilation = sizes_of(rng, axes, 1, 4), sizes_of(rng, axes, 1, 3), sizes_of(rng, axes, 1, 2)
    sizes = tuple(int(rng.integers((k - 1) * d + 1, 10)) for k, d in zip(kernel, dilation, strict=True))
    padding = choose(rng, "same", "valid", int(rng.integers(0, 3)))
    settings = {"padding": padding, "groups": groups, "bias": bool(rng.integers(2))}
    x = rng.standard_normal((int(rng.integers(1, 4)), *sizes, channels))
    mask = rng.random(x.shape[:2]) < 0.7 if axes == 1 and rng.random() < 0.3 else None
    if axes == 1:
        layer = fnet.conv_1d(filters, kernel[0], stride=stride[0], dilation=dilation[0], **settings)
    else:
        layer = fnet.conv(filters, kernel, stride=stride, dilation=dilation, **settings)

    def forward(p: Any, x: Tensor) -> Tensor:
        x = x if mask is None else x * torch.tensor(mask)[..., None]
        x = channels_first(x)
        x = padded(x, sizes, kernel, stride, dilation) if padding == "same" else x
        number = padding if isinstance(padding, int) else 0
        function = F.conv1d if axes == 1 else F.conv2d
        w = p["w"].movedim((-1, -2), (0, 1)).contiguous()
        return channels_last(function(x, w, p.get("b"), stride, number, dilation, groups))

    return case(rng, layer, x, forward, mask=mask)


def transposed_convolution(rng: np.random.Generator) -> Case:
    kernel, stride = sizes_of(rng, 2, 1, 4), sizes_of(rng, 2, 1, 3)
    x = rng.standard_normal((int(rng.integers(1, 4)), *sizes_of(rng, 2, 2, 6), int(rng.integers(1, 4))))
    padding = choose(rng, "same", "valid", 1 if min(kernel) > 1 else 0)
    layer = fnet.conv_transpose(
        int(rng.integers(1, 4)), kernel, stride=stride, padding=padding, bias=bool(rng.integers(2))
    )

    def forward(p: Any, x: Tensor) -> Tensor:
        number = padding if isinstance(padding, int) else 0
        w = p["w"].permute(2, 3, 0, 1).contiguous()
        y = channels_last(F.conv_transpose2d(channels_first(x), w, None, stride, number))
        if padding == "same":
            for axis, (k, s) in enumerate(zip(kernel, stride, strict=True), 1):
                cut, size = max(0, k - s), x.shape[axis] * s
                if y.shape[axis] < size:
                    zeros = torch.zeros([size - n if i == axis else n for i, n in enumerate(y.shape)], dtype=y.dtype)
                    y = torch.cat([y, zeros], dim=axis)
                y = y.narrow(axis, cut // 2, size)
        return y + p["b"] if "b" in p else y

    return case(rng, layer, x, forward)


def pooling(rng: np.random.Generator) -> Case:
    axes, kind = int(rng.integers(1, 3)), choose(rng, "max", "avg", "global max", "global avg")
    window, stride = sizes_of(rng, axes, 1, 3), sizes_of(rng, axes, 1, 3)
    sizes = tuple(int(rng.integers(w, 9)) for w in window)
    x = rng.standard_normal((int(rng.integers(1, 4)), *sizes, int(rng.integers(1, 4))))
    spatial = tuple(range(1, axes + 1))
    if kind == "global max":
        return case(rng, fnet.global_max_pool(), x, lambda p, x: x.amax(spatial))
    if kind == "global avg":
        return case(rng, fnet.global_avg_pool(), x, lambda p, x: x.mean(spatial))
    padding = choose(rng, "same", "valid")
    layer = (fnet.max_pool if kind == "max" else fnet.avg_pool)(window, stride=stride, padding=padding)
    largest = F.max_pool1d if axes == 1 else F.max_pool2d
    mean = F.avg_pool1d if axes == 1 else F.avg_pool2d

    def forward(_: Any, x: Tensor) -> Tensor:
        def around(x: Tensor, value: float) -> Tensor:
            return padded(x, sizes, window, stride, (1,) * axes, value) if padding == "same" else x

        x = channels_first(x)
        if kind == "max":
            return channels_last(largest(around(x, -torch.inf), window, stride))
        counted = mean(around(torch.ones_like(x), 0.0), window, stride)
        return channels_last(mean(around(x, 0.0), window, stride) / counted)

    return case(rng, layer, x, forward)


def normalization(rng: np.random.Generator) -> Case:
    kind, eps = choose(rng, "batch", "batch", "layer", "group", "rms"), float(choose(rng, 1e-5, 1e-3, 0.1))
    groups = int(choose(rng, 1, 2, 3))
    shape = (*sizes_of(rng, int(rng.integers(1, 4)), 2, 5), groups * int(rng.integers(2, 4)))
    x = rng.standard_normal(shape) + float(choose(rng, 0.0, 100.0))
    affine = {"scale": bool(rng.integers(2)), "shift": bool(rng.integers(2))}
    if kind == "layer":
        return case(
            rng,
            fnet.layer_norm(eps=eps, **affine),
            x,
            lambda p, x: F.layer_norm(x, x.shape[-1:], p.get("scale"), p.get("shift"), eps),
        )
    if kind == "rms":
        layer = fnet.rms_norm(eps=eps, scale=affine["scale"])
        return case(rng, layer, x, lambda p, x: F.rms_norm(x, x.shape[-1:], p.get("scale"), eps))
    if kind == "group":

        def forward(p: Any, x: Tensor) -> Tensor:
            # PyTorch's backward pass fails for a shift without a scale.
            scale, shift = p.get("scale", torch.ones(x.shape[-1], dtype=x.dtype)), p.get("shift")
            return channels_last(F.group_norm(channels_first(x), groups, scale, shift, eps))

        return case(rng, fnet.group_norm(groups, eps=eps, **affine), x, forward)
    momentum, train = float(choose(rng, 0.0, 0.5, 0.9)), bool(rng.integers(2))

    def with_state(p: Any, x: Tensor, state: Any) -> Any:
        mean, var = state["mean"].clone(), state["var"].clone()
        y = F.batch_norm(
            channels_first(x), mean, var, p.get("scale"), p.get("shift"), train, momentum=1 - momentum, eps=eps
        )
        if train:  # PyTorch's state has the unbiased variance
            n = x.numel() // x.shape[-1]
            var = momentum * state["var"] + (var - momentum * state["var"]) * (n - 1) / n
        return channels_last(y), {"mean": mean.detach().numpy(), "var": var.detach().numpy()}

    return case(rng, fnet.batch_norm(momentum=momentum, eps=eps, **affine), x, with_state, train=train)


def embedding(rng: np.random.Generator) -> Case:
    size = int(rng.integers(2, 8))
    x = rng.integers(0, size, sizes_of(rng, int(rng.integers(2, 4)), 1, 5))
    return case(rng, fnet.embedding(size, int(rng.integers(1, 5))), x, lambda p, x: F.embedding(x, p["w"]))


def recurrence(rng: np.random.Generator) -> Case:
    kind = choose(rng, "rnn", "gru", "lstm")
    batch, time, width, units = sizes_of(rng, 4, 1, 5)
    settings = {"sequence": bool(rng.integers(2)), "reverse": bool(rng.integers(2))}
    activation = choose(rng, "tanh", "relu")
    layer = (
        fnet.rnn(units, activation=activation, **settings) if kind == "rnn" else getattr(fnet, kind)(units, **settings)
    )
    if kind != "gru":
        options = {"nonlinearity": activation} if kind == "rnn" else {}
        module = getattr(torch.nn, kind.upper())(width, units, batch_first=True, dtype=torch.float64, **options)

    def states(p: Any, x: Tensor) -> Tensor:
        if kind == "gru":  # PyTorch's reset gate multiplies another factor
            return _gru(p, x, units)
        weights = {
            "weight_ih_l0": p["w"].T, "weight_hh_l0": p["u"].T, "bias_ih_l0": p["b"], "bias_hh_l0": 0 * p["b"]
        }  # fmt: skip
        return torch.func.functional_call(module, weights, x)[0]

    def forward(p: Any, x: Tensor) -> Tensor:
        h = states(p, x.flip(1) if settings["reverse"] else x)
        if not settings["sequence"]:
            return h[:, -1]
        return h.flip(1) if settings["reverse"] else h

    return case(rng, layer, rng.standard_normal((batch, time, width)), forward)


def _gru(p: Any, x: Tensor, units: int) -> Tensor:
    (w_r, w_s, w_n), (u_r, u_s, u_n), (b_r, b_s, b_n) = (p[name].split(units, dim=-1) for name in ("w", "u", "b"))
    h, states = torch.zeros(len(x), units, dtype=x.dtype), []
    for x_t in x.unbind(1):
        r, s = torch.sigmoid(x_t @ w_r + h @ u_r + b_r), torch.sigmoid(x_t @ w_s + h @ u_s + b_s)
        h = s * h + (1 - s) * torch.tanh(x_t @ w_n + (r * h) @ u_n + b_n)
        states.append(h)
    return torch.stack(states, dim=1)


def attention(rng: np.random.Generator) -> Case:
    heads, causal, bias = int(rng.integers(1, 4)), bool(rng.integers(2)), bool(rng.integers(2))
    batch, time, width = *sizes_of(rng, 2, 1, 6), heads * int(rng.integers(1, 4))
    mask = rng.random((batch, time)) < 0.7 if rng.random() < 0.5 else None
    if mask is not None:
        mask[:, 0] = True  # PyTorch gives NaN for a step without any visible step
    visible = np.ones((batch, time), bool) if mask is None else mask
    visible = visible[:, None, None, :] & (np.tri(time, dtype=bool) if causal else True)

    def forward(p: Any, x: Tensor) -> Tensor:
        def projected(name: str) -> Tensor:
            z = F.linear(x, p[name]["w"].T, p[name].get("b"))
            return z.unflatten(-1, (heads, -1)).transpose(1, 2)

        q, k, v = map(projected, ("query", "key", "value"))
        a = F.scaled_dot_product_attention(
            q, k, v, attn_mask=torch.tensor(np.broadcast_to(visible, (batch, 1, time, time)).copy())
        )
        return F.linear(a.transpose(1, 2).flatten(2), p["out"]["w"].T, p["out"].get("b"))

    layer = fnet.attention(heads, causal=causal, bias=bias)
    return case(rng, layer, rng.standard_normal((batch, time, width)), forward, mask=mask)


def activation(rng: np.random.Generator) -> Case:
    slope = float(rng.random())
    layer, function = choose(
        rng,
        (fnet.sigmoid(), torch.sigmoid),
        (fnet.tanh(), torch.tanh),
        (fnet.relu(), F.relu),
        (fnet.leaky_relu(slope), lambda z: F.leaky_relu(z, slope)),
        (fnet.elu(slope), lambda z: F.elu(z, slope)),
        (fnet.softmax(), lambda z: F.softmax(z, -1)),
        (fnet.swish(), F.silu),
        (fnet.gelu(), lambda z: F.gelu(z, approximate="tanh")),
        (fnet.gelu(approximate=False), F.gelu),
    )
    x = rng.standard_normal(sizes_of(rng, int(rng.integers(2, 5)), 1, 5)) * float(choose(rng, 1.0, 30.0))
    return case(rng, layer, x, lambda p, x: function(x))


FAMILIES: Mapping[str, tuple[int, Callable[[np.random.Generator], Case]]] = {
    "dense": (15, dense),
    "convolution of sequences": (30, functools.partial(convolution, axes=1)),
    "convolution of images": (40, functools.partial(convolution, axes=2)),
    "transposed convolution": (25, transposed_convolution),
    "pooling": (40, pooling),
    "normalization": (40, normalization),
    "embedding": (10, embedding),
    "recurrence": (30, recurrence),
    "attention": (30, attention),
    "activation": (40, activation),
}
"""The families of layers, with their number of cases."""
