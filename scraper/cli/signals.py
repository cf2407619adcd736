"""Signals at the end of a crawl that was stopped by one."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterable

__all__ = ["heard_enough"]


def heard_enough(loop: asyncio.AbstractEventLoop, numbers: Iterable[int]) -> None:
    """The crawl has stopped as it was asked to: one signal more must not change how it is told.

    What is left is a summary and the interpreter's own end, where a default handler would end the
    process by the signal or by a traceback. The mask closes the gap between the two handlers.
    """
    numbers = set(numbers)
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        for number in numbers:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
