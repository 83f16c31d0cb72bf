"""Mistakes in dropout rates, new states, evaluation mode and masks, planted on either side."""

import dataclasses
import functools
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnet
from fnet.gradcheck import check, modes
from fnet.reference import activation, dropout, embedding, norm, recurrent
from fnet.reference import network as reference_network
from fnet.reference.rule import Rule

BATCH = 4


DROPOUTS = fnet.dropout, fnet.spatial_dropout


def inputs(net, in_shape, out):
    rng = np.random.default_rng(3)
    params, state = net.init(jax.random.key(1), in_shape)
    params = jax.tree.map(lambda leaf: np.asarray(leaf) + 0.3 * rng.standard_normal(leaf.shape), params)
    return params, state, rng.standard_normal((BATCH, *in_shape)), rng.standard_normal((BATCH, *out))


def check_net(*layers, in_shape=(4,), out=(2,), **settings):
    net = fnet.serial(*layers, fnet.dense(out[-1]))
    return check(net, "mse", *inputs(net, in_shape, out), samples=1, **settings)


def wrong(report):
    return [(row.name, row.part) for row in report.rows if not row.ok]


def located(report):
    return [(culprit.layer, culprit.what, culprit.verdict) for culprit in report.culprits]


def with_apply(layer, change):
    """Return a layer whose application is change(apply, params, state, x, **settings)."""
    return dataclasses.replace(layer, apply=functools.partial(change, layer.apply))


def test_a_correct_network_has_one_line_for_each_extra_part():
    report = check_net(fnet.dense(3), fnet.batch_norm(), fnet.dropout(0.4))
    assert report.ok, str(report)
    names = [(summary.part, summary.rows) for summary in report.summaries]
    assert names == [("state", 2), ("dropout", 2), ("evaluation", 11), ("masked", 10)]
    assert {row.part for row in report.listed} == {"total"}
    assert re.search(r"\nevaluation +11 rows +[\d.e-]+ +[\d.e-]+  ok\n", str(report))
    assert max(summary.relative for summary in report.summaries if summary.part != "dropout") < 1e-12
    assert {row.name for row in report.rows if row.part == "state"} == {
        "state: batch_norm_1/mean",
        "state: batch_norm_1/var",
    }


def test_dropout_that_keeps_with_the_wrong_probability():
    layer = fnet.dropout(0.4)

    def draw(key, shape):
        return jax.random.bernoulli(key, jnp.float32(0.58), shape)

    def apply(params, state, x, *, train, key=None, mask=None):
        return (jnp.where(draw(key, x.shape), x / 0.6, 0) if train else x), {}

    report = check_net(dataclasses.replace(layer, apply=apply, draw=draw))
    assert wrong(report) == [("kept: dropout_1", "dropout"), ("scale: dropout_1", "dropout")]
    row = next(row for row in report.rows if row.name == "kept: dropout_1")
    assert row.values[0] == pytest.approx(0.6)
    assert row.values[1] == pytest.approx(0.58, abs=0.006)
    assert "the fraction of entries kept is 0.58" in row.diagnosis
    assert "the forward values differ (kept: dropout_1, scale: dropout_1)" in report.verdict


def test_dropout_without_the_scale_on_both_sides(monkeypatch):
    def forward(layer, scope, x):
        m = scope.noise.get("mask", 1.0)
        return x * m, m

    monkeypatch.setattr(dropout, "dropout", Rule(forward, lambda layer, scope, m, g: (g * m, {})))

    def unscaled(apply, params, state, x, *, train, key=None, mask=None):
        del params, state, mask
        return (jnp.where(layer.draw(key, x.shape), x, 0) if train else x), {}

    layer = fnet.dropout(0.4)
    report = check_net(with_apply(layer, unscaled))
    assert wrong(report) == [("scale: dropout_1", "dropout")]
    assert re.search(r"the mean of the outputs for inputs of 1 is 0\.(59|60)\d\d instead of 1\.0000", str(report))


def test_correct_rates_pass():
    rates = {"never": 0.0, "rarely": 0.01, "half": 0.5, "often": 0.97}
    layers = [make(rate, name=f"{name}_{make.__name__}") for name, rate in rates.items() for make in DROPOUTS]
    report = check_net(*layers)
    assert report.ok, str(report)
    rows = {row.name for row in report.rows if row.part == "dropout"}
    assert rows == {f"{what}: {layer.name}" for what in ("kept", "scale") for layer in layers[2:]}


