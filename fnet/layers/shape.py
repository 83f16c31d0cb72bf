"""Layers that rearrange an example without computing anything."""

import math

from fnet.description import Name, Parts, constructor, no_parameters


@constructor
def flatten(*, name: Name = None) -> Parts:
    """Every axis of an example in one, in row-major order: (batch, ...) -> (batch, product of the others).

    Args:
        name: replaces the counted name.

    >>> import fnet
    >>> fnet.flatten().shape((28, 28, 1))
    (784,)
    """

    def shape(in_shape):
        return (math.prod(in_shape),)

    def apply(params, state, x, *, train, key=None, mask=None):
        return x.reshape(x.shape[0], math.prod(x.shape[1:])), {}

    return Parts(shape, no_parameters, apply)
