"""Requests to stop a run: Ctrl-C, termination, and a terminal that is closed."""

import contextlib
import gc
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Container, Iterator
from types import CodeType, FrameType

REACTION_SECONDS = 1.0
"""Time that the main thread has to react to a signal. Inside compiled code it cannot."""

_WORDS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "the terminal was closed"}
"""What the signals that ask a program to stop mean, by their names."""


def _callbacks_of_the_collector() -> list[CodeType]:
    """Return the code of the functions that Python calls when it collects garbage, such as JAX's."""
    return [callback.__code__ for callback in gc.callbacks if hasattr(callback, "__code__")]


class Interrupted(KeyboardInterrupt):
    """A signal asked the program to stop.

    Args:
        number: the signal.
        details: further text of the message, such as the folder of the run.
    """

    def __init__(self, number: int, details: str = ""):
        super().__init__(word(number) + details)
        self.number = number
        self.exit_status = 128 + number


def word(number: int) -> str:
    """Return what a signal means.

    >>> word(signal.SIGTERM)
    'terminated'
    """
    return _WORDS[signal.Signals(number).name]


class StopRequests:
    """The signals SIGINT, SIGTERM and SIGHUP, which stop a run at a safe point.

    By default a signal raises `Interrupted` at once. While requests are deferred, the first one is pending until
    `raise_if_pending`, and a second one raises at once, because the user insists. If the main thread does not react,
    because it waits for compiled code, a request that is not deferred ends the process.

    Attributes:
        deferred: whether the first request waits for a safe point.
        number: the first signal that was received; None before that.
        last_words: called before a process ends whose main thread does not react; returns further text of the message.
    """

    def __init__(self):
        self.deferred = False
        self.number: int | None = None
        self.last_words: Callable[[], str] = str
        self._pending: int | None = None
        self._arrivals: socket.socket | None = None

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """Receive the signals within the context; those that the program ignores, as under nohup, stay ignored."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        signals = [getattr(signal, name) for name in _WORDS if hasattr(signal, name)]
        arrivals, wakeup = socket.socketpair()  # Python writes the number of every signal into `wakeup` at once
        arrivals.setblocking(False)
        wakeup.setblocking(False)
        self._arrivals = arrivals
        handled = [number for number in signals if signal.getsignal(number) is not signal.SIG_IGN]
        threading.Thread(target=self._watch, args=(arrivals, handled), daemon=True).start()
        wakeup_before = signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        before = {number: signal.signal(number, self._receive) for number in handled}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup_before)
            wakeup.close()  # which ends the watching thread

    def raise_if_pending(self) -> None:
        """Raise the pending request, if there is one.

        Raises:
            Interrupted: the request.
        """
        if self._pending is not None:
            number, self._pending = self._pending, None
            raise Interrupted(number)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        """React to a signal, in the main thread."""
        if self._arrivals is not None:
            with contextlib.suppress(BlockingIOError):
                self._arrivals.recv(64)
        at_once = self._pending is not None or not self.deferred
        if at_once and frame is not None and frame.f_code in _callbacks_of_the_collector():
            threading.Timer(0.01, os.kill, (os.getpid(), number)).start()  # Python would ignore the exception here
            return
        self._pending = number
        self.number = self.number or number
        if at_once:
            raise Interrupted(number)

    def _watch(self, arrivals: socket.socket, handled: Container[int]) -> None:
        """End the process if the main thread does not react to a request that is not deferred."""
        with arrivals:
            while True:
                select.select([arrivals], [], [])
                time.sleep(REACTION_SECONDS)
                try:
                    arrived = arrivals.recv(64, socket.MSG_PEEK)
                except BlockingIOError:
                    continue
                if not arrived:
                    return
                unanswered = [number for number in arrived if number in handled]
                if len(unanswered) + (self._pending is not None) > self.deferred:
                    self._end(self.number or unanswered[0])

    def _end(self, number: int) -> None:
        with contextlib.suppress(Exception):
            os.write(2, f"{word(number)}{self.last_words()}\n".encode())
        os._exit(128 + number)
