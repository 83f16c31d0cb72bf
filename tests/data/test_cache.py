"""The cache of decoded arrays: hits, corruption, a full disk, two processes, and kills at any time."""

import errno
import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fnet.data import cache

KEY = {"name": "squares", "content": "abc", "size": [28, 28]}


@pytest.fixture(autouse=True)
def _isolated_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


class Decoder:
    """Decoder that counts its calls."""

    def __init__(self, **arrays):
        self.arrays = arrays or {"x": np.arange(12, dtype=np.float32).reshape(3, 4), "y": np.array([1, 0, 1])}
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return self.arrays


def entry_path():
    (path,) = cache.folder().iterdir()
    return path


def worker(body):
    """Start a process that uses the cache of this test."""
    text = f"import os, signal, sys, time\nimport numpy as np\nfrom fnet.data import cache\nKEY = {KEY!r}\n{body}"
    return subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_second_request_decodes_nothing_and_returns_the_same_arrays():
    decode = Decoder(
        x=np.arange(6, dtype=np.uint8).reshape(2, 3)[:, ::-1],
        y=np.array(["a", "bcd"]),
        none=np.zeros((0, 3), np.float32),
        scalar=np.array(2.5),
    )
    for _ in range(2):
        arrays = cache.cached(KEY, decode)
        assert list(arrays) == list(decode.arrays)
        for name, array in arrays.items():
            assert array.dtype == decode.arrays[name].dtype
            assert np.array_equal(array, decode.arrays[name])
            assert not array.flags.writeable
            assert type(array) is np.ndarray
    assert decode.calls == 1
    assert isinstance(arrays["x"].base, np.memmap)


def test_every_part_of_the_key_matters():
    decode = Decoder()
    for key in (KEY, KEY | {"content": "abd"}, KEY | {"size": [28, 29]}, KEY | {"more": 1}):
        cache.cached(key, decode)
    assert decode.calls == 4
    cache.cached(dict(reversed(KEY.items())), decode)
    assert decode.calls == 4


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def edit_checksum(path):
    manifest = json.loads(path.read_text())
    manifest["files"]["x"][4] += 1
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("0.npy", flip),
        ("1.npy", lambda path: os.truncate(path, path.stat().st_size - 1)),
        ("1.npy", lambda path: os.truncate(path, 0)),
        ("0.npy", lambda path: path.unlink()),
        ("0.npy", lambda path: path.write_bytes(path.read_bytes().replace(b"<f4", b"<i4", 1))),
        ("0.npy", lambda path: path.write_bytes(path.read_bytes().replace(b"(3, 4)", b"(4, 3)", 1))),
        ("manifest.json", lambda path: path.unlink()),
        ("manifest.json", lambda path: path.write_text('{"files": ')),
        ("manifest.json", lambda path: path.write_text("[]")),
        ("manifest.json", edit_checksum),
    ],
)
def test_a_corrupt_entry_is_decoded_again(file, damage):
    decode = Decoder()
    cache.cached(KEY, decode)
    damage(entry_path() / file)
    for _ in range(2):
        assert np.array_equal(cache.cached(KEY, decode)["x"], decode.arrays["x"])
    assert decode.calls == 2


def test_errors_of_decoding_propagate_and_leave_nothing_behind():
    def decode():
        raise OSError("the file is damaged")

    with pytest.raises(OSError, match="the file is damaged"):
        cache.cached(KEY, decode)
    assert list(cache.folder().iterdir()) == []


def test_objects_are_refused():
    with pytest.raises(TypeError, match="the array 'x' contains Python objects"):
        cache.cached(KEY, Decoder(x=np.array([{}, None])))
    assert list(cache.folder().iterdir()) == []


def test_on_a_full_disk_the_arrays_are_returned_in_memory_and_nothing_remains():
    """The system refuses files larger than 4 KiB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    decode = Decoder(x=np.ones(10_000))
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.warns(cache.CacheWarning, match=r"cannot be cached in .*fnet/data \(File too large\)") as warned:
            arrays = cache.cached(KEY, decode)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert np.array_equal(arrays["x"], np.ones(10_000))
    assert "set XDG_CACHE_HOME to another folder" in str(warned[0].message)
    assert list(cache.folder().iterdir()) == []
    assert decode.calls == 1


@pytest.mark.parametrize("moment", ["mkdir", "rename", "write_text"])
def test_a_full_disk_at_any_step_costs_only_the_cache(moment, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    cache.folder().mkdir(parents=True)
    monkeypatch.setattr(f"fnet.data.cache.Path.{moment}", full)
    decode = Decoder()
    with pytest.warns(cache.CacheWarning, match="No space left on device"):
        assert np.array_equal(cache.cached(KEY, decode)["y"], [1, 0, 1])
    assert list(cache.folder().iterdir()) == []
    assert decode.calls == 1


def test_a_cache_that_cannot_be_created_is_not_an_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(cache.CacheWarning, match="Not a directory"):
        cache.cached(KEY, Decoder())
    assert cache.entries() == []


def test_the_warning_is_issued_once():
    body = """