def test_an_unbiased_running_variance_by_hand(monkeypatch):
    right = norm.batch_norm

    def state(layer, scope, x):
        new = right.state(layer, scope, x)
        a, n = layer.settings["momentum"], len(x)
        return new | {"var": a * scope.state["var"] + (new["var"] - a * scope.state["var"]) * n / (n - 1)}

    monkeypatch.setattr(norm, "batch_norm", right._replace(state=state))
    report = check_net(fnet.batch_norm())
    assert wrong(report) == [("state: batch_norm_1/var", "state")]
    assert located(report) == [("batch_norm_1", "state: var", "forward")]
    assert "batch_norm_1 (batch_norm), state: var, differs from JAX's" in str(report)


def test_an_exchanged_momentum_in_jax():
    def exchanged(apply, params, state, x, *, train, key=None, mask=None):
        y, new = apply(params, state, x, train=train, key=key, mask=mask)
        return y, ({name: 9 * (new[name] - 0.9 * state[name]) + 0.1 * state[name] for name in new} if train else new)

    report = check_net(with_apply(fnet.batch_norm(), exchanged))
    assert wrong(report) == [("state: batch_norm_1/mean", "state"), ("state: batch_norm_1/var", "state")]
    assert located(report) == [("batch_norm_1", f"state: {name}", "forward") for name in ("mean", "var")]


def test_a_state_that_changes_in_evaluation():
    def drifting(apply, params, state, x, *, train, key=None, mask=None):
        y, new = apply(params, state, x, train=train, key=key, mask=mask)
        return y, (new if train else {name: 1.01 * value for name, value in new.items()})

    report = check_net(with_apply(fnet.batch_norm(), drifting))
    assert {name for name, _ in wrong(report)} == {"state: batch_norm_1/mean", "state: batch_norm_1/var"}
    assert {part for _, part in wrong(report)} == {"evaluation"}


def test_a_missing_eps_in_evaluation_by_hand(monkeypatch):
    """The default eps of 1e-5 changes the outputs by less than 1e-4."""
    right = norm.batch_norm

    def forward(layer, scope, x):
        if scope.train:
            return right.forward(layer, scope, x)
        state = {"mean": scope.state["mean"], "var": scope.state["var"] - layer.settings["eps"]}
        return right.forward(layer, scope._replace(state=state), x)

    monkeypatch.setattr(norm, "batch_norm", right._replace(forward=forward))
    report = check_net(fnet.batch_norm())
    assert {part for _, part in wrong(report)} == {"evaluation"}
    assert located(report) == [("batch_norm_1", "output", "forward")]
    assert "the forward values differ (outputs (evaluation), loss (evaluation))" in str(report)


def test_batch_statistics_in_evaluation_by_jax():
    def batch_statistics(apply, params, state, x, *, train, key=None, mask=None):
        y, new = apply(params, state, x, train=True, key=key, mask=mask)
        return y, (new if train else state)

    report = check_net(with_apply(fnet.batch_norm(), batch_statistics))
    assert {part for _, part in wrong(report)} == {"evaluation"}
    assert located(report) == [("batch_norm_1", "output", "forward")]


def test_dropout_in_evaluation_by_jax():
    def always(apply, params, state, x, *, train, key=None, mask=None):
        return apply(params, state, x, train=True, key=key, mask=mask)

    report = check_net(with_apply(fnet.dropout(0.4), always))
    assert {part for _, part in wrong(report)} == {"evaluation"}
    assert located(report) == [("dropout_1", "output", "forward")]


def test_a_wrong_derivative_in_evaluation_alone_by_hand(monkeypatch):
    right = activation.tanh

    def backward(layer, scope, cache, g):
        dx, gradients = right.backward(layer, scope, cache, g)
        return dx if scope.train else -dx, gradients

    monkeypatch.setattr(activation, "tanh", Rule(right.forward, backward))
    report = check_net(fnet.dense(3), fnet.tanh())
    assert wrong(report) == [(name, "evaluation") for name in ("input", "dense_1/w", "dense_1/b")]
    assert all(row.checked for row in report.rows if row.part == "evaluation" and not row.ok)  # by finite differences
    assert {row.verdict for row in report.rows if not row.ok} == {"by hand"}
    assert located(report) == [("tanh_1", "input", "by hand")]
    assert "3 of " in report.verdict
    assert "input (evaluation), dense_1/w (evaluation)" in report.verdict


def unmasked(apply, params, state, x, *, train, key=None, mask=None):
    del mask
    return apply(params, state, x, train=train, key=key)


def without_mask(rule):
    """Return the rule without masks."""
    return Rule(
        lambda layer, scope, x: rule.forward(layer, scope._replace(mask=None), x),
        lambda layer, scope, cache, g: rule.backward(layer, scope._replace(mask=None), cache, g),
        rule.state,
    )


def test_a_mask_of_examples_is_ignored_by_hand(monkeypatch):
    monkeypatch.setattr(norm, "batch_norm", without_mask(norm.batch_norm))
    report = check_net(fnet.batch_norm())
    assert {part for _, part in wrong(report)} == {"masked"}
    assert located(report)[0] == ("batch_norm_1", "output", "forward")


