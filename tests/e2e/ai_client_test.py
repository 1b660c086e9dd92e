"""The Vercel `ai` package with its OpenAI providers, unmodified."""
import shutil
import subprocess
import unittest

import harness

SOURCE = harness.ROOT / "tests/e2e/ai"
WORK = harness.ROOT / "build/npm/ai"


class AiClient(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        WORK.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json", "client.mjs"):
            shutil.copy(SOURCE / name, WORK / name)
        installed = subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=WORK, capture_output=True, text=True)
        if installed.returncode != 0:
            raise RuntimeError(f"npm ci failed:\n{installed.stdout}{installed.stderr}")
        cls.server = harness.Server()

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        cls.server.folder.cleanup()

    def run_case(self, name):
        done = subprocess.run(["node", "client.mjs", f"http://127.0.0.1:{self.server.port}", name], cwd=WORK,
                              capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_text(self):
        self.run_case("generateText")

    def test_streamed_text(self):
        self.run_case("streamText")

    def test_responses(self):
        self.run_case("responses")

    def test_tools(self):
        self.run_case("tools")

    def test_objects(self):
        self.run_case("generateObject")

    def test_abort_cancels_in_the_engine(self):
        self.run_case("abort")
        self.server.wait_for(lambda: sum(v for k, v in self.server.metrics().items()
                                         if k.startswith("pixii_engine_running")) == 0, 2, "no running sequence")

    def test_errors(self):
        self.run_case("errors")


if __name__ == "__main__":
    harness.main()
