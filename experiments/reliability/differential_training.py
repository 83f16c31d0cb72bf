"""Random losses, optimizers, penalties and schedules, each with the same computation in PyTorch."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from differential import Case, Values
from differential_layers import choose, sizes_of
from torch.nn import functional as F

import fnet
from fnet.train.optimizer import OPTIMIZERS, SCHEDULES, with_clipping

Tensor = torch.Tensor

UPDATES = 20


def loss(rng: np.random.Generator) -> Case:
    name = choose(rng, "mse", "huber", "binary_cross_entropy", "hinge", "cross_entropy", "kl_divergence")
    shape = sizes_of(rng, int(rng.integers(2, 4)), 1, 5)
    outputs = rng.standard_normal(shape) * float(choose(rng, 1.0, 30.0))
    targets, settings, function = _loss(rng, name, shape)

    def ours() -> Values:
        @jax.jit
        def compute(outputs: Any, targets: Any) -> tuple[Any, Any]:
            function = fnet.losses.LOSSES[name].function
            values, pull = jax.vjp(lambda outputs: function(outputs, targets, **settings), outputs)
            return values, pull(jnp.arange(1.0, 1 + len(values)))[0]

        values, gradient = compute(outputs, targets)
        return {"loss": np.asarray(values), "gradient": np.asarray(gradient)}

    def theirs() -> Values:
        z = torch.tensor(outputs, requires_grad=True)
        values = function(z, torch.tensor(targets)).flatten(1).mean(1)
        (values * torch.arange(1, 1 + len(values))).sum().backward()
        assert z.grad is not None
        return {"loss": values.detach().numpy(), "gradient": z.grad.numpy()}

    return Case(f"{name} {settings} of {shape}", ours, theirs)


def _loss(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> tuple[np.ndarray, dict[str, Any], Callable]:
    """Return random targets, settings, and the loss of every output or position in PyTorch."""
    if name == "mse":
        return rng.standard_normal(shape), {}, lambda z, y: F.mse_loss(z, y, reduction="none")
    if name == "huber":
        delta = float(choose(rng, 0.1, 1.0, 20.0))
        function = lambda z, y: F.huber_loss(z, y, reduction="none", delta=delta)  # noqa: E731
        return rng.standard_normal(shape), {"delta": delta}, function
    if name == "binary_cross_entropy":
        labels = choose(rng, rng.random(shape), rng.integers(0, 2, shape).astype(float))
        return labels, {}, lambda z, y: F.binary_cross_entropy_with_logits(z, y, reduction="none")
    if name == "hinge":  # with the label -1, hinge_embedding_loss is max(0, margin - x)
        function = lambda z, y: F.hinge_embedding_loss((2 * y - 1) * z, -torch.ones_like(z), reduction="none")  # noqa: E731
        return rng.integers(0, 2, shape), {}, function
    distribution = rng.dirichlet(np.ones(shape[-1]), shape[:-1])
    if name == "kl_divergence":
        return distribution, {}, lambda z, y: F.kl_div(F.log_softmax(z, -1), y, reduction="none").sum(-1, keepdim=True)
    smoothing = float(choose(rng, 0.0, 0.1, 0.9))
    labels = choose(rng, distribution, rng.integers(0, shape[-1], shape[:-1]))

    def cross_entropy(z: Tensor, y: Tensor) -> Tensor:
        y = y.movedim(-1, 1) if y.is_floating_point() else y
        return F.cross_entropy(z.movedim(-1, 1), y, reduction="none", label_smoothing=smoothing).unsqueeze(-1)

    return labels, {"label_smoothing": smoothing}, cross_entropy


def optimizer(rng: np.random.Generator) -> Case:
    name, settings, their_name, their_settings = _optimizer(rng)
    rate, fall = float(10 ** rng.uniform(-3, -1)), float(choose(rng, 0.0, 0.3))
    start, gradients = rng.standard_normal(4), rng.standard_normal((UPDATES, 4)) * float(10 ** rng.uniform(-3, 2))
    value = float(choose(rng, 0.0, 0.5, 2.0))

    def ours() -> Values:
        update = with_clipping(
            OPTIMIZERS[name](lambda t: rate / (1 + fall * t), **settings), value=value or None
        )  # a rate that changes shows whether the momentum includes it
        w = jnp.asarray(start)
        state = update.init(w)
        step = jax.jit(update.update)
        for g in gradients:
            change, state = step(jnp.asarray(g), state, w)
            w = w + change
        return {"parameters": np.asarray(w)}

    def theirs() -> Values:
        w = torch.nn.Parameter(torch.tensor(start))
        update = getattr(torch.optim, their_name)([w], lr=rate, **their_settings)
        schedule = torch.optim.lr_scheduler.LambdaLR(update, lambda t: 1 / (1 + fall * t))
        for g in gradients:
            w.grad = torch.tensor(g)
            if value:
                torch.nn.utils.clip_grad_value_([w], value)
            update.step()
            schedule.step()
        return {"parameters": w.detach().numpy()}

    return Case(f"{name} {settings}, rate {rate:.2g} / (1 + {fall} t), clip_value {value}", ours, theirs)


def _optimizer(rng: np.random.Generator) -> tuple[str, dict[str, Any], str, dict[str, Any]]:
    """Return the name and settings of an optimizer, and those of PyTorch."""
    b1, b2, eps = float(choose(rng, 0.0, 0.8, 0.9)), float(choose(rng, 0.5, 0.99)), float(10 ** rng.uniform(-10, -1))
    decay = float(rng.uniform(0, 0.3))
    adam = {"b1": b1, "b2": b2, "eps": eps}, {"betas": (b1, b2), "eps": eps}
    nesterov = bool(b1 and rng.integers(2))
    momentum = {"momentum": b1}
    return choose(
        rng,
        ("sgd", momentum | {"nesterov": nesterov}, "SGD", momentum | {"nesterov": nesterov}),
        ("adam", adam[0], "Adam", adam[1]),
        ("adamw", adam[0] | {"weight_decay": decay}, "AdamW", adam[1] | {"weight_decay": decay}),
        ("adamax", adam[0], "Adamax", adam[1]),
        ("rmsprop", momentum | {"decay": b2, "eps": eps}, "RMSprop", momentum | {"alpha": b2, "eps": eps}),
        (
            "adagrad",
            {"initial_accumulator": decay, "eps": eps},
            "Adagrad",
            {"initial_accumulator_value": decay, "eps": eps},
        ),
        ("adadelta", {"decay": b2, "eps": eps}, "Adadelta", {"rho": b2, "eps": eps}),
        # PyTorch adds eps before the bias correction of the root.
        ("radam", adam[0] | {"eps": 1e-30}, "RAdam", adam[1] | {"eps": 1e-30}),
    )


def penalty(rng: np.random.Generator) -> Case:
    """Return a comparison of training with an l2 penalty, which is PyTorch's weight_decay of SGD and Adam."""
    l2, rate, name = float(rng.uniform(0, 0.5)), float(10 ** rng.uniform(-3, -1)), choose(rng, "SGD", "Adam")
    x, y, w = (rng.standard_normal(shape) for shape in ((5, 3), (5, 2), (3, 2)))
    net = fnet.dense(2)

    def ours() -> Values:
        update = OPTIMIZERS[name.lower()](rate)
        step = fnet.train.make_step(net, "mse", update, regularization=fnet.Penalties(l2=l2))
        state = fnet.train.init_state(net, update, jax.random.key(0), (3,))
        params = {"w": jnp.asarray(w), "b": jnp.zeros(2)}
        state = state._replace(params=params, opt_state=update.init(params))
        batch = fnet.train.Batch(jnp.asarray(x), jnp.asarray(y), jnp.ones(5, bool))
        for _ in range(5):
            state, _ = step(state, batch)
        return {key: np.asarray(leaf) for key, leaf in state.params.items()}

    def theirs() -> Values:
        w_, b = torch.nn.Parameter(torch.tensor(w)), torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
        groups = [{"params": [w_], "weight_decay": l2}, {"params": [b]}]
        update = getattr(torch.optim, name)(groups, lr=rate)
        for _ in range(5):
            update.zero_grad()
            F.mse_loss(torch.tensor(x) @ w_ + b, torch.tensor(y)).backward()
            update.step()
        return {"w": w_.detach().numpy(), "b": b.detach().numpy()}

    return Case(f"{name} with l2 {l2}, rate {rate:.2g}", ours, theirs)


