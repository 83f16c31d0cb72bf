"""Requests to stop: at once, deferred, and while the main thread cannot react."""

import gc
import signal
import subprocess
import sys
import time

import pytest

from fnet.runs.stop import Interrupted, StopRequests


@pytest.fixture
def stop():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    stop = StopRequests()
    with stop.handled():
        yield stop
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("number", "status", "text"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),
        (signal.SIGHUP, 129, "the terminal was closed"),
    ],
)
def test_a_signal_raises_at_once(number, status, text, stop):
    with pytest.raises(Interrupted, match=f"^{text}$") as interrupted:
        signal.raise_signal(number)
    assert (interrupted.value.exit_status, stop.number) == (status, number)


def test_a_deferred_signal_waits_for_a_safe_point(stop):
    stop.deferred = True
    stop.raise_if_pending()
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="terminated"):
        stop.raise_if_pending()
    stop.raise_if_pending()


def test_a_second_signal_raises_and_stays_pending(stop):
    stop.deferred = True
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="interrupted"):
        signal.raise_signal(signal.SIGINT)
    assert stop.number == signal.SIGTERM
    with pytest.raises(Interrupted, match="interrupted"):
        stop.raise_if_pending()


def test_a_signal_during_garbage_collection_is_delivered_after_it(stop):
    """Python only prints an exception that is raised in a callback of the collector."""

    def callback(phase, info):
        if phase == "start":
            signal.raise_signal(signal.SIGTERM)

    gc.callbacks.append(callback)
    try:
        gc.collect()
    finally:
        gc.callbacks.remove(callback)
    with pytest.raises(Interrupted, match="terminated"):
        time.sleep(10)


def test_signals_that_a_program_ignores_stay_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequests().handled():
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_process_that_cannot_react_ends():
    """The main thread waits for a lock of the system, as it waits for compiled code."""
    program = """
import ctypes, threading
from fnet.runs.stop import StopRequests

stop = StopRequests()
stop.last_words = lambda: "; the run is in x"
with stop.handled():
    mutex, system = ctypes.create_string_buffer(64), ctypes.CDLL(None)
    system.pthread_mutex_lock(mutex)
    threading.Timer(0.3, print, ["waiting"], {"flush": True}).start()
    system.pthread_mutex_lock(mutex)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "waiting\n"
    process.terminate()
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (143, "terminated; the run is in x\n")
