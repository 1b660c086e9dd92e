"""A gateway as small as can be: asks an endpoint picker over ext-proc, sends the request where that says, tells it of the answer."""
import http.client
import importlib
import pathlib
import queue
import subprocess
import sys
import tempfile

import grpc

FOLDER = pathlib.Path(__file__).resolve().parent
PROCESS = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
HEALTH = "/grpc.health.v1.Health/"
KEY = "x-gateway-destination-endpoint"
PIECE = 7000  # bytes of a body


def load_messages():
    with tempfile.TemporaryDirectory(prefix="pixii-proto-") as out:
        subprocess.run(["protoc", f"--proto_path={FOLDER}", f"--python_out={out}", "ext_proc.proto"], check=True)
        sys.path.insert(0, out)
        try:
            return importlib.import_module("ext_proc_pb2")
        finally:
            sys.path.remove(out)


pb = load_messages()
MODES = pb.ProtocolConfiguration


def header_map(fields):
    return pb.HeaderMap(headers=[pb.HeaderValue(key=k, raw_value=str(v).encode()) for k, v in fields.items()])


def changes(mutation):
    for option in mutation.set_headers:
        assert option.append_action == pb.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD, option
    return {option.header.key: option.header.raw_value.decode() for option in mutation.set_headers}


class Refused(Exception):
    """The picker answered in place of a worker."""

    def __init__(self, immediate):
        super().__init__(f"{immediate.status.code}: {immediate.body!r}")
        self.status, self.body, self.headers = immediate.status.code, immediate.body, changes(immediate.headers)