def test_a_mask_of_examples_is_ignored_by_jax():
    report = check_net(with_apply(fnet.batch_norm(), unmasked))
    assert {part for _, part in wrong(report)} == {"masked"}
    assert located(report)[0] == ("batch_norm_1", "output", "forward")


def test_a_mask_of_steps_is_ignored_by_hand(monkeypatch):
    monkeypatch.setattr(recurrent, "rnn", without_mask(recurrent.rnn))
    report = check_net(fnet.rnn(2, sequence=False), in_shape=(3, 2))
    assert {part for _, part in wrong(report)} == {"masked steps"}
    assert located(report)[0] == ("rnn_1", "output", "forward")


def test_a_mask_of_steps_is_ignored_by_jax():
    report = check_net(with_apply(fnet.attention(1), unmasked), in_shape=(4, 2), out=(4, 2))
    assert {part for _, part in wrong(report)} == {"masked steps"}
    assert located(report)[0] == ("attention_1", "output", "forward")


def test_a_gradient_through_masked_steps_is_wrong_by_hand(monkeypatch):
    """The forward pass is right, and the cotangents of masked steps are lost."""
    right = embedding.positions

    def backward(layer, scope, cache, g):
        dx, gradients = right.backward(layer, scope, cache, g)
        mask = scope.mask
        return (dx * mask[..., None] * 0.5 if mask is not None and mask.ndim == 2 else dx), gradients

    monkeypatch.setattr(embedding, "positions", Rule(right.forward, backward))
    report = check_net(fnet.dense(3), fnet.positions(4), in_shape=(4, 2), out=(4, 2))
    assert wrong(report) == [(name, "masked steps") for name in ("input", "dense_1/w", "dense_1/b")]
    assert ("positions_1", "input", "by hand") in located(report)


def test_a_network_that_refuses_a_mask_of_steps_is_checked_without():
    report = check_net(fnet.conv_1d(2, 2, stride=2), fnet.global_avg_pool(), in_shape=(4, 2))
    assert report.ok, str(report)
    assert {"evaluation", "masked"} <= {row.part for row in report.rows}
    assert "masked steps" not in {row.part for row in report.rows}
    assert report.remark.startswith("A mask of steps was not checked: global_avg_pool_1: expects a mask")


def test_the_content_of_masked_steps_is_not_part_of_a_vector_made_of_all_steps():
    """A layer that does not take the mask receives zeros at the masked steps of the input, on both sides."""
    report = check_net(fnet.flatten(), in_shape=(3, 2))
    assert report.ok, str(report)
    assert "masked steps" in {row.part for row in report.rows}


def test_weights_of_examples_that_are_ignored_by_hand(monkeypatch):
    right = reference_network.loss_and_gradients
    monkeypatch.setattr(reference_network, "loss_and_gradients", lambda *a, **s: right(*a, **s | {"weight": None}))
    report = check_net(fnet.dense(3), fnet.tanh())
    assert {part for _, part in wrong(report)} == {"masked"}
    assert ("loss", "masked") in wrong(report)


def test_only_a_state_without_rule_is_called_unchecked():
    net = fnet.serial(fnet.dense(2), fnet.batch_norm())
    mean, var = np.array([0.1, 0.2]), np.array([1.5, 0.7])
    by_jax = {"batch_norm_1/mean": mean, "batch_norm_1/var": var}
    for by_hand, unchecked in (({"mean": mean, "var": var}, ""), ({"mean": mean}, "no rule by hand")):
        rows = modes.state_rows(net, {"batch_norm_1": by_hand}, by_jax, 1e-6)
        assert [(row.name, row.verdict, row.diagnosis) for row in rows] == [
            ("state: batch_norm_1/mean", "ok", ""), ("state: batch_norm_1/var", "ok", unchecked),
        ]  # fmt: skip


@pytest.mark.parametrize("x", [np.zeros((1, 1, 2)), np.zeros((1, 1), int), np.zeros((3, 1, 2))])
def test_the_mask_of_steps_has_a_real_step_even_of_one(x, monkeypatch):
    monkeypatch.setattr(modes, "_refusal", lambda *_: "")
    (*_, masked), _ = modes.modes(types.SimpleNamespace(x=x))
    assert masked.mask.shape == x.shape[:2]
    assert masked.mask.any()


def test_the_remark_is_the_last_line_of_a_report():
    report = check_net()._replace(remark="it was checked in float64")
    assert str(report).endswith("\nit was checked in float64")
    assert str(report).removesuffix("\nit was checked in float64") == str(report._replace(remark=""))
