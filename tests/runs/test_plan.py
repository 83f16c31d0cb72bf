"""How long a run is, from the config to its record."""

import json

import pytest

from fnet.config.load import dump, load
from fnet.config.schema import Plan, TrainSettings
from fnet.runs.run import run


@pytest.mark.parametrize(
    ("settings", "plan"),
    [
        ({"epochs": 3, "batch_size": 4}, Plan(4, 3, 9)),
        ({"epochs": 3, "batch_size": "all"}, Plan(10, 3, 3)),
        ({"epochs": 3, "batch_size": 100}, Plan(10, 3, 3)),
        ({"steps": 7, "batch_size": 4}, Plan(4, 3, 7)),
        ({"steps": 6, "batch_size": 4, "epochs": 9}, Plan(4, 2, 6)),
    ],
)
def test_batch_epochs_and_steps_of_ten_examples(settings, plan):
    assert TrainSettings(**settings).plan(10) == plan


def test_a_run_of_so_many_steps_records_them(tmp_path):
    """120 training examples of iris are 4 steps an epoch; the schedule, too, ends at the sixth step."""
    config = tmp_path / "c.yaml"
    config.write_text(
        "data: iris\nmodel: [{dense: 3}]\noptimizer: {name: sgd, learning_rate: 1.0, schedule: {name: cosine}}\n"
        f"train: {{steps: 6, batch_size: 32}}\nout: {tmp_path}\n"
    )
    experiment = load(str(config))
    outcome = run(experiment, dump(experiment.config), lambda event: None)
    lines = [json.loads(line) for line in (outcome.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["event"] == "epoch"] == [4, 6]
    assert outcome.fitted.kept_epoch == 2
    assert load(str(outcome.folder / "config.yaml")).plan() == experiment.plan() == Plan(32, 2, 6)
