"""A Unix socket that lies between a server and its clients and spoils what passes: slow, late, silent, one-way, broken, garbled."""
import contextlib
import os
import random
import selectors
import socket
import threading
import time

PIECE = 16 * 1024


class FaultProxy:
    """Takes the place of the socket file `path`, whose server is reached through it from then on.

    `delay`: seconds that every byte is late; `loss`: the share of pieces that are sent again, so that they and what follows them
    come another 0.2 s later; `bytes_per_second`: of each direction, None: unbounded. What happens to bytes:
    `to_server`, `to_client`: "pass", "drop" (silently: as half-open or one-way links do), "garble" (a bit of each piece).
    """

    def __init__(self, path):
        self.path, self.real = path, f"{path}.real"
        os.rename(path, self.real)
        self.delay, self.loss, self.bytes_per_second = 0.0, 0.0, None
        self.to_server = self.to_client = "pass"
        self.tape = None  # {"to_server": bytearray(), "to_client": bytearray()}: all that comes is noted there
        self.pairs = set()
        self.lock = threading.Lock()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self.real)
            except OSError:
                client.close()
                continue
            with self.lock:
                self.pairs.add((client, server))
            for source, sink, direction in ((client, server, "to_server"), (server, client, "to_client")):
                threading.Thread(target=self._pump, args=(source, sink, direction), daemon=True).start()

    def _pump(self, source, sink, direction):
        waiting = []  # (when it is due, bytes)
        readable = selectors.DefaultSelector()
        readable.register(source, selectors.EVENT_READ)
        try:
            open_ended = True
            while open_ended or waiting:
                now = time.monotonic()
                due = waiting[0][0] - now if waiting else None
                if open_ended and readable.select(None if due is None else max(0, due)):
                    piece = source.recv(PIECE)
                    open_ended = bool(piece)
                    if self.tape is not None:
                        self.tape[direction] += piece
                    fate = getattr(self, direction)
                    if piece and fate != "drop":
                        if fate == "garble":
                            piece = bytes([piece[0] ^ 0x10]) + piece[1:]
                        again = 0.2 if random.random() < self.loss else 0.0
                        waiting.append((time.monotonic() + self.delay + again, piece))
                elif due is not None and due > 0:
                    threading.Event().wait(due)
                while waiting and waiting[0][0] <= time.monotonic():
                    piece = waiting.pop(0)[1]
                    sink.sendall(piece)
                    if self.bytes_per_second:
                        threading.Event().wait(len(piece) / self.bytes_per_second)
        except OSError:
            pass
        finally:
            readable.close()
            for end in (source, sink):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def reset(self):
        """Every connection that stands breaks."""
        with self.lock:
            pairs, self.pairs = self.pairs, set()
        for pair in pairs:
            for end in pair:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def heal(self):
        """Bytes pass again; connections that lack some are not patched up, as TCP would not."""
        holes = (self.to_server, self.to_client) != ("pass", "pass")
        self.delay, self.loss, self.bytes_per_second = 0.0, 0.0, None
        self.to_server = self.to_client = "pass"
        if holes:
            self.reset()

    def close(self):
        self.listener.close()
        self.reset()
        with contextlib.suppress(FileNotFoundError):  # the server took it away when it ended
            os.unlink(self.path)
