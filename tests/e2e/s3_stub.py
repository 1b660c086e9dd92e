"""A bucket of an S3-compatible store in this process: GET, PUT, DELETE and lists by path, each request's signature checked."""
import hashlib
import hmac
import http.server
import threading
import time
import urllib.parse
from xml.sax.saxutils import escape

ACCESS_KEY = "AKTEST"
SECRET_KEY = "a secret/of+ours"
REGION = "eu-test-1"


def signature_is_right(handler, body):
    """AWS Signature Version 4, from the reference, not from the server's code."""
    authorization = handler.headers.get("authorization", "")
    if not authorization.startswith("AWS4-HMAC-SHA256 "):
        return False
    fields = dict(part.strip().split("=", 1) for part in authorization[len("AWS4-HMAC-SHA256 "):].split(","))
    key, day, region, service, end = fields["Credential"].split("/")
    if (key, region, service, end) != (ACCESS_KEY, REGION, "s3", "aws4_request"):
        return False
    stamp = handler.headers["x-amz-date"]
    if not stamp.startswith(day) or abs(time.time() - time.mktime(time.strptime(stamp, "%Y%m%dT%H%M%SZ")) + time.timezone) > 900:
        return False
    path, _, query = handler.path.partition("?")
    pairs = sorted((urllib.parse.quote(k, safe="-._~"), urllib.parse.quote(v, safe="-._~"))
                   for k, v in urllib.parse.parse_qsl(query, keep_blank_values=True))
    names = fields["SignedHeaders"].split(";")
    if not {"host", "x-amz-date", "x-amz-content-sha256"} <= set(names) or names != sorted(names):
        return False
    body_hash = hashlib.sha256(body).hexdigest()
    if handler.headers["x-amz-content-sha256"] != body_hash:
        return False
    canonical = "\n".join([handler.command, path, "&".join(f"{k}={v}" for k, v in pairs),
                           "".join(f"{name}:{' '.join(handler.headers[name].split())}\n" for name in names),
                           ";".join(names), body_hash])
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, f"{day}/{region}/s3/aws4_request",
                      hashlib.sha256(canonical.encode()).hexdigest()])
    secret = ("AWS4" + SECRET_KEY).encode()
    for part in (day, region, "s3", "aws4_request"):
        secret = hmac.new(secret, part.encode(), hashlib.sha256).digest()
    return hmac.compare_digest(hmac.new(secret, text.encode(), hashlib.sha256).hexdigest(), fields["Signature"])


class Store:
    """`with Store() as store: store.endpoint`. Its objects are store.objects[(bucket, name)]; faults are set by the test."""

    page = 50  # names of one list

    def __init__(self):
        self.objects = {}
        self.calls = []
        self.status = None  # of every answer, if set
        self.hang = threading.Event()  # set: nothing is answered
        self.closing = threading.Event()
        store = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self, status, body=b""):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def handle_one(self):
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                path, _, query = self.path.partition("?")
                bucket, _, name = urllib.parse.unquote(path[1:]).partition("/")
                store.calls.append((self.command, bucket, name))
                if store.hang.is_set():
                    store.closing.wait()
                    self.close_connection = True
                    return
                if not signature_is_right(self, body):
                    self.answer(403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>")
                elif store.status:
                    self.answer(store.status, b"<Error/>")
                elif self.command == "PUT":
                    store.objects[(bucket, name)] = body
                    self.answer(200)
                elif self.command == "DELETE":
                    store.objects.pop((bucket, name), None)
                    self.answer(204)
                elif not name:
                    self.answer(200, store.listed(bucket, dict(urllib.parse.parse_qsl(query))))
                elif (bucket, name) in store.objects:
                    self.answer(200, store.objects[(bucket, name)])
                else:
                    self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

            do_GET = do_PUT = do_DELETE = handle_one

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"

    def listed(self, bucket, query):
        names = sorted(name for b, name in self.objects if b == bucket and name.startswith(query.get("prefix", "")))
        start = int(query.get("continuation-token", "0"))
        more = start + self.page < len(names)
        body = "".join(f"<Contents><Key>{escape(name)}</Key></Contents>" for name in names[start:start + self.page])
        token = f"<NextContinuationToken>{start + self.page}</NextContinuationToken>" if more else ""
        return f"<ListBucketResult>{body}{token}</ListBucketResult>".encode()

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *arguments):
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()

    def flags(self, bucket="kv"):
        return ("--kv-object", "--kv-object-endpoint", self.endpoint, "--kv-object-bucket", bucket, "--kv-object-region", REGION,
                "--kv-object-access-key", ACCESS_KEY, "--kv-object-secret-key", SECRET_KEY)
