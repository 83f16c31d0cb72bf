"""An experiment that is built in Python, without a config file."""

import dataclasses
import json

import optax
import pytest

import fnet
from fnet.config.load import load
from fnet.data import catalog
from fnet.losses import LOSSES
from fnet.runs import gradcheck
from fnet.runs.evaluation import evaluate
from fnet.runs.experiment import Dataset, Experiment
from fnet.runs.gradcheck import check_gradients
from fnet.runs.run import RunFailed, run
from fnet.train import fit
from fnet.train.optimizer import cosine
from fnet.train.plan import Plan


@pytest.fixture
def experiment(tmp_path):
    """Logistic regression on iris."""
    source = catalog.source("sklearn", "iris", {})
    return Experiment(
        name="iris",
        net=fnet.serial(fnet.dense(3)),
        data=Dataset(source=source, spec=source.spec(), normalization="standard"),
        loss=LOSSES["cross_entropy"],
        loss_settings={"name": "cross_entropy"},
        optimizer=lambda steps: optax.adam(cosine(0.1, steps)),
        out=str(tmp_path),
        epochs=3,
    )


def test_it_runs_and_evaluates_to_the_same_scores(experiment):
    assert experiment.plan() == Plan(32, 4, 3, 12)
    outcome = run(experiment)
    assert outcome.folder.name == "iris-1"
    lines = [json.loads(line) for line in (outcome.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["epoch", "epoch", "epoch", "end"]
    _, params, state = fnet.load(outcome.folder)
    assert evaluate(experiment, params, state).scores == outcome.scores


def test_it_runs_like_the_same_config(experiment, tmp_path):
    """Both runs have bitwise equal scores and history."""
    config = tmp_path / "iris.yaml"
    config.write_text(
        "data: iris\nmodel: [{dense: 3}]\noptimizer: {name: adam, learning_rate: 0.1, schedule: cosine}\n"
        f"train: {{epochs: 3}}\nout: {tmp_path}\n"
    )
    first, second = run(experiment), run(load(str(config)))
    assert first.scores == second.scores
    assert [epoch.values for epoch in first.fitted.history] == [epoch.values for epoch in second.fitted.history]


def test_gradients_are_checked_after_the_steps_that_training_takes(experiment, monkeypatch):
    """The second check uses the state of `fit` after five steps."""
    results = []

    def recorded(*arguments, **settings):
        results.append(fit(*arguments, **settings))
        return results[-1]

    monkeypatch.setattr(gradcheck, "fit", recorded)
    before, after = check_gradients(experiment, after_steps=5, samples=2)
    assert (before.when, after.when) == ("at initialization", "after 5 steps")
    assert before.report.ok
    assert after.report.ok
    (fitted,) = results
    assert int(fitted.train_state.step) == 5


def test_training_that_diverges_before_a_check_is_an_error(experiment):
    wild = dataclasses.replace(experiment, optimizer=lambda steps: optax.sgd(float("inf")))
    with pytest.raises(RunFailed, match=r"training before the check failed at step \d+ "):
        check_gradients(wild, after_steps=30, samples=2)


def test_fewer_entries_per_leaf_are_differentiated_in_a_network_of_many_leaves(experiment, monkeypatch):
    """About 400 in total, and 20 where one leaf is chosen."""
    given = []
    monkeypatch.setattr(gradcheck, "check", lambda *_, samples, **__: given.append(samples))
    deep = dataclasses.replace(experiment, net=fnet.serial(*[fnet.batch_norm()] * 12, fnet.dense(3, bias=False)))
    for settings in ({}, {"leaf": "dense_1/w"}, {"samples": 7}):
        check_gradients(deep, **settings)
    assert given == [16, 20, 7]
