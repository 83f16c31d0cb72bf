"""Training: the pure step, and the loop that compiles and runs it."""

from fnet.train.early_stopping import EarlyStopping as EarlyStopping
from fnet.train.loop import Diverged as Diverged
from fnet.train.loop import Epoch as Epoch
from fnet.train.loop import Fitted as Fitted
from fnet.train.loop import Segment as Segment
from fnet.train.loop import fit as fit
from fnet.train.score import weighted_mean as weighted_mean
from fnet.train.state import Batch as Batch
from fnet.train.state import Examples as Examples
from fnet.train.state import TrainState as TrainState
from fnet.train.state import init_state as init_state
from fnet.train.step import make_step as make_step
from fnet.train.step import objective as objective
