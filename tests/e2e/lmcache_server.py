"""A remote store in this process that speaks the protocol of docs/lmcache.md, written from that page alone, with faults on request."""
import socket
import struct
import threading

REQUEST = struct.Struct("<9i150s")
REPLY = struct.Struct("<9i")
PUT, GET, EXIST, LIST, HEALTH = 1, 2, 3, 4, 5
THERE, NOT_THERE = 200, 400


def key_parts(text):
    """MODEL@WORLD_SIZE@WORKER_ID@HASH@DTYPE as something to compare; ValueError if it is none."""
    model, world, worker, block, dtype = text.split("@")
    return model, int(world), int(worker), int(block, 16), dtype


class Server:
    """`with Server() as server: server.url`. `server.values[key] = (format, dtype, shape, bytes)`. `server.fault`, if set, is one of FAULTS."""

    FAULTS = ("close", "half head", "half value", "long length", "short length", "negative length", "huge length", "code", "wrong value",
              "bits", "stall", "dribble", "noise", "more")

    def __init__(self, port=0):
        self.values, self.calls, self.fault = {}, [], None
        self.lock = threading.Lock()
        self.ending = threading.Event()
        self.connections = set()
        self.bad_keys = []
        self.listener = socket.create_server(("127.0.0.1", port))
        self.port = self.listener.getsockname()[1]
        self.url = f"lm://127.0.0.1:{self.port}"

    def __enter__(self):
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *arguments):
        self.stop()

    def stop(self):
        """As one that is killed: the port is closed and every connection with it."""
        self.ending.set()
        with self.lock:
            sockets = [self.listener, *self.connections]
        for one in sockets:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            one.close()

    def accept(self):
        while not self.ending.is_set():
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                self.connections.add(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    @staticmethod
    def receive(connection, size):
        data = bytearray()
        while len(data) < size:
            piece = connection.recv(min(size - len(data), 1 << 20))
            if not piece:
                return None
            data += piece
        return bytes(data)

    def serve(self, connection):
        try:
            while True:
                head = self.receive(connection, REQUEST.size)
                if head is None:
                    return
                command, length, form, dtype, location, *shape, key = REQUEST.unpack(head)
                key = key.decode("ascii").rstrip(" ")
                self.calls.append((command, key))
                try:
                    parts = key_parts(key)
                except ValueError:
                    self.bad_keys.append(key)
                    return
                if command == PUT:
                    value = self.receive(connection, length)
                    if value is None:
                        return
                    with self.lock:
                        self.values[parts] = (form, dtype, tuple(shape), value)
                elif command in (GET, EXIST, HEALTH):
                    with self.lock:
                        found = self.values.get(parts)
                    if not self.answer(connection, command, parts, found):
                        return
        except OSError:
            pass
        finally:
            connection.close()
            with self.lock:
                self.connections.discard(connection)

    def answer(self, connection, command, parts, found):
        """False: the connection is of no use any more."""
        if command == GET and found:
            form, dtype, shape, value = found
            if self.fault:
                return self.spoil(connection, parts, found)
            connection.sendall(REPLY.pack(THERE, len(value), form, dtype, *shape, 0) + value)
        else:
            code = THERE if found or command == HEALTH else NOT_THERE
            connection.sendall(REPLY.pack(code, 0, 1, 2, 0, 0, 0, 0, 0))
        return True

    def spoil(self, connection, parts, found):
        form, dtype, shape, value = found

        def reply(code=THERE, length=len(value), value=value):
            connection.sendall(REPLY.pack(code, length, form, dtype, *shape, 0) + value)
            return True

        fault = self.fault
        if fault == "close":
            return False
        if fault == "half head":
            connection.sendall(REPLY.pack(THERE, len(value), form, dtype, *shape, 0)[:17])
            return False
        if fault == "half value":
            reply(value=value[:len(value) // 2])
            return False
        if fault == "long length":
            return reply(length=len(value) + 1, value=value + b"x")
        if fault == "short length":
            return reply(length=len(value) - 1, value=value[:-1])
        if fault == "negative length":
            return reply(length=-5)
        if fault == "huge length":
            return reply(length=2**31 - 1)
        if fault == "code":
            return reply(code=0)
        if fault == "wrong value":  # another key's, whole
            with self.lock:
                others = [other for key, other in self.values.items() if key != parts and len(other[3]) == len(value)]
            return reply(value=others[0][3] if others else bytes(len(value)))
        if fault == "bits":
            spoilt = bytearray(value)
            spoilt[(hash(parts) % len(value))] ^= 1 << (hash(parts) % 8)
            return reply(value=bytes(spoilt))
        if fault == "stall":
            self.ending.wait(30)
            return False
        if fault == "dribble":
            head = REPLY.pack(THERE, len(value), form, dtype, *shape, 0)
            for byte in head + value:
                connection.sendall(bytes([byte]))
                if self.ending.wait(0.05):
                    return False
            return True
        if fault == "noise":
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            return False
        if fault == "more":  # the value, and then what nobody asked for
            return reply(value=value + b"y" * 100)
        raise AssertionError(fault)
