"""Transforms by hand: most change how JAX computes the layers inside, not what these compute."""

from fnet.reference.combine import serial
from fnet.reference.rule import Rule, stacked

remat = precision = serial


def _frozen_forward(layer, scope, x):
    """y = f(x) in evaluation mode."""
    return serial.forward(layer, _evaluating(scope), x)


def _frozen_backward(layer, scope, caches, g):
    """dx = (df/dx)^T g; the parameters are constants, with the gradient 0."""
    dx, gradients = serial.backward(layer, _evaluating(scope), caches, g)
    return dx, _zeros(gradients)


def _evaluating(scope):
    return scope._replace(train=False, noise={})


def _zeros(gradients):
    return {name: _zeros(part) if isinstance(part, dict) else 0 * part for name, part in gradients.items()}


frozen = Rule(_frozen_forward, _frozen_backward)


def _repeat_forward(layer, scope, x):
    """x_i = f(x_(i-1)) with the parameters of repetition i, which are entry i of every stacked array."""
    caches = []
    for number in range(layer.settings["times"]):
        x, cache = serial.forward(layer, scope.entry(number), x)
        caches.append(cache)
    return x, caches


def _repeat_backward(layer, scope, caches, g):
    """Backpropagate through the repetitions from the last to the first, and stack the gradients of their parameters."""
    gradients = []
    for number in reversed(range(layer.settings["times"])):
        g, repetition = serial.backward(layer, scope.entry(number), caches[number], g)
        gradients.insert(0, repetition)
    return g, stacked(gradients)


repeat = Rule(_repeat_forward, _repeat_backward)
