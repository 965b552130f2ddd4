"""A way to a server that a test can shut, silence, freeze, or stop at a word."""

from __future__ import annotations

import select
import socket
import threading
from contextlib import closing, suppress

IDLE = b"Z\0\0\0\5I"
"""What ends PostgreSQL's answer outside a transaction: ReadyForQuery, idle."""


class Gate:
    """A TCP forwarder that can be shut, as in an outage, and opened again on the same port."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        with closing(socket.create_server(("127.0.0.1", 0))) as probe:
            self.port: int = probe.getsockname()[1]
        self._silent = False
        self._listener: socket.socket | None = None
        self._open: list[socket.socket] = []
        self._clients: set[socket.socket] = set()
        self._asking: set[socket.socket] = set()
        self._flowing = threading.Event()
        self._flowing.set()
        self._word: tuple[bytes, bool] | None = None
        self.stopped = threading.Event()
        """Set once a connection has stopped at the word of `stop_at`."""

    def open(self) -> None:
        """Let connections through."""
        self._listen(silent=False)

    def hang(self) -> None:
        """Cut connections, and from now on accept new ones without ever answering."""
        self._listen(silent=True)

    def _listen(self, silent: bool) -> None:
        self.shut()
        self._silent = silent
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def freeze(self) -> None:
        """Keep all connections and accept new ones, but let nothing through until `thaw`: a server that stands still."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Let everything through again, with what has gathered meanwhile."""
        self._flowing.set()

    def shut(self) -> None:
        """Refuse new connections and cut those there are."""
        for each in [self._listener, *self._open]:
            if each is not None:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()
        self._listener, self._open = None, []
        self._clients.clear()

    def is_idle(self) -> bool:
        """Whether no client is in a transaction, nor anything on its way to the server, a PostgreSQL's."""
        poller = select.poll()
        for client in list(self._clients):
            poller.register(client, select.POLLIN)
        # In this order: what is read meanwhile is asked by then.
        return not poller.poll(0) and not self._asking

    def clients(self) -> str:
        """What keeps it from being idle."""
        return f"{len(self._clients)} clients, {len(self._asking)} of them in a transaction"

    def stop_at(self, word: bytes, *, delivered: bool) -> None:
        """Stop the next connection whose client sends `word`.

        Where it is `delivered`, the server gets it and its answer is lost; else the server never hears of it. The connection
        itself lives as long as the client.
        """
        self.stopped.clear()
        self._word = (word, delivered)

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                if self._silent:
                    self._open.append(near)
                    continue
                far = socket.create_connection(self._target)
                self._open += [near, far]
                self._clients.add(near)
                mute = threading.Event()
                threading.Thread(target=self._ask, args=(near, far, mute), daemon=True).start()
                threading.Thread(target=self._answer, args=(far, near, mute), daemon=True).start()

    def _ask(self, near: socket.socket, far: socket.socket, mute: threading.Event) -> None:
        with suppress(OSError):
            while near.recv(1, socket.MSG_PEEK):
                self._asking.add(near)
                data = near.recv(65536)
                self._flowing.wait()
                if self._word and self._word[0] in data:
                    delivered, self._word = self._word[1], None
                    mute.set()
                    if delivered:
                        far.sendall(data)
                    self.stopped.set()
                    while near.recv(65536):
                        pass
                    break
                far.sendall(data)
        self._clients.discard(near)
        self._asking.discard(near)
        with suppress(OSError):
            far.shutdown(socket.SHUT_WR if not mute.is_set() else socket.SHUT_RDWR)

    def _answer(self, far: socket.socket, near: socket.socket, mute: threading.Event) -> None:
        with suppress(OSError):
            while data := far.recv(65536):
                self._flowing.wait()
                if data.endswith(IDLE):
                    self._asking.discard(near)
                if not mute.is_set():
                    near.sendall(data)
        with suppress(OSError):
            near.shutdown(socket.SHUT_WR)
