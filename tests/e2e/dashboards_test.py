"""Dashboards and alerts beside a real Prometheus that scrapes a real cluster under load: each query has data."""
import concurrent.futures
import itertools
import json
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request

import harness
from metrics_cluster import CHAT, WORKER, MetricsCluster, chat

FOLDER = harness.ROOT / "deploy/grafana"
RULES = harness.ROOT / "deploy/prometheus/pixii.rules.yml"


def queries():
    """(dashboard, panel, query) of all."""
    for path in sorted(FOLDER.glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                yield path.stem, panel["title"], target["expr"]


class Prometheus:
    """Debian's, on a free port, that scrapes `targets` each second."""

    def __init__(self, targets):
        self.folder = tempfile.TemporaryDirectory(prefix="pixii-prometheus-")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        jobs = "\n".join(f"  - job_name: {name}\n    static_configs: [{{targets: ['127.0.0.1:{port}']}}]" for name, port in targets.items())
        config = pathlib.Path(self.folder.name, "prometheus.yml")
        config.write_text(f"global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{RULES}']\nscrape_configs:\n{jobs}\n")
        self.log = open(pathlib.Path(self.folder.name, "log"), "w+")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={self.folder.name}/data",
             f"--web.listen-address=127.0.0.1:{self.port}"], stdout=self.log, stderr=self.log)

    def get(self, path, **parameters):
        url = f"http://127.0.0.1:{self.port}{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as response:
                return json.loads(response.read())["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def query(self, expression):
        return self.get("/api/v1/query", query=expression)["result"]

    def up(self, count):
        try:
            return sum(float(one["value"][1]) for one in self.query("up")) == count
        except (OSError, AssertionError):
            return False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=60)
        self.log.close()
        self.folder.cleanup()


class Load:
    """Clients that ask the frontends in turn until they are told to stop."""

    def __init__(self, frontends, clients=2):
        self.frontends, self.stopped, self.failed = frontends, False, []
        self.pool = concurrent.futures.ThreadPoolExecutor(clients)
        self.running = [self.pool.submit(self.run, number) for number in range(clients)]

    def run(self, number):
        count = 0
        for turn in itertools.count():
            if self.stopped:
                return count
            frontend = self.frontends[(turn + number) % len(self.frontends)]
            text = f"Topic {turn % 5}: " + "words that fill a block or two of the cache. " * 4 + str(turn)
            if turn % 2:
                status, _ = frontend.post(CHAT, chat(text, 6))
                if status != 200:
                    self.failed.append(status)
            else:
                list(frontend.stream(CHAT, chat(text, 6)))
            count += 1

    def stop(self):
        self.stopped = True
        return sum(one.result() for one in self.running)


@unittest.skipIf(shutil.which("prometheus") is None, "prometheus (tools/packages.txt) is not installed")
class Dashboards(unittest.TestCase):
    seconds = 12  # of load, at the least

    def test_they_are_what_the_table_makes(self):
        done = subprocess.run([sys.executable, FOLDER / "make.py", "--check"], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertGreater(len(list(queries())), 40)

    def test_every_panel_and_every_alert_has_data(self):
        flags = (*WORKER, "--kv-host-bytes", "8MiB")  # for the panels of tiers
        with MetricsCluster(frontends=2, prefill=2, decode=2, flags=flags, planner=True) as all_of_it:
            targets = {name: process.port for name, process in all_of_it.processes.items()}
            with Prometheus(targets) as prometheus:
                harness.wait_for(lambda: prometheus.up(len(targets)), 30, "all are scraped")
                load = Load(all_of_it.frontends)
                begun = time.monotonic()
                try:
                    missing = lambda: [(*one, query) for *one, query in queries() if not self.has_data(prometheus, query)]  # noqa: E731
                    harness.wait_for(lambda: time.monotonic() - begun > self.seconds and not missing(), self.seconds + 45, "data for all panels",
                                     lambda: "\n".join(map(str, missing())))
                finally:
                    asked = load.stop()
                self.assertEqual(load.failed, [])
                self.assertGreater(asked, 0)
                self.check_alerts(prometheus)
                durations = {one["metric"]["job"]: float(one["value"][1]) for one in
                             prometheus.query("quantile_over_time(0.9, scrape_duration_seconds[5m])")}
                print("scrape_duration_seconds p90 " + json.dumps(durations, sort_keys=True), file=sys.stderr)
                self.assertEqual(set(durations), set(targets))
                self.check_durations(durations)

    def has_data(self, prometheus, query):
        values = prometheus.query(query.replace("$__rate_interval", "10s"))
        return any(one["value"][1] != "NaN" for one in values)

    def check_alerts(self, prometheus):
        """Each rule was evaluated, and every series that it looks at is there."""
        rules = [rule for group in prometheus.get("/api/v1/rules")["groups"] for rule in group["rules"]]
        self.assertGreater(len(rules), 15)
        self.assertEqual([rule["name"] for rule in rules if rule["health"] != "ok"], [])
        names = set(prometheus.get("/api/v1/label/__name__/values"))
        # Of a plug-in that nobody loads there is nothing to see.
        wanted = {name for rule in rules for name in re.findall(r"\b(?:pixii|dynamo|trtllm)_[a-z0-9_]+", rule["query"])}
        self.assertEqual(wanted - names - {"pixii_kv_connector_faults_total"}, set())
        firing = {rule["name"] for rule in rules if rule["state"] == "firing"}
        self.assertEqual(firing, set(), "a healthy cluster raises no alarm")

    def check_durations(self, durations):
        """Beside others that compute, no figure of time is held to; tests/e2e/long does."""


if __name__ == "__main__":
    harness.main()
