"""Linear models as baselines: ridge and logistic regression in NumPy, with the objectives of scikit-learn's defaults.

They are not imported from scikit-learn, because its import takes longer than the fit of a small table.
"""

from collections import deque
from collections.abc import Callable
from typing import Literal

import numpy as np

ITERATIONS = 200
"""Maximum number of iterations of logistic regression."""

TOLERANCE = 1e-5
"""Maximum absolute entry of the gradient of the mean loss at which logistic regression ends."""

MEMORY = 10
"""Number of steps from which L-BFGS estimates the curvature."""

Linear = tuple[np.ndarray, np.ndarray]
"""Weights (features, outputs) and biases (outputs,)."""


def ridge_regression(x: np.ndarray, y: np.ndarray) -> Linear:
    """Minimize ||X W + b - Y||^2 + ||W||^2, in the dual form if there are more features than examples.

    Args:
        x: X (n, features).
        y: Y (n, outputs).

    >>> w, b = ridge_regression(np.array([[0.0], [2.0]]), np.array([[1.0], [4.0]]))
    >>> w.tolist(), b.tolist()
    ([[1.0]], [1.5])
    """
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    x, y = x - x_mean, y - y_mean
    n, features = x.shape
    if features <= n:
        w = np.linalg.solve(x.T @ x + np.eye(features), x.T @ y)
    else:
        w = x.T @ np.linalg.solve(x @ x.T + np.eye(n), y)
    return w, y_mean - x_mean @ w


def logistic_regression(
    x: np.ndarray, y: np.ndarray, link: Literal["softmax", "sigmoid"], weights: np.ndarray | None = None
) -> Linear:
    """Minimize sum_i w_i L_i + ||W||^2 / 2 for the cross-entropy L_i of the logits X W + b, by L-BFGS.

    Args:
        x: X (n, features).
        y: (n, outputs), one-hot classes for softmax, labels that are 0 or 1 for sigmoid; every label has its own model.
        link: function from the logits to the probabilities.
        weights: w (n,); by default 1.

    >>> x, y = np.array([[-1.0], [1.0], [2.0]]), np.array([[0.0], [1.0], [1.0]])
    >>> w, b = logistic_regression(x, y, "sigmoid")
    >>> ((x @ w + b)[:, 0] > 0).tolist()
    [False, True, True]
    """
    n, features = x.shape
    w_i = np.ones((n, 1)) if weights is None else weights[:, None].astype(np.float64)

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        w, b = theta[:-1], theta[-1]
        z = x @ w + b
        if link == "softmax":
            top = z.max(axis=1, keepdims=True)
            exponentials = np.exp(z - top)
            sums = exponentials.sum(axis=1, keepdims=True)
            losses = top + np.log(sums) - (y * z).sum(axis=1, keepdims=True)
            p = exponentials / sums
        else:
            losses = np.logaddexp(0, z) - y * z
            p = 0.5 + 0.5 * np.tanh(z / 2)
        g = w_i * (p - y)
        gradient = np.concatenate([x.T @ g + w, g.sum(axis=0, keepdims=True)])
        return float((w_i * losses).sum() + np.square(w).sum() / 2) / n, gradient / n

    theta = _minimize(objective, np.zeros((features + 1, y.shape[1])))
    return theta[:-1], theta[-1]


def _minimize(function: Callable[[np.ndarray], tuple[float, np.ndarray]], x: np.ndarray) -> np.ndarray:
    """Return the minimum of a convex function that returns its value and gradient (Nocedal and Wright, algorithm 7.5).

    The step is halved until the value decreases by at least a small fraction of what the gradient promises.
    """
    value, gradient = function(x)
    steps: deque[tuple[np.ndarray, np.ndarray, float]] = deque(maxlen=MEMORY)
    for _ in range(ITERATIONS):
        if np.abs(gradient).max() <= TOLERANCE:
            break
        direction = -_inverse_hessian_times(gradient, steps)
        slope = float((gradient * direction).sum())
        rate = 1.0 if steps else 1 / max(1.0, float(np.linalg.norm(gradient)))
        while True:
            candidate = x + rate * direction
            new_value, new_gradient = function(candidate)
            if new_value <= value + 1e-4 * rate * slope or rate < 1e-10:
                break
            rate /= 2
        change, change_of_gradient = candidate - x, new_gradient - gradient
        curvature = float((change * change_of_gradient).sum())
        if curvature <= 0 or new_value > value:
            break
        steps.append((change, change_of_gradient, curvature))
        x, value, gradient = candidate, new_value, new_gradient
    return x


def _inverse_hessian_times(gradient: np.ndarray, steps: deque[tuple[np.ndarray, np.ndarray, float]]) -> np.ndarray:
    """Return H g for the inverse Hessian H that the last steps (s, y, s.y) imply: the two-loop recursion of L-BFGS."""
    q, factors = gradient.copy(), []
    for s, y, curvature in reversed(steps):
        factor = float((s * q).sum()) / curvature
        factors.append(factor)
        q -= factor * y
    if steps:
        _, y, curvature = steps[-1]
        q *= curvature / float(np.square(y).sum())
    for (s, y, curvature), factor in zip(steps, reversed(factors), strict=True):
        q += s * (factor - float((y * q).sum()) / curvature)
    return q
