"""Ctrl-C, deferred to a safe point."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def defer_interrupts() -> Iterator[Callable[[], None]]:
    """Defer Ctrl-C until the function that this yields is called; that function raises KeyboardInterrupt.

    A second Ctrl-C while one is pending raises at once, because the user insists. Nothing is deferred in a program that
    handles Ctrl-C itself, and outside the main thread, which does not receive signals.
    """
    pending: list[int] = []

    def defer(number: int, _: object) -> None:
        if pending:
            raise KeyboardInterrupt
        pending.append(number)

    def raise_if_pending() -> None:
        if pending:
            raise KeyboardInterrupt

    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield raise_if_pending
        return
    signal.signal(signal.SIGINT, defer)
    try:
        yield raise_if_pending
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
