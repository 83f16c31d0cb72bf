"""Gradient checking: backpropagation by hand against JAX's."""

from fnet.gradcheck.network import check as check
from fnet.gradcheck.report import Report as Report
from fnet.gradcheck.report import Row as Row
