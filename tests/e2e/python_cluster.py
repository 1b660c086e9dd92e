"""Programs in Python as members of a cluster: the package as it was built, and processes that use it."""
import os
import pathlib
import subprocess
import sys
import sysconfig
import tempfile

import harness

BUILD = pathlib.Path(harness.BINARY).resolve().parent
PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable  # whose headers the extension was built with
PATHS = [str(harness.ROOT / "python"), str(BUILD / "python")]
EXAMPLES = harness.ROOT / "examples/python"
BUILT = any((BUILD / "python").glob("_pixii*.so"))
WHY_NOT = "the extension _pixii is not built: pybind11-dev and python3-dev are missing"


def environment(**more):
    # `python3` of this script may be of another version than PYTHON.
    return {**os.environ, "PYTHONPATH": os.pathsep.join(PATHS), "PYTHONUNBUFFERED": "1", "PIXII_BINARY": str(harness.BINARY),
            "PIXII_MODELS_DIR": str(harness.ROOT / "models"), **more}


def run(*words, timeout=120, stdin=""):
    """A program in Python to its end."""
    return subprocess.run([PYTHON, *map(str, words)], input=stdin, capture_output=True, text=True, timeout=timeout, env=environment())


class Program(harness.Server):
    """A worker written in Python, from its first `worker.ready` until stop()."""

    def __init__(self, *words, ready="event=worker.ready", env=None):
        self.folder = tempfile.TemporaryDirectory(prefix="pixii-python-")
        self.log_path = pathlib.Path(self.folder.name) / "log"
        self.log = open(self.log_path, "wb")
        self.process = subprocess.Popen([PYTHON, *map(str, words)], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        env=environment(**(env or {})))

        def started():
            if self.process.poll() is not None:
                raise AssertionError(f"it ended with {self.process.returncode}: {self.log_text()}")
            return ready in self.log_path.read_text(errors="replace")
        try:
            harness.wait_for(started, 60, "the program is ready", self.log_text)
        except BaseException:
            self.kill()
            raise