class Request:
    """One request on its way; `closed` or left, its stream ends."""

    def __init__(self, gateway, path, body, *, mode=MODES.FULL_DUPLEX_STREAMED, headers=(), subset=None, method=None, say_mode=True,
                 trailers=False):
        self.mode, self.trailers = mode, trailers
        self.outgoing = queue.Queue()
        self.incoming = gateway.channel.stream_stream(PROCESS, request_serializer=pb.ProcessingRequest.SerializeToString,
                                                      response_deserializer=pb.ProcessingResponse.FromString)(iter(self.outgoing.get, None))
        self.path, self.method, self.body = path, method or ("GET" if body is None else "POST"), body
        self.headers = {"content-type": "application/json", **dict(headers)}
        first = pb.ProcessingRequest(request_headers=pb.HttpHeaders(
            headers=header_map({":method": self.method, ":path": path, ":authority": "gateway", **self.headers}), end_of_stream=body is None))
        if say_mode:
            first.protocol_config.request_body_mode = first.protocol_config.response_body_mode = mode
        if subset is not None:
            values = first.metadata_context.filter_metadata["envoy.lb.subset_hint"].fields[KEY + "-subset"].list_value.values
            for endpoint in subset:
                values.add(string_value=endpoint)
            first.metadata_context.filter_metadata["envoy.lb.subset_hint"].SetInParent()
        self.say(first)

    def say(self, message):
        self.outgoing.put(message)

    def hear(self, kind):
        message = next(self.incoming)
        if message.WhichOneof("response") == "immediate_response":
            raise Refused(message.immediate_response)
        assert message.WhichOneof("response") == kind, message
        return message

    def take_route(self, reply, common):
        set_headers = changes(common.header_mutation)
        self.endpoint = set_headers[KEY]
        assert reply.dynamic_metadata.fields["envoy.lb"].struct_value.fields[KEY].string_value == self.endpoint, reply
        assert common.clear_route_cache
        self.headers.update(set_headers)

    def pieces(self):
        return [self.body[i:i + PIECE] for i in range(0, len(self.body), PIECE)] or [b""]

    def route(self):
        """Asks; then `endpoint`, `headers` and `body` are what a worker gets."""
        if self.body is None or self.mode == MODES.NONE:
            reply = self.hear("request_headers")
            self.take_route(reply, reply.request_headers.response)
        elif self.mode == MODES.FULL_DUPLEX_STREAMED:
            pieces = self.pieces()
            for i, piece in enumerate(pieces):
                self.say(pb.ProcessingRequest(request_body=pb.HttpBody(body=piece, end_of_stream=i + 1 == len(pieces) and not self.trailers)))
            if self.trailers:
                self.say(pb.ProcessingRequest(request_trailers=pb.HttpTrailers()))
            reply = self.hear("request_headers")
            self.take_route(reply, reply.request_headers.response)
            self.body, ended = b"", False
            while not ended:
                if self.trailers and self.body:
                    message = next(self.incoming)
                    if message.WhichOneof("response") == "request_trailers":
                        break
                else:
                    message = self.hear("request_body")
                streamed = message.request_body.response.body_mutation.streamed_response
                assert len(streamed.body) <= 65536
                self.body, ended = self.body + streamed.body, streamed.end_of_stream
        elif self.mode == MODES.STREAMED:
            reply = self.hear("request_headers")
            self.take_route(reply, reply.request_headers.response)
            for i, piece in enumerate(self.pieces()):
                self.say(pb.ProcessingRequest(request_body=pb.HttpBody(body=piece, end_of_stream=(i + 1) * PIECE >= len(self.body))))
                assert not self.hear("request_body").request_body.response.HasField("body_mutation")
        else:
            assert not self.hear("request_headers").request_headers.response.HasField("header_mutation")
            self.say(pb.ProcessingRequest(request_body=pb.HttpBody(body=self.body, end_of_stream=True)))
            reply = self.hear("request_body")
            self.take_route(reply, reply.request_body.response)
            mutation = reply.request_body.response.body_mutation
            self.body = mutation.body if mutation.HasField("body") else self.body
        return self

    def send(self):
        """To where it was told to go; the answer's beginning."""
        host, port = self.endpoint.rsplit(":", 1)
        self.connection = http.client.HTTPConnection(host, int(port), timeout=120)
        self.connection.request(self.method, self.path, self.body, self.headers)
        self.answer = self.connection.getresponse()
        self.say(pb.ProcessingRequest(response_headers=pb.HttpHeaders(headers=header_map(
            {":status": self.answer.status, **{k.lower(): v for k, v in self.answer.getheaders()}}))))
        self.hear("response_headers")
        return self

    def relay(self, limit=None):
        """The rest of the answer, or pieces of it until `limit` bytes have come."""
        out = b""
        while limit is None or len(out) < limit:
            piece = self.answer.read1(PIECE)
            self.say(pb.ProcessingRequest(response_body=pb.HttpBody(body=piece, end_of_stream=not piece)))
            common = self.hear("response_body").response_body.response
            if self.mode == MODES.FULL_DUPLEX_STREAMED:
                assert common.body_mutation.streamed_response.body == piece
                assert common.body_mutation.streamed_response.end_of_stream == (not piece)
            else:
                assert not common.HasField("body_mutation")
            out += piece
            if not piece:
                break
        return out

    def close(self):
        """As a gateway does that has nothing more to say; the picker's last word."""
        self.outgoing.put(None)
        left = list(self.incoming)
        assert not left, left
        return self.incoming.code()

    def break_off(self):
        self.incoming.cancel()


class Gateway:
    def __init__(self, port):
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def ask(self, path, body, **options):
        """(status, body, endpoint) of a whole request."""
        request = Request(self, path, body, **options).route().send()
        answer = request.relay()
        assert request.close() == grpc.StatusCode.OK
        return request.answer.status, answer, request

    def raw(self, messages):
        """The status with which the picker ends a stream of these bytes."""
        call = self.channel.stream_stream(PROCESS, request_serializer=None, response_deserializer=None)(iter(messages))
        try:
            for _ in call:
                pass
        except grpc.RpcError:
            pass
        return call.code()

    def check(self, service):
        call = self.channel.unary_unary(HEALTH + "Check", request_serializer=pb.HealthCheckRequest.SerializeToString,
                                        response_deserializer=pb.HealthCheckResponse.FromString)
        return pb.HealthCheckResponse.ServingStatus.Name(call(pb.HealthCheckRequest(service=service), timeout=60).status)

    def watch(self, service):
        call = self.channel.unary_stream(HEALTH + "Watch", request_serializer=pb.HealthCheckRequest.SerializeToString,
                                         response_deserializer=pb.HealthCheckResponse.FromString)
        return call(pb.HealthCheckRequest(service=service))
