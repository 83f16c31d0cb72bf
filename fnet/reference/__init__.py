"""Backpropagation by hand in NumPy, which JAX's gradients are compared with."""

from fnet.reference.network import loss_and_gradients as loss_and_gradients
from fnet.reference.rule import Rule as Rule
from fnet.reference.rule import Scope as Scope
