"""What every end-to-end script needs: a real server on a free loopback port, a small client, a report for ./test.

A script ends in `harness.main()`. Servers are children of the script, end with it, and are checked for a clean exit.
"""
import contextlib
import fcntl
import http.client
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BINARY = os.environ.get("PIXII_BINARY", str(ROOT / "build/pixii"))
GOLDEN = pathlib.Path(os.environ.get("PIXII_GOLDEN_DIR", ROOT / "../shared/golden"))
DATA = pathlib.Path(os.environ.get("PIXII_DATA_DIR", ROOT / "../shared/data"))
OWN_MODELS = ROOT / "tests/golden/models"
START_SECONDS = 60
BUSY = 10  # bounds of time are for an idle machine; beside others that compute things take up to so many times as long


class Server:
    """`pixii serve MODEL --port 0 …` from the moment it is ready until stop()."""

    def __init__(self, model="tiny-chat", *flags, env=None):
        self.start(["serve", model, "--port", "0", *flags], env)

    def start(self, words, env=None):
        self.folder = tempfile.TemporaryDirectory(prefix="pixii-e2e-")
        self.port_file = pathlib.Path(self.folder.name) / "port"
        self.log_path = pathlib.Path(self.folder.name) / "log"
        self.log = open(self.log_path, "wb")
        command = [BINARY, *words, "--port-file", str(self.port_file)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        env={**os.environ, **(env or {})})
        deadline = time.monotonic() + START_SECONDS
        while not self.port_file.exists() or not self.port_file.read_text().strip():
            if self.process.poll() is not None or time.monotonic() > deadline:
                text = self.log_text()
                self.kill()
                raise RuntimeError(f"server did not start: {' '.join(command)}\n{text}")
            wait_a_moment()
        self.port = int(self.port_file.read_text())

    def log_text(self):
        return self.log_path.read_text(errors="replace")[-8000:]

    def stop(self):
        """SIGTERM; returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout=60)
        self.log.close()
        return status

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None:
            print(self.log_text(), file=sys.stderr)
            self.kill()
        else:
            status = self.stop()
            if status != 0:
                raise AssertionError(f"exit status {status} after SIGTERM\n{self.log_text()}")
        self.folder.cleanup()

    def connection(self, timeout=120):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def request(self, method, path, body=None, headers=None, timeout=120):
        """(status, headers, parsed JSON or text)."""
        with contextlib.closing(self.connection(timeout)) as connection:
            data = body if body is None or isinstance(body, (bytes, str)) else json.dumps(body)
            base = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, path, body=data, headers={**base, **(headers or {})})
            response = connection.getresponse()
            text = response.read().decode("utf-8", errors="replace")
            try:
                return response.status, dict(response.getheaders()), json.loads(text)
            except ValueError:
                return response.status, dict(response.getheaders()), text

    def post(self, path, body, **kwargs):
        status, _, answer = self.request("POST", path, body, **kwargs)
        return status, answer

    def stream(self, path, body, timeout=120):
        """Yields each SSE event's JSON; returns at [DONE]. Raises if the stream ends without it."""
        with contextlib.closing(self.connection(timeout)) as connection:
            connection.request("POST", path, body=json.dumps({**body, "stream": True}),
                               headers={"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status != 200:
                raise AssertionError(f"status {response.status}: {response.read()[:500]}")
            for line in response:
                line = line.decode("utf-8").rstrip("\r\n")
                if line == "data: [DONE]":
                    return
                if line.startswith("data: "):
                    yield json.loads(line[6:])
        raise AssertionError("the stream ended without [DONE]")

    def metrics(self):
        """name{labels} -> value."""
        _, _, text = self.request("GET", "/metrics")
        values = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                values[name] = float(value)
        return values

    def running(self):
        """Sequences that the engine computes."""
        return sum(v for k, v in self.metrics().items() if k.startswith("pixii_engine_running"))

    def process_figures(self):
        """Resident KiB, threads, descriptors of the server."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        return {"rss_kib": int(fields["VmRSS"].split()[0]), "threads": int(fields["Threads"]),
                "descriptors": len(os.listdir(f"/proc/{self.process.pid}/fd"))}

    def wait_for(self, condition, seconds=10, what="condition"):
        wait_for(condition, seconds, what, self.log_text)


def wait_a_moment():
    time.sleep(0.005)


def wait_for(condition, seconds, what, context=lambda: ""):
    """Polls until condition() is true; fails past the deadline, never just sleeps. A short `seconds` is what an idle machine takes."""
    seconds = max(seconds, min(seconds * BUSY, 60))
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} not reached within {seconds} s\n{context()}")
        wait_a_moment()


def run_pixii(*arguments, stdin="", timeout=120, env=None):
    """A pixii command to its end: CompletedProcess with text."""
    return subprocess.run([BINARY, *arguments], input=stdin, capture_output=True, text=True, timeout=timeout,
                          env={**os.environ, **(env or {})})


def install_npm_client(name):
    """The folder of tests/e2e/NAME's files with the packages that its lock file names. Scripts that run at a time may share it."""
    source, work = ROOT / "tests/e2e" / name, ROOT / "build/npm" / name
    work.mkdir(parents=True, exist_ok=True)
    with open(work / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = (source / "package-lock.json").read_bytes()
        for file in source.iterdir():
            copy = work / file.name
            if file.is_file() and not (copy.exists() and copy.read_bytes() == file.read_bytes()):
                shutil.copy(file, copy)  # only what differs: another script may be running it
        stamp = work / "node_modules/.installed"
        if not stamp.exists() or stamp.read_bytes() != wanted:
            installed = subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=work, capture_output=True, text=True)
            if installed.returncode != 0:
                raise RuntimeError(f"npm ci failed:\n{installed.stdout}{installed.stderr}")
            stamp.write_bytes(wanted)
    return work


class NpmClientCase(unittest.TestCase):
    """Cases that client.mjs of tests/e2e/`client` runs by name against one server."""

    client = ""
    server_arguments = ()

    @classmethod
    def setUpClass(cls):
        cls.work = install_npm_client(cls.client)
        cls.server = Server(*cls.server_arguments)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        cls.server.folder.cleanup()

    def run_case(self, name):
        done = subprocess.run(["node", "client.mjs", f"http://127.0.0.1:{self.server.port}", name], cwd=self.work,
                              capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


class _Result(unittest.TextTestResult):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.cases = []

    def _note(self, test, result, detail=""):
        self.cases.append({"name": test.id().replace("__main__.", ""), "result": result, "detail": detail})

    def addSuccess(self, test):
        super().addSuccess(test)
        self._note(test, "passed")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._note(test, "failed", self._exc_info_to_string(err, test)[-6000:])

    def addError(self, test, err):
        super().addError(test, err)
        self._note(test, "failed", self._exc_info_to_string(err, test)[-6000:])

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._note(test, "skipped", reason)


def main():
    """Runs the script's cases, or those named by arguments (`Class.case`)."""
    loader, module = unittest.defaultTestLoader, sys.modules["__main__"]
    suite = loader.loadTestsFromNames(sys.argv[1:], module) if sys.argv[1:] else loader.loadTestsFromModule(module)
    result = unittest.TextTestRunner(resultclass=_Result, verbosity=2).run(suite)
    report = os.environ.get("PIXII_TEST_REPORT")
    if report:
        with open(report, "w") as out:
            json.dump(result.cases, out)
    sys.exit(0 if result.wasSuccessful() else 1)
