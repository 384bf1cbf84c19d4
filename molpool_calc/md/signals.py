"""Listening for Ctrl-C and SIGTERM while a run goes on."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Notes the first SIGINT or SIGTERM, and raises KeyboardInterrupt at the second."""

    received = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.received:
            raise KeyboardInterrupt
        self.received = True


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Listen for signals; only the main thread gets them, others hear of none."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, request) for number in numbers]
    try:
        yield request
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
