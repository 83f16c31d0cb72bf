"""Ctrl-C and kill, held back to moments at which nothing is torn."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def defer_interrupts() -> Iterator[Callable[[], None]]:
    """Holds back SIGINT, and SIGTERM where the program handles it, until the function that this gives is called.

    That function raises the KeyboardInterrupt that is due, if any. A second signal while one is held back raises at
    once: whoever is at the keyboard means it. Outside the main thread, where no signals arrive, nothing is held.
    """
    due: list[int] = []
    before = {}

    def hold(number: int, _: object) -> None:
        if due:
            raise KeyboardInterrupt
        due.append(number)

    def check() -> None:
        if due:
            raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        handled = [number for number in (signal.SIGINT, signal.SIGTERM) if callable(signal.getsignal(number))]
        before = {number: signal.signal(number, hold) for number in handled}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
