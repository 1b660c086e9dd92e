"""tiny-chat's accuracy through the server: a sample of its own table. A wrong KV block shows here as a wrong answer."""
import json
import subprocess
import tempfile
import unittest

import harness

EVAL = harness.ROOT / "models/tiny-chat/train/eval.py"
CASES = 8  # of each task: ./test has minutes, the table in models/tiny-chat/README.md took longer
PERCENT_MIN = 93  # mean over the tasks; the table's own is above 98


class Accuracy(unittest.TestCase):
    def test_a_sample_of_every_task_is_answered_as_the_table_says(self):
        with harness.Server() as server, tempfile.NamedTemporaryFile(suffix=".json") as report:
            done = subprocess.run(["python3", str(EVAL), "--url", f"http://127.0.0.1:{server.port}", "--cases", str(CASES),
                                   "--concurrency", "16", "--json", report.name], capture_output=True, text=True, timeout=800)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            result = json.load(open(report.name))
            self.assertEqual(result["failed_requests"], 0, result)
            shares = list(result["accuracy"].values())
            self.assertGreater(len(shares), 15)
            self.assertGreater(sum(shares) / len(shares), PERCENT_MIN, result)


if __name__ == "__main__":
    harness.main()
