"""The probe: a program that parses pages which may be too costly, so that nothing else suffers.

Started by `scraper.parsing` as a process of its own, by its file, with what it needs of Python and
selectolax and no more. On its standard input come pages, each as eight bytes of length (big
endian) and the markup; for each that can be parsed, and matched, within its limits goes one byte
to its standard output. There is no other answer: a page that is too much ends the process, by a
signal or by the lack of memory, and that is noticed on the other side of the pipe. It ends, too,
when the pipe does: it never outlives its crawl by more than the page in its hands.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from contextlib import suppress

__all__ = ["FINE", "LENGTH", "MATCH", "MEMORY", "NO_MEMORY", "PATIENCE", "SECONDS", "main"]

MEMORY = 1_000_000_000
"""Bytes of address space: of the interpreter, the page, and its tree."""
SECONDS = 2.0
"""Of processor time for one page, so that a busy machine makes no page costly. The crawl needs as
much again for what passes."""
PATIENCE = 20.0
"""Seconds for one page, however busy the machine."""
LENGTH = 8
FINE = b"+"
NO_MEMORY = 3
"""The exit code of a process whose memory does not suffice."""
MATCH = "x-none * [href]"
"""What costs most in deep pages: it looks for what is not there, above each link, at each depth."""


def limit() -> None:
    """Bind this process: memory, no file, no core; nothing of it can be exceeded by a page."""
    with suppress(OSError, ValueError):  # not everywhere can each of them be set
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def deadline(seconds: float, patience: float) -> None:
    """The kernel ends this process after so long, whatever it is at; 0 lifts that."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, patience)


def main() -> None:
    """Answer until the other side closes the pipe. *argv*: where selectolax lies."""
    sys.path += sys.argv[1:]
    from selectolax.lexbor import LexborHTMLParser, SelectolaxError

    limit()
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    source = sys.stdin.buffer
    while len(head := source.read(LENGTH)) == LENGTH:
        size = int.from_bytes(head, "big")
        markup = source.read(size)
        if len(markup) < size:
            break
        deadline(SECONDS, PATIENCE)
        try:
            tree = LexborHTMLParser(markup)
            tree.css(MATCH)
        except (MemoryError, SelectolaxError):  # lexbor gives up for no other reason
            os._exit(NO_MEMORY)
        del markup, tree
        deadline(0, 0)
        os.write(1, FINE)
    os._exit(0)


if __name__ == "__main__":
    main()
