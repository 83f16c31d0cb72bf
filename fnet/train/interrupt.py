"""Ctrl-C and termination, deferred to a safe point."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def defer_interrupts() -> Iterator[Callable[[], None]]:
    """Defer SIGINT, and SIGTERM if the program handles it, until the function that this yields is called.

    That function raises KeyboardInterrupt if a signal is pending. A second signal while one is pending raises at once,
    because the user insists. Outside the main thread, which does not receive signals, nothing is deferred.
    """
    pending: list[int] = []
    before = {}

    def defer(number: int, _: object) -> None:
        if pending:
            raise KeyboardInterrupt
        pending.append(number)

    def raise_if_pending() -> None:
        if pending:
            raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        handled = [number for number in (signal.SIGINT, signal.SIGTERM) if callable(signal.getsignal(number))]
        before = {number: signal.signal(number, defer) for number in handled}
    try:
        yield raise_if_pending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
