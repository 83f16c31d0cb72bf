"""Training on a stream: bitwise the same as in memory, resumable anywhere, and no thread left running."""

import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from trees import same

import fnet
from fnet.config.load import load
from fnet.data import cache, stream
from fnet.data.source import DataError
from fnet.data.stream import Stream
from fnet.losses import resolve_loss
from fnet.runs.data import load_data
from fnet.runs.evaluation import evaluate
from fnet.runs.gradcheck import check_gradients
from fnet.runs.run import run
from fnet.train import fit, segments
from fnet.train.evaluate import make_score
from fnet.train.feed import example_order
from fnet.train.loop import Diverged, Segment


@pytest.fixture(autouse=True)
def _short_chunks(tmp_path, monkeypatch):
    """Read several chunks per epoch despite the small data; write files to a temporary folder."""
    monkeypatch.setattr(stream, "CHUNK_BYTES", 1)
    monkeypatch.chdir(tmp_path)


def wait_for_readers():
    deadline = time.monotonic() + 10
    while any(thread.name.startswith("fnet-read-ahead") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def sources(tmp_path, rng):
    """Data sections of configs by name, each with about 100 examples."""
    x = rng.standard_normal((90, 5)).astype(np.float32) * 9 + 4
    np.savez(tmp_path / "table.npz", x=x, y=np.arange(90) % 3)
    pixels = rng.integers(0, 256, (90, 6, 5)).astype(np.uint8)
    np.savez(tmp_path / "pixels.npz", x=pixels, y=np.arange(90) % 2)
    rows = ["a,b,y", *(f"{i % 7 if i % 5 else ''},{i * 0.5},{i * i % 13 * 0.25 + 0.125}" for i in range(90))]
    (tmp_path / "gaps.csv").write_text("\n".join(rows))
    (tmp_path / "text.txt").write_text("to be or not to be, that is the question; " * 12)
    return {
        "float": "{path: table.npz, normalize: standard}",
        "bytes to unit": "{path: pixels.npz, augment: [{shift: 1}]}",
        "two classes": "{path: pixels.npz, normalize: standard}",
        "gaps": "{path: gaps.csv, target: y, missing: mean, targets: values}",
        "text": "{path: text.txt, block: 5}",
        "records": "{source: tfds, name: mnist, split: {train: 'train[:60]', validation: 'train[60:]', test: test}}",
    }


NETWORKS = {
    "float": "[{dense: 8}, batch_norm, relu, {dropout: 0.3}, {dense: 3}]",
    "bytes to unit": "[{conv: {filters: 3, kernel_size: 3}}, relu, flatten, {dense: 2}]",
    "two classes": "[flatten, {dense: 1}]",
    "gaps": "[{dense: 4}, tanh, {dense: 1}]",
    "text": "[{embedding: {size: 15, width: 4}}, {dense: 15}]",
    "records": "[flatten, {dense: 10}]",
}


def experiment(data, model, *overrides):
    Path("c.yaml").write_text(
        f"data: {data}\nmodel: {model}\ntrain: {{batch_size: 16, epochs: 2}}\nregularization: {{l2: 1e-3}}\n"
    )
    return load("c.yaml", overrides)


@pytest.mark.parametrize("name", NETWORKS)
def test_training_on_a_stream_equals_training_in_memory(name, sources, tmp_path, monkeypatch):
    """Parameters, history and statistics are bitwise equal; records are streamed without a decoded copy."""
    monkeypatch.setattr("fnet.data.tfds.free_space", lambda: 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    results = []
    for where in ("true", "false"):
        chosen = experiment(sources[name], NETWORKS[name], f"data.stream={where}")
        splits, content = load_data(chosen)
        events = []
        fitted = fit(
            chosen.net,
            chosen.loss,
            chosen.optimizer(10),
            splits.train,
            validation=splits.validation,
            batch_size=16,
            epochs=2,
            augment=chosen.augmentations,
            regularization=chosen.penalties,
            on_event=events.append,
        )
        finished = [event for event in events if isinstance(event, Segment)]
        steps = [event.first_step + i for event in finished for i in range(len(event.metrics.loss))]
        assert steps == list(range(2 * -(-splits.train.size // 16)))
        assert sum(event.examples for event in finished) == 2 * splits.train.size
        if where == "true" and name == "records":
            assert all("targets" in entry.key["name"] for entry in cache.entries() if "mnist" in entry.key["name"])
        values = [epoch.values for epoch in fitted.history]
        results.append((fitted.train_state._replace(key=0), splits.normalizer, values, content))
    assert same(results[0][:2], results[1][:2])
    assert results[0][2] == results[1][2]
    assert (results[0][3] == results[1][3]) is (name != "records")
    wait_for_readers()


def test_a_run_on_a_stream_equals_the_run_in_memory(sources):
    """With binary targets, whose shape depends on the loss, scores and model files are equal."""
    results = []
    for where in ("true", "false"):
        chosen = experiment(sources["two classes"], NETWORKS["two classes"], f"data.stream={where}")
        outcome = run(chosen)
        results.append((outcome.scores, outcome.sizes, (outcome.folder / "model.safetensors").read_bytes()))
    assert results[0] == results[1]


def table(rng, n=50):
    x = rng.standard_normal((n, 3)).astype(np.float32)
    return x, (x @ np.array([[1.0], [-2.0], [0.5]]) + 0.5).astype(np.float32)


def test_sequences_with_a_mask(rng):
    x = rng.standard_normal((22, 6, 2)).astype(np.float32)
    mask = np.arange(6) < rng.integers(1, 7, 22)[:, None]
    data = x, rng.integers(0, 3, (22, 6)), mask
    net = fnet.serial(fnet.dense(3))
    settings = {"epochs": 2, "batch_size": 4}
    whole = fit(net, "cross_entropy", optax.adam(0.1), data, validation=data, **settings)
    streamed = fit(net, "cross_entropy", optax.adam(0.1), Stream(*data), validation=Stream(*data), **settings)
    assert same(whole.params, streamed.params)
    assert [epoch.values for epoch in whole.history] == [epoch.values for epoch in streamed.history]


@pytest.mark.parametrize(
    ("chunk_bytes", "steps_per_chunk", "completed"), [(1, 2, 5), (1, 2, 7), (1, 2, 8), (400, 3, 10), (9999, 7, 8)]
)
def test_training_resumes_from_any_position(rng, monkeypatch, chunk_bytes, steps_per_chunk, completed):
    """Seven steps per epoch, in chunks of two, three and all; the first chunk read contains the next step."""
    monkeypatch.setattr(stream, "THREADS", 1)
    monkeypatch.setattr(segments, "SEGMENT_SECONDS", 0.0)
    monkeypatch.setattr(stream, "CHUNK_BYTES", chunk_bytes)
    x, y = table(rng)
    read = []

    class RecordingRows:
        shape, dtype = x.shape, x.dtype

        def __len__(self):
            return len(x)

        def __getitem__(self, rows):
            read.append(rows)
            return x[rows]

    net, optimizer = fnet.serial(fnet.dense(1)), optax.adam(0.1)
    data = Stream(RecordingRows(), y)

    def interrupt(event):
        if isinstance(event, Segment) and event.first_step == completed - 1:
            raise KeyboardInterrupt

    half = fit(net, "mse", optimizer, data, epochs=3, batch_size=8, on_event=interrupt)
    assert int(half.train_state.step) == completed
    wait_for_readers()
    read.clear()
    rest = fit(net, "mse", optimizer, data, epochs=3, batch_size=8, start=half.train_state)
    whole = fit(net, "mse", optimizer, (x, y), epochs=3, batch_size=8)
    assert same(rest.train_state._replace(key=0), whole.train_state._replace(key=0))
    assert rest.history[-1].values == whole.history[-1].values
    begin = (completed % 7) // steps_per_chunk * steps_per_chunk * 8
    expected = example_order(0, completed // 7 + 1, 50)[begin : begin + steps_per_chunk * 8]
    assert np.array_equal(next(rows for rows in read if len(rows))[: len(expected)], expected)


def test_scores_of_a_stream(rng, monkeypatch):
    monkeypatch.setattr("fnet.train.evaluate.BATCH_SIZE", 16)
    x, y = table(rng)
    net = fnet.serial(fnet.dense(1))
    params, state = net.init(jax.random.key(0), (3,))
    score = make_score(net, resolve_loss("mse"))
    for size in (1, 15, 16, 17, 50):
        for chunk_bytes in (1, 1 << 9, 1 << 20):
            monkeypatch.setattr(stream, "CHUNK_BYTES", chunk_bytes)
            assert same(score(params, state, Stream(x[:size], y[:size])), score(params, state, (x[:size], y[:size])))


def test_an_error_while_reading_ends_training(rng):
    x, y = table(rng)

    class DamagedRows:
        shape, dtype = x.shape, x.dtype

        def __len__(self):
            return len(x)

        def __getitem__(self, rows):
            if 30 in np.arange(50)[rows]:
                raise DataError("record 30 of file f is damaged")
            return x[rows]

    seen = []
    with pytest.raises(DataError, match="record 30 of file f is damaged"):
        fit(fnet.serial(fnet.dense(1)), "mse", optax.adam(0.1), Stream(DamagedRows(), y), epochs=3, batch_size=8,
            on_event=seen.append)  # fmt: skip
    position = example_order(0, 1, 50).tolist().index(30)
    assert (
        sum(len(event.metrics.loss) for event in seen) == position // 16 * 2
    )  # the chunks before the one with the record
    wait_for_readers()


def test_divergence_is_detected_at_the_same_step(rng):
    x, y = table(rng)
    messages = []
    for data in ((x, y), Stream(x, y)):
        with pytest.raises(Diverged) as error:
            fit(fnet.serial(fnet.dense(1)), "mse", optax.sgd(40.0), data, epochs=200, batch_size=8)
        messages.append((re.sub(r"growing from .*? to .*?;", "", str(error.value)), error.value.train_state.params))
    assert messages[0][0] == messages[1][0]
    assert same(messages[0][1], messages[1][1])
    wait_for_readers()


def test_bad_labels_and_indices_are_refused_before_training(rng, monkeypatch):
    monkeypatch.setattr("fnet.data.arrays.ENTRIES", 6)
    x, y = table(rng)
    labels = np.zeros(50, int)
    labels[33] = 2
    with pytest.raises(ValueError, match="the label of example 33 is 2, but the network has 2 outputs"):
        fit(fnet.serial(fnet.dense(2)), "cross_entropy", optax.sgd(0.1), Stream(x, labels))
    tokens = np.zeros((50, 3), np.int32)
    tokens[44, 1], tokens[45, 0] = 5, 8
    net = fnet.serial(fnet.embedding(5, 2), fnet.flatten(), fnet.dense(1))
    with pytest.raises(
        ValueError,
        match="example 44 contains the index 5, but the first layer of the network takes",
    ):
        fit(net, "mse", optax.sgd(0.1), Stream(tokens, y))


def test_evaluation_and_gradient_check_read_streams(sources):
    """Evaluation gives the same result on a stream as in memory; gradients can be checked on a stream."""
    results = []
    for where in ("true", "false"):
        chosen = experiment(sources["float"], "[{dense: 3}]", f"data.stream={where}")
        params, state = chosen.net.init(jax.random.key(1), chosen.spec.shape)
        evaluation = evaluate(chosen, params, state)
        results.append((evaluation.scores, evaluation.predictions.tolist(), evaluation.labels.tolist()))
    assert results[0] == results[1]
    streamed = experiment(sources["float"], "[{dense: 3}]", "data.stream=true")
    assert all(check.report.ok for check in check_gradients(streamed, examples=4, after_steps=1))


def test_an_interrupted_process_ends_promptly(sources, tmp_path):
    experiment(sources["float"], NETWORKS["float"])
    handler = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    start = f"{handler}; from fnet.__main__ import main; main()"
    command = [sys.executable, "-c", start, "train", "c.yaml", "data.stream=true", "train.epochs=1000000"]
    train = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "runs" / "c-1" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (log.exists() and log.read_text().count("\n") > 2):
        assert train.poll() is None, train.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    began = time.monotonic()
    train.send_signal(signal.SIGINT)
    _, errors = train.communicate(timeout=30)
    assert train.returncode == 130, errors
    assert "Traceback" not in errors
    assert time.monotonic() - began < 10
