"""The alert rules, by Prometheus' own tool: they are rules, they fire when they should, and the metrics they name exist."""
import re
import shutil
import subprocess
import unittest

import harness

FOLDER = harness.ROOT / "deploy/prometheus"
RULES = FOLDER / "pixii.rules.yml"


def names_in(text):
    return set(re.findall(r"\bpixii_[a-z0-9_]+", text))


class Alerts(unittest.TestCase):
    def promtool(self, *arguments):
        done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    @unittest.skipIf(shutil.which("promtool") is None, "promtool (prometheus of tools/packages.txt) is not installed")
    def test_the_rules_are_rules_and_fire_when_they_should(self):
        self.assertIn("SUCCESS", self.promtool("check", "rules", RULES))
        self.assertIn("SUCCESS", self.promtool("test", "rules", FOLDER / "pixii.rules_test.yml"))

    def test_every_metric_and_every_alert_is_known_everywhere(self):
        rules = RULES.read_text()
        known = names_in((harness.ROOT / "docs/reference/metrics.md").read_text())
        expressions = "\n".join(re.findall(r"expr: (?:\|\n(?:\s{10,}.*\n)+|.*)", rules))
        self.assertGreater(len(names_in(expressions)), 8)
        self.assertEqual(names_in(expressions) - known, set())
        alerts = set(re.findall(r"alert: (\w+)", rules))
        for file in (FOLDER / "pixii.rules_test.yml", harness.ROOT / "docs/alerts.md"):
            self.assertEqual(set(re.findall(r"Pixii[A-Z]\w+", file.read_text())), alerts, file)

    @unittest.skipIf(shutil.which("promtool") is None, "promtool (prometheus of tools/packages.txt) is not installed")
    def test_what_a_server_says_is_read_by_prometheus(self):
        with harness.Server("tiny-chat") as server:
            server.post("/v1/completions", {"prompt": "hello", "max_tokens": 2})
            text = server.request("GET", "/metrics")[2]
            done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
            # Names of others are as they are; ours pass its rules, and all is read.
            self.assertNotIn("error while linting", done.stdout + done.stderr)
            self.assertEqual([line for line in (done.stdout + done.stderr).splitlines() if line.startswith("pixii_")], [])


if __name__ == "__main__":
    harness.main()