def schedule(rng: np.random.Generator) -> Case:
    steps, rate, fraction = int(rng.integers(2, 200)), float(10 ** rng.uniform(-4, 0)), float(rng.random())
    lr = torch.optim.lr_scheduler
    warmup = int(rng.integers(0, steps - 1))
    rise, first, last = float(rng.uniform(0.05, 0.95)), float(rng.uniform(1, 50)), float(rng.uniform(1, 1e4))
    interval = int(rng.integers(1, steps + 1))
    left = steps - 1 - warmup
    name, settings, peer = choose(
        rng,
        (
            "cosine",
            {"final_fraction": fraction, "warmup_steps": warmup},
            lambda o: _after_warmup(o, warmup, lr.CosineAnnealingLR(o, left, eta_min=fraction * rate)),
        ),
        (
            "linear",
            {"final_fraction": fraction, "warmup_steps": warmup},
            lambda o: _after_warmup(o, warmup, lr.LinearLR(o, 1.0, fraction, left)),
        ),
        ("exponential", {"decay": fraction}, lambda o: lr.ExponentialLR(o, fraction ** (1 / (steps - 1)))),
        ("step", {"every": interval / steps, "factor": fraction}, lambda o: lr.StepLR(o, interval, fraction)),
        (
            "one_cycle",
            {"rise": rise, "initial_divisor": first, "final_divisor": last},
            lambda o: lr.OneCycleLR(
                o,
                rate,
                total_steps=steps,
                pct_start=(rise * (steps - 1) + 1) / steps,
                cycle_momentum=False,
                div_factor=first,
                final_div_factor=last,
            ),
        ),
    )

    def ours() -> Values:
        return {"rates": np.asarray(jax.jit(SCHEDULES[name](rate, steps, **settings))(jnp.arange(steps)))}

    def theirs() -> Values:
        update = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
        scheduler, rates = peer(update), []
        for _ in range(steps):
            rates.append(update.param_groups[0]["lr"])
            update.step()
            if len(rates) < steps:
                scheduler.step()
        return {"rates": np.array(rates)}

    return Case(f"{name} {settings}, rate {rate:.2g}, {steps} steps", ours, theirs)


def _after_warmup(update: Any, warmup: int, decay: Any) -> Any:
    if not warmup:
        return decay
    rise = torch.optim.lr_scheduler.LambdaLR(update, lambda t: t / warmup)
    return torch.optim.lr_scheduler.SequentialLR(update, [rise, decay], [warmup])


FAMILIES: Mapping[str, tuple[int, Callable[[np.random.Generator], Case]]] = {
    "losses": (80, loss),
    "optimizers": (60, optimizer),
    "l2 penalty": (8, penalty),
    "schedules": (100, schedule),
}
"""The families of losses, optimizers and schedules, with their number of cases."""
