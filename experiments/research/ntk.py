"""The empirical neural tangent kernel K(x, x') = J(x) J(x')^T, with J the Jacobian of the output by all parameters.

A wide network trained by gradient descent on the squared loss follows the kernel regression with K.

Source: Jacot, Gabriel and Hongler, "Neural tangent kernel: convergence and generalization in neural networks" (2018).
"""

import jax
import jax.numpy as jnp
import numpy as np
from checking import check
from sklearn.datasets import load_digits

import fnet


def empirical_ntk(net, params, first, second):
    """Return K of shape (n1, n2) for a network with one output and inputs (n1, ...) and (n2, ...)."""

    def output(params, x):
        return net.apply(params, {}, x[None], train=False)[0][0, 0]

    jacobians = jax.vmap(jax.grad(output), (None, 0))
    products = jax.tree.map(
        lambda j1, j2: j1.reshape(len(first), -1) @ j2.reshape(len(second), -1).T,
        jacobians(params, first),
        jacobians(params, second),
    )
    return jax.tree.reduce(jnp.add, products)


def ntk_by_hand(params, first, second):
    """The kernel of f(x) = v . tanh(w^T x + b) + c, from its derivatives: h(x) by v, v h' by b, x v h' by w, 1 by c."""
    w, b, v = params["dense_1"]["w"], params["dense_1"]["b"], params["dense_2"]["w"][:, 0]
    (h1, d1), (h2, d2) = ((h, (1 - h**2) * v) for h in (np.tanh(x @ w + b) for x in (first, second)))
    return h1 @ h2.T + (first @ second.T + 1) * (d1 @ d2.T) + 1


kernel_of = jax.jit(empirical_ntk, static_argnums=0)
with jax.enable_x64(True):
    pixels, labels = load_digits(n_class=2, return_X_y=True)
    x, y = pixels / 16 - 0.5, 2.0 * labels - 1
    train, test = slice(0, 60), slice(60, 160)
    net = fnet.serial(fnet.dense(32), fnet.tanh(), fnet.dense(1))
    params, _ = net.init(jax.random.key(0), (64,))
    kernel = kernel_of(net, params, x, x[train])
    predictions = kernel[test] @ np.linalg.solve(kernel[train] + 1e-6 * np.eye(60), y[train])
    print(f"kernel regression on 60 digits 0 and 1: test accuracy {np.mean((predictions > 0) == (y[test] > 0)):.2f}")
    expected = ntk_by_hand(jax.tree.map(np.asarray, params), x, x[train])
    check("kernel of a network with a hidden layer", kernel, expected, tolerance=1e-11)

    linear = fnet.serial(fnet.dense(1))
    weights, _ = linear.init(jax.random.key(0), (64,))
    kernel = kernel_of(linear, weights, x, x[train])
    check("kernel of a linear model, x . x' + 1", kernel, x @ x[train].T + 1, tolerance=1e-11)
