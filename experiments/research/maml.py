"""Model-agnostic meta-learning: initial parameters from which one gradient step on a new task goes far.

Minimize over p the mean over tasks of L_query(p - a dL_support(p)/dp). The inner step is an ordinary training step of
fnet; it is pure, so that `jax.grad` differentiates through it and `jax.vmap` maps it over the tasks.

Source: Finn, Abbeel and Levine, "Model-agnostic meta-learning for fast adaptation of deep networks" (2017).
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from checking import check

import fnet
from fnet.train import Batch, init_state, make_step

RATE = 0.1


def meta_objective(net, in_shape):
    """Return the function (params, support, query) -> mean loss on the queries after one step on the supports."""
    inner = make_step(net, "mse", optax.sgd(RATE))
    start = init_state(net, optax.sgd(RATE), jax.random.key(0), in_shape)
    evaluate = fnet.train.objective(net, "mse")

    def loss_after_step(params, support, query):
        adapted, _ = inner(start._replace(params=params), support)
        return evaluate(adapted.params, adapted.state, query, None)[0]

    def mean_loss(params, support, query):
        return jax.vmap(loss_after_step, (None, 0, 0))(params, support, query).mean()

    return mean_loss


def batches(x, y):
    """Return a batch for every task, from arrays (tasks, examples, ...)."""
    return Batch(jnp.asarray(x), jnp.asarray(y), jnp.ones(x.shape[:2], bool))


def sines(rng, tasks, examples):
    """Return batches of support and query for the regression of sines with random amplitude and phase."""
    amplitude, phase = rng.uniform(0.5, 2, (tasks, 1, 1)), rng.uniform(0, np.pi, (tasks, 1, 1))
    x = rng.uniform(-3, 3, (tasks, 2 * examples, 1))
    x, y = x.astype("float32"), (amplitude * np.sin(x + phase)).astype("float32")
    return batches(x[:, :examples], y[:, :examples]), batches(x[:, examples:], y[:, examples:])


def gradient_by_hand(w, support, query):
    """Return the outer gradient for the linear model y = x w: (I - a H_s) g_q(w - a g_s(w)), H_s = (2/n) x_s^T x_s."""
    total = np.zeros_like(w)
    for x_s, y_s, x_q, y_q in zip(support.x, support.y, query.x, query.y, strict=True):
        x_s, y_s, x_q, y_q = (np.asarray(part, np.float64) for part in (x_s, y_s, x_q, y_q))
        adapted = w - RATE * 2 / len(x_s) * x_s.T @ (x_s @ w - y_s)
        g_q = 2 / len(x_q) * x_q.T @ (x_q @ adapted - y_q)
        total += g_q - RATE * 2 / len(x_s) * x_s.T @ (x_s @ g_q)
    return total / len(support.x)


rng = np.random.default_rng(0)
net = fnet.serial(fnet.dense(16), fnet.tanh(), fnet.dense(1))
mean_loss, optimizer = meta_objective(net, (1,)), optax.adam(1e-2)
params, _ = net.init(jax.random.key(0), (1,))
opt_state = optimizer.init(params)
gradient = jax.jit(jax.value_and_grad(mean_loss))
for step in range(201):
    loss, gradients = gradient(params, *sines(rng, tasks=8, examples=10))
    updates, opt_state = optimizer.update(gradients, opt_state)
    params = optax.apply_updates(params, updates)
    if step % 100 == 0:
        print(f"step {step}: loss after one inner step {loss:.3f}")

linear = fnet.serial(fnet.dense(1, bias=False))
tasks = rng.standard_normal((2, 3, 10, 4)), rng.standard_normal((2, 3, 10, 1))
support, query = (batches(x.astype("float32"), y.astype("float32")) for x, y in zip(*tasks, strict=True))
start, _ = linear.init(jax.random.key(1), (4,))
meta_gradient = jax.jit(jax.grad(meta_objective(linear, (4,))))(start, support, query)
by_hand = gradient_by_hand(np.asarray(start["dense_1"]["w"], np.float64), support, query)
check("outer gradient of a linear model", meta_gradient["dense_1"]["w"], by_hand, tolerance=1e-6)