os.environ["XDG_CACHE_HOME"] = "/dev/null"
for name in "ab":
    cache.cached({"name": name}, lambda: {"x": np.ones(3)})
"""
    _, stderr = worker(body).communicate(timeout=60)
    assert stderr.count("CacheWarning") == 1


def test_the_second_of_two_processes_waits_and_decodes_nothing():
    body = """
def decode():
    print("decoding", flush=True)
    time.sleep(0.5)
    return {"x": np.arange(5)}
print(cache.cached(KEY, decode)["x"].tolist())
"""
    both = [worker(body) for _ in range(2)]
    outputs = [process.communicate(timeout=60) for process in both]
    assert all(stdout.endswith("[0, 1, 2, 3, 4]\n") and not stderr for stdout, stderr in outputs)
    assert sum(stdout.count("decoding") for stdout, _ in outputs) == 1


@pytest.mark.parametrize("moment", ["decode", "write", "manifest", "swap"])
def test_a_kill_at_any_step_does_not_affect_the_next_run(moment):
    body = f"""
moment = {moment!r}
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
def decode():
    if moment == "decode":
        die()
    return {{"x": np.arange(5)}}
if moment == "write":
    cache._blocks = die
if moment == "manifest":
    cache.Path.write_text = die
if moment == "swap":
    cache.Path.rename = die
cache.cached(KEY, decode)
"""
    process = worker(body)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert entry_path().suffix == ".partial"
    assert cache.entries() == []
    other = Decoder()
    cache.cached({"name": "other"}, other)
    assert [path.suffix for path in cache.folder().iterdir()] == [""]
    assert np.array_equal(cache.cached(KEY, Decoder(x=np.arange(5)))["x"], np.arange(5))


def test_leftovers_of_a_dead_process_are_not_part_of_the_entry():
    cache.cached(KEY, Decoder())
    partial = entry_path().with_suffix(".partial")
    cache.clear()
    partial.mkdir()
    (partial / "7.npy").write_text("left")
    cache.cached(KEY, Decoder())
    assert sorted(file.name for file in entry_path().iterdir()) == ["0.npy", "1.npy", "manifest.json"]


def test_a_folder_that_is_being_written_is_not_removed():
    body = """
def decode():
    print("decoding", flush=True)
    sys.stdin.read()
    return {"x": np.arange(5)}
"""
    text = f"import sys\nimport numpy as np\nfrom fnet.data import cache\n{body}\nprint(cache.cached({KEY!r}, decode))"
    pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    process = subprocess.Popen([sys.executable, "-c", text], text=True, **pipes)
    assert process.stdout.readline() == "decoding\n"
    cache.cached({"name": "other"}, Decoder())
    cache.clear()
    assert entry_path().suffix == ".partial"
    assert process.communicate(timeout=60)[0] == "{'x': array([0, 1, 2, 3, 4])}\n"
    assert [entry.key["name"] for entry in cache.entries()] == ["squares"]


def test_entries_and_clear():
    assert cache.entries() == []
    assert cache.clear() == 0
    cache.cached(KEY, Decoder())
    arrays = cache.cached({"name": "other"}, Decoder(x=np.zeros(1000)))
    os.utime(next(e for e in cache.entries() if e.key == KEY).path / "manifest.json", (1, 1))
    newest, oldest = cache.entries()
    assert (newest.key, oldest.key) == ({"name": "other"}, KEY)
    assert (oldest.created, abs(newest.created - time.time()) < 60) == (1, True)
    assert newest.size == sum(file.stat().st_size for file in newest.path.iterdir()) > 8000
    assert cache.clear([newest]) == newest.size
    assert arrays["x"].sum() == 0
    assert cache.entries() == [oldest]
    leftover = cache.folder() / "killed.partial"
    leftover.mkdir()
    (leftover / "x.npy").write_bytes(bytes(1000))
    assert cache.clear() == oldest.size + 1000
    assert list(cache.folder().iterdir()) == []


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="the system does not list open files")
def test_folders_are_not_left_open():
    def folders():
        links = (Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd"))
        return [os.readlink(link) for link in links if link.is_dir()]

    before = folders()
    cache.cached(KEY, Decoder())
    cache.cached(KEY, Decoder())
    cache.clear()
    assert folders() == before


def test_the_folder_follows_the_environment(tmp_path, monkeypatch):
    assert cache.folder() == tmp_path / "fnet" / "data"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert str(cache.folder()) == "/home/someone/.cache/fnet/data"


def test_checking_188_megabytes_is_cheap():
    """The limit is ten times the usual duration, for slow machines under load."""
    array = np.zeros((60_000, 28, 28), np.float32)
    began = time.perf_counter()
    cache._checksum(array)
    assert time.perf_counter() - began < 2


def test_an_interrupt_while_another_process_decodes_ends_the_wait(tmp_path, monkeypatch):
    flock, calls = fcntl.flock, []

    def interrupted(handle, operation):
        calls.append(operation)
        if len(calls) == 1:
            raise KeyboardInterrupt
        flock(handle, operation)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(fcntl, "flock", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache.cached({"name": "a"}, lambda: {"x": np.ones(3)})
