"""A TCP proxy on loopback that stops in the middle, or hangs up: what networks do to uploads."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Proxy"]


class Proxy:
    """Passes connections on to *port*. `sent`: bytes that went that way, all told."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.sent = 0
        self._limit: int | None = None
        self._reached: Callable[[], object] = lambda: None
        self._hang_up = 0
        self._lose = 0
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._sockets:
            end.close()

    def hold_after(self, more: int, reached: Callable[[], object]) -> None:
        """Let *more* bytes pass, then none, and call *reached*; until `let_go`."""
        with self._lock:
            self._limit, self._reached = self.sent + more, reached

    def hang_up_on(self, connections: int) -> None:
        """Close the next *connections* as soon as something is sent on them."""
        with self._lock:
            self._hang_up = connections

    def lose_answers(self, connections: int) -> None:
        """Close the next *connections* that are answered, in place of passing the answer on."""
        with self._lock:
            self._lose = connections

    def let_go(self) -> None:
        """Pass on what comes from here on."""
        with self._lock:
            self._limit = None

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            self._sockets += [near, far]
            threading.Thread(target=self._up, args=(near, far), daemon=True).start()
            threading.Thread(target=self._down, args=(far, near), daemon=True).start()

    def _up(self, near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := near.recv(16_384):
                if not self._may_pass(len(data)):
                    break
                far.sendall(data)
        for end in (near, far):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _may_pass(self, size: int) -> bool:
        """Whether the connection goes on; when it does not, this is where it ends."""
        with self._lock:
            if self._hang_up:
                self._hang_up -= 1
                return False
            if self._limit is None or self.sent + size <= self._limit:
                self.sent += size
                return True
            reached, self._reached = self._reached, lambda: None
        reached()
        return False

    def _down(self, far: socket.socket, near: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := far.recv(16_384):
                if self._is_lost():
                    far.shutdown(socket.SHUT_RDWR)
                    break
                near.sendall(data)
            near.shutdown(socket.SHUT_WR)

    def _is_lost(self) -> bool:
        with self._lock:
            lost = self._lose > 0
            self._lose -= lost
            return lost
