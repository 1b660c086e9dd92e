"""A collector of OpenTelemetry for tests: takes OTLP's protobuf over HTTP, by a reader of its own."""
import dataclasses
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def fields(data):
    """Field number -> values, in order: ints of varints, bytes of the rest."""
    out, at = {}, 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    while at < len(data):
        tag = varint()
        kind = tag & 7
        if kind == 0:
            value = varint()
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, at = data[at:at + size], at + size
        elif kind == 2:
            size = varint()
            value, at = data[at:at + size], at + size
            if len(value) != size:
                raise ValueError("a field is cut off")
        else:
            raise ValueError(f"wire type {kind}")
        out.setdefault(tag >> 3, []).append(value)
    return out


def any_value(data):
    value = fields(data)
    if 1 in value:
        return value[1][0].decode()
    if 2 in value:
        return bool(value[2][0])
    if 3 in value:
        number = value[3][0]
        return number - (1 << 64) if number >> 63 else number
    return struct.unpack("<d", value[4][0])[0]


def attributes(values):
    return {pair[1][0].decode(): any_value(pair[2][0]) for pair in map(fields, values)}


@dataclasses.dataclass
class Span:
    trace: str
    id: str
    parent: str
    name: str
    kind: int
    begin: int
    end: int
    attributes: dict
    links: list
    error: str
    state: str


def read_span(data):
    span = fields(data)
    status = fields(span[15][0]) if 15 in span else {}
    return Span(trace=span[1][0].hex(), id=span[2][0].hex(), parent=span.get(4, [b""])[0].hex(), name=span[5][0].decode(),
                kind=span[6][0], begin=struct.unpack("<Q", span[7][0])[0], end=struct.unpack("<Q", span[8][0])[0],
                attributes=attributes(span.get(9, [])), links=[fields(link)[2][0].hex() for link in span.get(13, [])],
                error=status.get(2, [b""])[0].decode() if status.get(3) == [2] else "", state=span.get(3, [b""])[0].decode())


@dataclasses.dataclass
class LogRecord:
    service: str
    time: int
    severity: str
    body: str
    trace: str
    event: str


def read_log(data, service):
    record = fields(data)
    return LogRecord(service=service, time=struct.unpack("<Q", record[1][0])[0], severity=record[3][0].decode(), body=any_value(record[5][0]),
                     trace=record.get(9, [b""])[0].hex(), event=record.get(12, [b""])[0].decode())


class Collector:
    """Keeps the spans of what it gets at /v1/traces, and the records of /v1/logs; `refusals` first answers to traces are 503."""

    def __init__(self, refusals=0):
        self.lock = threading.Lock()
        self.spans, self.resources, self.headers, self.posts, self.refusals = [], [], [], 0, refusals
        self.logs = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = outer.take(self.path, self.headers, body)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *words):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def take(self, path, headers, body):
        with self.lock:
            if path == "/v1/logs":
                return self.take_logs(headers, body)
            self.posts += 1
            if self.refusals > 0:
                self.refusals -= 1
                return 503
            if path != "/v1/traces" or headers.get("Content-Type") != "application/x-protobuf":
                return 400
            self.headers.append(headers)
            for of_resource in map(fields, fields(body).get(1, [])):
                self.resources.append(attributes(fields(of_resource[1][0])[1]))
                for of_scope in map(fields, of_resource.get(2, [])):
                    self.spans += [read_span(span) for span in of_scope.get(2, [])]
            return 200

    def take_logs(self, headers, body):
        if headers.get("Content-Type") != "application/x-protobuf":
            return 400
        for of_resource in map(fields, fields(body).get(1, [])):
            service = attributes(fields(of_resource[1][0])[1])["service.name"]
            for of_scope in map(fields, of_resource.get(2, [])):
                self.logs += [read_log(record, service) for record in of_scope.get(2, [])]
        return 200

    def traces(self):
        """Trace id -> its spans so far, in the order in which they came."""
        out = {}
        with self.lock:
            for span in self.spans:
                out.setdefault(span.trace, []).append(span)
        return out

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
