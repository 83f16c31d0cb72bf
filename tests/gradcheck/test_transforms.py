"""Networks with transforms, loops, and several inputs: correct ones pass, and mistakes inside are located."""

import jax
import numpy as np
import pytest

import fnet
from fnet.gradcheck import check
from fnet.reference import Rule, activation

INSIDE = (fnet.dense(4), fnet.batch_norm(), fnet.tanh(), fnet.dropout(0.3))

NETS = {
    "remat": fnet.remat(*INSIDE),
    "frozen": fnet.frozen(*INSIDE),
    "precision": fnet.precision(*INSIDE),
    "repeat": fnet.repeat(*INSIDE, times=3),
    "a loop": fnet.repeat(*INSIDE, times=3, scan=True),
    "a loop in a loop": fnet.repeat(fnet.repeat(*INSIDE, times=2, scan=True), times=2, scan=True),
}


def checked(layer):
    net = fnet.serial(fnet.dense(4), layer, fnet.dense(2))
    params, state = net.init(jax.random.key(0), (3,))
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: np.asarray(leaf) + 0.3 * rng.standard_normal(leaf.shape), params)
    return check(net, "mse", params, state, rng.standard_normal((5, 3)), rng.standard_normal((5, 2)), samples=3)


@pytest.mark.parametrize("name", NETS)
def test_networks_without_a_mistake_pass(name):
    report = checked(NETS[name])
    assert report.ok, str(report)
    assert any(row.part == "state" for row in report.rows)
    assert any(row.part == "dropout" for row in report.rows) == (name != "frozen")


@pytest.mark.parametrize("name", ["remat", "frozen", "a loop", "a loop in a loop"])
def test_a_mistake_inside_is_located(name, monkeypatch):
    right = activation.tanh
    monkeypatch.setattr(activation, "tanh", Rule(right.forward, lambda *a: (1.01 * right.backward(*a)[0], {})))
    report = checked(NETS[name])
    assert {culprit.kind for culprit in report.culprits} == {"tanh"}, str(report)
    assert {(culprit.what, culprit.verdict) for culprit in report.culprits} == {("input", "by hand")}


def test_the_gradient_of_a_frozen_parameter_is_0():
    """The loss depends on these parameters, so that finite differences do not apply to them."""
    report = checked(NETS["frozen"])
    rows = [row for row in report.listed if row.name.startswith("frozen_1/")]
    assert len(rows) == 4
    assert all((row.absolute, row.checked, row.verdict) == (0.0, 0, "ok") for row in rows)
