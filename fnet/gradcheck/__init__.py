"""Gradient checking: backpropagation by hand against JAX and against finite differences."""

from fnet.gradcheck.function import compare as compare
from fnet.gradcheck.network import check as check
from fnet.gradcheck.report import Culprit as Culprit
from fnet.gradcheck.report import LeafReport as LeafReport
from fnet.gradcheck.report import Report as Report
