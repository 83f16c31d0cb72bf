"""Running an experiment, from its config to its log."""

import json

from fnet.config.load import load
from fnet.runs.run import run
from fnet.train.plan import Plan


def test_a_run_of_a_number_of_steps_records_them(tmp_path):
    """120 training examples of iris are 4 steps per epoch; the schedule, too, ends at the sixth step."""
    config = tmp_path / "c.yaml"
    config.write_text(
        "data: iris\nmodel: [{dense: 3}]\noptimizer: {name: sgd, learning_rate: 1.0, schedule: {name: cosine}}\n"
        f"train: {{steps: 6, batch_size: 32}}\nout: {tmp_path}\n"
    )
    experiment = load(str(config))
    outcome = run(experiment)
    lines = [json.loads(line) for line in (outcome.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["event"] == "epoch"] == [4, 6]
    assert outcome.fitted.kept_epoch == 2
    assert load(str(outcome.folder / "config.yaml")).plan() == experiment.plan() == Plan(32, 4, 2, 6)
