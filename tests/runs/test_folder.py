"""A run's folder: its name, the lock of a running run, and what a killed one leaves."""

import fcntl
import json
import os

import pytest

from fnet.runs import files, folder
from fnet.runs.code import only_trusted
from fnet.runs.folder import FolderError
from fnet.runs.model_file import load_model


def killed(out, name, *records):
    """A run's folder as the process left it that was killed while it wrote the model file."""
    run = folder.create(str(out), name)
    (run / "environment.json").write_text("{}")
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records) + '{"event": "ep')
    (run / ".model.safetensors-abcd1234").write_text("a part")
    return run


def names(run):
    return sorted(path.name for path in run.iterdir())


def test_a_tilde_is_the_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folder.create("~/runs", "a") == tmp_path / "runs" / "a-1"
    with pytest.raises(FolderError, match="the output folder '~nobody-has-this-name': the home folder is unknown"):
        folder.create("~nobody-has-this-name", "a")


def test_a_name_that_is_too_long_is_blamed_itself(tmp_path):
    with pytest.raises(FolderError, match=r"name: .* may have 255 bytes in .* the name has 300; .* name=NAME"):
        folder.create(str(tmp_path), "é" * 150)
    with pytest.raises(FolderError, match=r"the output folder 'x+' cannot be written: File name too long"):
        folder.create("x" * 300, "a")


def test_the_next_run_removes_the_temporary_files_of_killed_runs(tmp_path):
    first, other = killed(tmp_path, "a"), tmp_path / "other"
    other.mkdir()
    kept = [first / ".mine-abcd1234", first / ".model.safetensors-x", other / "model.safetensors-abcd1234"]
    for path in kept:
        path.write_text("")
    run = folder.create(str(tmp_path), "b")
    with folder.claimed(run):
        assert names(first) == [".mine-abcd1234", ".model.safetensors-x", "environment.json", "metrics.jsonl"]
    assert all(path.exists() for path in kept)


def test_the_temporary_files_of_a_running_run_stay(tmp_path):
    first = killed(tmp_path, "a")
    with folder.claimed(first), folder.claimed(folder.create(str(tmp_path), "b")):
        assert ".model.safetensors-abcd1234" in names(first)


def test_a_running_run_is_locked_exclusively(tmp_path):
    """Even a shared lock, with which several processes can ask whether it is running, is refused."""
    run = folder.create(str(tmp_path), "a")
    handle = os.open(run, os.O_RDONLY)
    with folder.claimed(run), pytest.raises(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    os.close(handle)


def test_a_run_that_is_not_finished_says_why(tmp_path):
    epochs = [{"event": "epoch", "epoch": 1}, {"event": "epoch", "epoch": 2}]
    run = killed(tmp_path, "a", *epochs)
    with pytest.raises(
        FolderError, match=r"a-1 is not a finished run: it was killed or its disk was full after 2 epochs, before its"
    ):
        load_model(run)
    with folder.claimed(run):
        assert folder.why_unfinished(run) == "it is still running, and has completed 2 epochs; wait for its end"
    failed = killed(tmp_path, "b", *epochs, {"event": "failed", "reason": "the loss is NaN"})
    assert folder.why_unfinished(failed) == "it failed: the loss is NaN"
    stopped = killed(tmp_path, "c", *epochs[:1], {"event": "end", "stopped": "interrupted"})
    assert folder.why_unfinished(stopped) == "it was interrupted after 1 epochs, and its parameters were not saved"


@pytest.mark.parametrize("line", ['{"event": "epoch"}', '{"event": "epoch", "epoch": [1]}', "[" * 10**5, "9" * 5000])
def test_a_damaged_log_is_read_as_far_as_possible(tmp_path, line):
    run = killed(tmp_path, "a", {"event": "epoch", "epoch": 2})
    with (run / "metrics.jsonl").open("a") as file:
        file.write(f"\n{line}\n")
    assert folder.why_unfinished(run).startswith("it was killed or its disk was full after 2 epochs")


def test_files_of_a_run_that_never_end_are_not_read(tmp_path):
    run = killed(tmp_path, "a")
    (run / "metrics.jsonl").unlink()
    os.mkfifo(run / "metrics.jsonl")
    assert folder.why_unfinished(run).startswith("it was killed or its disk was full after 0 epochs")
    for kind in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        (run / "environment.json").unlink()
        kind(run / "environment.json")
        with pytest.raises(FolderError, match="is not a finished run"), only_trusted(run):
            load_model(run)


def test_a_folder_that_is_not_of_a_run_was_not_killed(tmp_path):
    assert folder.why_unfinished(tmp_path) == ""
    with pytest.raises(FolderError, match=r"is not a finished run: it does not contain model\.safetensors"):
        load_model(tmp_path)


def test_a_line_that_does_not_fit_on_the_disk_is_not_begun(monkeypatch, tmp_path):
    """The write of a full disk returns how much fitted."""
    log = tmp_path / "metrics.jsonl"
    files.append(log, {"a": 1})
    before = log.read_bytes()
    open_file = type(log).open

    def opened(path, mode, **settings):
        file = open_file(path, mode, **settings)

        class Full:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                file.close()

            def tell(self):
                return file.tell()

            def truncate(self, size):
                return file.truncate(size)

            def write(self, data):
                return file.write(data[:3])

        return Full()

    monkeypatch.setattr(type(log), "open", opened)
    with pytest.raises(OSError, match="No space left on device"):
        files.append(log, {"b": 2})
    monkeypatch.undo()
    assert log.read_bytes() == before == b'{"a": 1}\n'
