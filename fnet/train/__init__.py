"""Training: the pure step, and the loop that compiles it."""

from fnet.train.loop import Fitted as Fitted
from fnet.train.loop import fit as fit
from fnet.train.step import make_step as make_step
