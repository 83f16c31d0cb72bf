"""Computational graphs: gradients of expressions whose nodes and messages can be looked at."""

from fnet.trace.graph import gradient as gradient
from fnet.trace.nodes import constant as constant
from fnet.trace.nodes import variable as variable
