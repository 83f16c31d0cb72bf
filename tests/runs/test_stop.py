"""Requests to stop: at once, deferred, and while the main thread cannot react."""

import gc
import signal
import subprocess
import sys
import threading
import time

import pytest

from fnet.runs.stop import Interrupted, StopRequests


@pytest.fixture
def stop():
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGHUP)}
    stop = StopRequests()
    with stop.handled():
        yield stop
    for number, handler in before.items():
        signal.signal(number, handler)


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
        gc.callbacks.remove(callback)
        signal.raise_signal(signal.SIGTERM)

    def collect():
        gc.callbacks.append(callback)
        gc.collect()
        time.sleep(10)

    with pytest.raises(Interrupted, match="terminated"):
        collect()


def test_a_signal_in_a_finalizer_is_delivered_after_it(stop):
    class Finalized:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    def finalize():
        Finalized()
        time.sleep(10)

    with pytest.raises(Interrupted, match="terminated"):
        finalize()


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


def test_two_signals_that_arrive_together_are_both_received(stop):
    """Python is told of both before its first handler runs. A third one ends a second handler that waits."""
    stop.deferred, both, main = True, {signal.SIGTERM, signal.SIGHUP}, threading.main_thread().ident
    rescue = threading.Timer(20, signal.pthread_kill, (main, signal.SIGTERM))
    rescue.start()
    began = time.perf_counter()
    signal.pthread_sigmask(signal.SIG_BLOCK, both)
    for number in both:
        signal.pthread_kill(main, number)
    with pytest.raises(Interrupted):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, both)
    rescue.cancel()
    assert time.perf_counter() - began < 15
    with pytest.raises(Interrupted):
        stop.raise_if_pending()
