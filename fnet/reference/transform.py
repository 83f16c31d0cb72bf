"""Transforms by hand: they change how JAX computes or trains the layers inside, not what these compute."""

from fnet.reference.combine import serial
from fnet.reference.rule import Rule

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
