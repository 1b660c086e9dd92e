"""`org/name[@rev]`: downloads from a loopback hub that truncates, stalls, lies, redirects and goes away."""
import hashlib
import http.server
import json
import pathlib
import tempfile
import threading
import unittest

import harness

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODEL = harness.OWN_MODELS / "llama-gqa"


class Hub(http.server.ThreadingHTTPServer):
    """Serves MODEL as org/tiny; faults: file name -> list of fault names, used up one a request."""
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.files = {p.name: p.read_bytes() for p in MODEL.iterdir()
                      if p.name in ("config.json", "generation_config.json", "model.safetensors")}
        self.files["../evil"] = b"x"
        self.faults = {}
        self.log = []
        self.release = threading.Event()
        self.thread = threading.Thread(target=self.serve_forever, daemon=True)
        self.thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.release.set()
        self.shutdown()
        self.thread.join()
        self.server_close()


class HubHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)

    def answer(self, with_body):
        hub = self.server
        hub.log.append((self.command, self.path, dict(self.headers)))
        if self.path.startswith("/api/models/org/tiny/revision/"):
            if self.path.endswith("/missing"):
                return self.send_plain(404, b"{}")
            body = {"sha": COMMIT, "siblings": [{"rfilename": name} for name in hub.files]}
            return self.send_plain(200, json.dumps(body).encode())
        if self.path.startswith("/api/"):
            return self.send_plain(401, b"{}")
        name = self.path.rsplit("/", 1)[1]
        data = hub.files[name]
        large = name.endswith(".safetensors")
        if self.path.startswith("/storage/"):
            return self.send_file(name, data, with_body)
        etag = hashlib.sha256(data).hexdigest() if large else git_sha1(data)
        if large:  # as the real hub: large files redirect to storage on another host name
            self.send_response(302)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("X-Linked-Etag", f'"{etag}"')
            self.send_header("X-Linked-Size", str(len(data)))
            self.send_header("Location", f"http://localhost:{hub.server_port}/storage/{name}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        return self.send_file(name, data, with_body, etag)

    def send_plain(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_file(self, name, data, with_body, etag=None):
        hub = self.server
        fault = hub.faults.get(name, []).pop(0) if with_body and hub.faults.get(name) else None
        begin = 0
        ranged = self.headers.get("Range")
        if ranged and fault != "ignore_range":
            begin = int(ranged.split("=")[1].rstrip("-"))
        body = data[begin:]
        if fault == "lie":
            body = bytes([body[0] ^ 1]) + body[1:]
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        if etag:
            self.send_header("ETag", f'"{etag}"')
            self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if not with_body:
            return
        if fault in ("truncate", "stall"):
            self.wfile.write(body[: len(body) // 3])
            self.wfile.flush()
            if fault == "stall":
                hub.release.wait()
            self.close_connection = True
            return
        self.wfile.write(body)


def git_sha1(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class HubTest(unittest.TestCase):
    def setUp(self):
        self.home = tempfile.TemporaryDirectory(prefix="pixii-hub-")
        self.addCleanup(self.home.cleanup)
        self.cache = pathlib.Path(self.home.name) / "hub/models--org--tiny"

    def inspect(self, hub, name="org/tiny", *flags, token=None):
        env = {"HF_ENDPOINT": hub.url, "HF_HOME": self.home.name, "HF_HUB_DOWNLOAD_TIMEOUT": "1", "HF_TOKEN": token or "",
               "no_proxy": "*"}
        return harness.run_pixii("inspect", name, *flags, env=env)

    def weights(self):
        return (self.cache / "snapshots" / COMMIT / "model.safetensors").read_bytes()

    def test_downloads_into_the_shared_cache_layout(self):
        with Hub() as hub:
            done = self.inspect(hub, token="hf_secret")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(self.weights(), hub.files["model.safetensors"])
            self.assertEqual((self.cache / "refs/main").read_text(), COMMIT)
            self.assertTrue((self.cache / "snapshots" / COMMIT / "model.safetensors").is_symlink())
            asked = [path for _, path, headers in hub.log if headers.get("Authorization") == "Bearer hf_secret"]
            self.assertTrue(asked)
            self.assertFalse([p for p in asked if p.startswith("/storage/")], "the token went to the storage host")
            self.assertFalse([p for _, p, _ in hub.log if "evil" in p])

    def test_resumes_after_truncation_and_stall(self):
        with Hub() as hub:
            hub.faults["model.safetensors"] = ["truncate", "stall", "truncate"]
            done = self.inspect(hub)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(self.weights(), hub.files["model.safetensors"])
            ranges = [h.get("Range") for m, p, h in hub.log if m == "GET" and p.startswith("/storage/")]
            self.assertEqual(ranges[0], None)
            self.assertTrue(all(r for r in ranges[1:]), ranges)

    def test_starts_over_when_the_server_cannot_resume(self):
        with Hub() as hub:
            hub.faults["model.safetensors"] = ["truncate", "ignore_range"]
            done = self.inspect(hub)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(self.weights(), hub.files["model.safetensors"])

    def test_wrong_bytes_are_refused_and_leave_nothing(self):
        with Hub() as hub:
            hub.faults["model.safetensors"] = ["lie"]
            done = self.inspect(hub)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("digest", done.stderr)
            self.assertFalse((self.cache / "snapshots" / COMMIT / "model.safetensors").exists())
            self.assertFalse(list((self.cache / "blobs").glob("*.incomplete")))
            self.assertEqual(self.inspect(hub).returncode, 0, "the next try succeeds")

    def test_offline_uses_the_cache_and_asks_nobody(self):
        with Hub() as hub:
            self.assertNotEqual(self.inspect(hub, "org/tiny", "--offline").returncode, 0)
            self.assertEqual(hub.log, [])
            self.assertEqual(self.inspect(hub).returncode, 0)
            asked = len(hub.log)
            self.assertEqual(self.inspect(hub, "org/tiny", "--offline").returncode, 0)
            self.assertEqual(len(hub.log), asked)

    def test_a_hub_that_is_gone_does_not_stop_a_cached_model(self):
        with Hub() as hub:
            self.assertEqual(self.inspect(hub).returncode, 0)
        self.assertEqual(self.inspect(hub).returncode, 0)

    def test_missing_private_and_misspelled_names_say_so(self):
        with Hub() as hub:
            for name, word in (("org/tiny@missing", "no org/tiny@missing"), ("org/other", "HF_TOKEN"),
                               ("org/../tiny", "org/name"), ("org/tiny@../x", "revision")):
                done = self.inspect(hub, name)
                self.assertNotEqual(done.returncode, 0, name)
                self.assertIn(word, done.stderr)


if __name__ == "__main__":
    harness.main()
