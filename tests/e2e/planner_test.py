"""pixii planner with real processes: pixii up whose replicas it changes, a client of its own, frontends and planners that go."""
import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import threading
import unittest
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import cluster
import harness

CHAT = "/v1/chat/completions"
# An engine whose steps take as long as the table says, so that a queue grows where it shall.
MOCK = {"engine": "mock", "mock-step-time": "20ms", "mock-prefill-time": "1ms", "max-batch": 2, "threads": 1, "served-model-name": "m"}
PROFILE = {"prefill_isl": [1, 512], "prefill_ttft_ms": [21, 532], "decode_active_kv_tokens": [1, 100000],
           "decode_context_length": [1, 4096], "decode_itl_ms": [[20, 20], [20, 20]], "kv_tokens": 100000, "sequences_max": 2,
           "batch_tokens_max": 512}
# Thresholds of what waits, looked at each second: what comes next does not depend on how busy this machine is.
BY_LOAD = {"mode": "agg", "environment": "local", "optimization_target": "load", "load_adjustment_interval_seconds": 1,
           "prefill_scale_up_queue_tokens": 40, "prefill_scale_down_queue_tokens": 1, "decode_scale_up_kv_rate": 1,
           "decode_scale_down_kv_rate": 0.9, "scale_down_window_seconds": 3, "reversal_seconds": 4, "start_up_seconds": 1,
           "max_gpu_budget": 3, "min_endpoint": 1, "no_room_patience_seconds": 600}
GRAPH = """
components:
  http:
    command: frontend
    flags: {{port: {port}, router-mode: least-loaded}}
    needs: [chat]
  chat:
    model: tiny-chat
    replicas: {replicas}
    settle: 0s
    flags: {chat}
  plan:
    command: planner
    flags: {{port: 0, frontends: 'http://127.0.0.1:{port}', decode-component: chat, planner-config: '{config}', frontend-patience: 5m}}
    needs: [http]
"""


def body(number, tokens=24):
    return {"model": "m", "messages": [{"role": "user", "content": f"Count to {number}, slowly, and say why each comes after the other."}],
            "max_tokens": tokens, "ignore_eos": True}


def metrics(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as response:
        values = {}
        for line in response.read().decode().splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                values[name] = float(value)
        return values


class Up:
    """`pixii up` of a graph with a planner."""

    def __init__(self, config, replicas=1):
        self.folder = tempfile.TemporaryDirectory(prefix="pixii-planner-")
        self.root = pathlib.Path(self.folder.name)
        self.path, self.state, self.config = self.root / "graph.yaml", self.root / "state", self.root / "planner.json"
        self.port = free_port()
        self.config.write_text(json.dumps(config))
        chat = "{" + ", ".join(f"{key}: {value}" for key, value in MOCK.items()) + "}"
        self.path.write_text(GRAPH.format(port=self.port, replicas=replicas, chat=chat, config=self.config))
        self.start()

    @classmethod
    def running(cls, path):
        """`pixii up` of a graph file that is there."""
        self = cls.__new__(cls)
        self.folder = tempfile.TemporaryDirectory(prefix="pixii-planner-")
        self.path, self.state = path, pathlib.Path(self.folder.name) / "state"
        self.start()
        return self

    def start(self):
        self.lines = []
        self.process = subprocess.Popen([harness.BINARY, "up", str(self.path), "--state-dir", str(self.state)], stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True)
        self.reader = threading.Thread(target=lambda: self.lines.extend(iter(self.process.stdout.readline, "")), daemon=True)
        self.reader.start()

    def logs(self, name=""):
        return "".join(f"--- {path.name}\n{path.read_text()[-3000:]}" for path in sorted(self.state.glob(f"logs/{name}*")))

    def wait(self, condition, seconds, what):
        harness.wait_for(condition, seconds, what, lambda: "".join(self.lines) + self.logs())

    def ports(self, component):
        found = []
        for path in sorted(self.state.glob(f"ports/{component}-*")):
            with contextlib.suppress(FileNotFoundError):  # it has just ended
                found.append(int(path.read_text()))
        return found

    def ready(self, component="chat"):
        return len(self.ports(component))

    def plan(self, name="plan"):
        """The planner's metrics; nothing while it is not there."""
        try:
            return metrics(self.ports(name)[-1])
        except (OSError, IndexError, ValueError):
            return {}

    def looks(self):
        self.wait(lambda: self.plan().get('pixii_planner_looks_total{outcome="used"}', 0) > 0, 60, "the planner has looked")

    def ask(self, number, tokens=24):
        server = harness.Server.__new__(harness.Server)
        server.port = self.port
        return server.post(CHAT, body(number, tokens))

    def pids(self, component):
        return {int(line.split("process ")[1].split(",")[0]) for line in self.lines
                if line.startswith(f"{component}-") and "started, process" in line}

    def __enter__(self):
        try:
            self.wait(lambda: any("all is as" in line for line in self.lines), 60, "everything runs")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        try:
            status = self.process.wait(60)
        finally:
            self.process.kill()
            self.process.wait()
            self.reader.join(5)
            text = "".join(self.lines)
            self.process.stdout.close()
            self.folder.cleanup()
        if status != 0:
            raise AssertionError(f"exit status {status}: {text}")


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Clients:
    """Clients that ask again and again until they are told to stop; nothing may fail."""

    def __init__(self, ask, count):
        self.done, self.pool = threading.Event(), ThreadPoolExecutor(count)
        self.running = [self.pool.submit(self.run, ask, number) for number in range(count)]

    def run(self, ask, number):
        answers = 0
        while not self.done.is_set():
            status, answer = ask(number * 1000 + answers)
            if status != 200:
                raise AssertionError(f"{status}: {answer}")
            answers += 1
        return answers

    def stop(self):
        self.done.set()
        return sum(one.result() for one in self.running)


class LocalTest(unittest.TestCase):
    def test_a_fleet_grows_under_load_and_shrinks_after_it_and_no_request_fails(self):
        with Up(BY_LOAD) as up:
            up.looks()
            first = up.pids("chat")
            clients = Clients(up.ask, 12)
            try:
                up.wait(lambda: up.ready() == 3, 60, "the fleet has grown to its budget")
                # The planner dies: what it wanted stays, and the next one goes on from there.
                planner = max(up.pids("plan"))
                os.kill(planner, signal.SIGKILL)
                up.wait(lambda: len(up.pids("plan")) == 2 and up.plan().get('pixii_planner_looks_total{outcome="used"}', 0) > 1, 60,
                        "another planner looks")
                self.assertEqual(up.ready(), 3)
                self.assertEqual(up.plan()['pixii_planner_workers{pool="decode",count="asked"}'], 3)
            finally:
                answers = clients.stop()
            self.assertGreater(answers, 0)
            up.wait(lambda: up.ready() == 1, 90, "the fleet has shrunk")
            self.assertEqual(up.ask(1)[0], 200)
            # Untouched: each process that goes was told to, and nothing was started twice.
            started = up.pids("chat")
            self.assertEqual(len(started), 3, "".join(up.lines))
            self.assertTrue(first <= started)
            ends = [line for line in up.lines if line.startswith("chat-") and "ended" in line]
            self.assertTrue(all("status 0" in line for line in ends), ends)
            up.wait(lambda: up.plan().get('pixii_planner_decisions_total{pool="decode",direction="down"}', 0) >= 2, 30, "it counts")
            print(f"{answers} answers, none failed; workers 1 -> 3 -> 1")
            log = up.logs("plan")
            self.assertIn("planner.decided", log)
            self.assertIn("planner.scaled", log)

    def test_what_is_not_known_changes_nothing(self):
        with Up({**BY_LOAD, "min_endpoint": 2}, replicas=2) as up:
            up.looks()
            # Its frontend stops: no decision is made of its silence.
            http = max(up.pids("http"))
            os.kill(http, signal.SIGSTOP)
            try:
                up.wait(lambda: up.plan().get('pixii_planner_status{status="stale"}') == 1, 60, "the planner knows that it knows nothing")
                before = up.plan()['pixii_planner_looks_total{outcome="stale"}']
                up.wait(lambda: up.plan()['pixii_planner_looks_total{outcome="stale"}'] > before + 2, 60, "it looks again")
                self.assertEqual(up.plan()['pixii_planner_frontends{state="silent"}'], 1)
                self.assertEqual(up.ready(), 2)
                with self.assertRaises(urllib.error.HTTPError) as caught:
                    urllib.request.urlopen(f"http://127.0.0.1:{up.ports('plan')[-1]}/health", timeout=30)
                self.assertEqual(caught.exception.code, 503)
            finally:
                os.kill(http, signal.SIGCONT)
            up.wait(lambda: up.plan().get('pixii_planner_status{status="stale"}') == 0, 60, "it decides again")
            self.assertIn("planner.fresh", up.logs("plan"))

    def test_a_count_that_cannot_be_is_said_and_the_fleet_stays(self):
        with Up({**BY_LOAD, "min_endpoint": 2, "max_gpu_budget": 4}) as up:
            # min_endpoint wants a second one at once.
            up.wait(lambda: up.ready() == 2, 60, "as many as the least")
            words = up.path.read_text().replace("  chat:\n", "  talk:\n").replace("needs: [chat]", "needs: [talk]")
            up.path.write_text(words)
            up.process.send_signal(signal.SIGHUP)
            up.wait(lambda: any("is read anew" in line for line in up.lines), 30, "the file is read")
            up.wait(lambda: up.ready("talk") == 1 and up.ready("chat") == 0, 60, "the component is another one")
            up.wait(lambda: any("there is no such component" in line for line in up.lines), 60, "up says what it cannot do")
            up.wait(lambda: up.plan().get('pixii_planner_scale_total{outcome="failed"}', 0) > 0, 60, "the planner hears of it")
            self.assertEqual(up.ask(1)[0], 200)


class Plan(harness.Server):
    """A planner that is no part of a graph."""

    def __init__(self, folder, frontends, config, *flags):
        self.start(["planner", "--config", json.dumps(config), "--frontends", ",".join(frontends), "--discovery", f"file:{folder}",
                    "--port", "0", *flags])


def scale(folder, *words):
    return subprocess.run([harness.BINARY, "scale", *map(str, words), "--discovery", f"file:{folder}"], capture_output=True, text=True,
                          timeout=300)


class VirtualTest(unittest.TestCase):
    """A client that starts and stops mock workers as the planner decides, by pixii scale."""

    def test_a_client_scales_and_the_planner_waits_for_it(self):
        flags = [word for key, value in MOCK.items() for word in (f"--{key}", str(value))]
        config = {**BY_LOAD, "environment": "virtual", "max_gpu_budget": 2}
        with tempfile.TemporaryDirectory(prefix="pixii-virtual-") as folder:
            workers = [cluster.Worker(folder, "tiny-chat", *flags)]
            try:
                with cluster.Frontend(folder, "--router-mode", "least-loaded") as frontend, \
                        Plan(folder, [f"http://127.0.0.1:{frontend.port}"], config) as plan:
                    plan.wait_for(lambda: plan.metrics().get('pixii_planner_looks_total{outcome="used"}', 0) > 0, 30, "it looks")
                    clients = Clients(lambda number: frontend.post(CHAT, body(number)), 8)
                    try:
                        got = scale(folder, "wait")
                        self.assertEqual(got.returncode, 0, got.stderr)
                        order = json.loads(got.stdout)
                        self.assertEqual(order["components"], {"decode": 2})
                        self.assertLess(order["scaled_decision_id"], order["decision_id"])
                        plan.wait_for(lambda: plan.metrics()["pixii_planner_scaling_pending"] == 1, 30, "it waits for the client")
                        self.assertEqual(plan.metrics()['pixii_planner_scale_total{outcome="done"}'], 1)
                        workers.append(cluster.Worker(folder, "tiny-chat", *flags))
                        done = scale(folder, "complete", order["decision_id"])
                        self.assertEqual(done.returncode, 0, done.stderr)
                        plan.wait_for(lambda: plan.metrics()["pixii_planner_scaling_pending"] == 0, 30, "it goes on")
                        plan.wait_for(lambda: plan.metrics()['pixii_planner_workers{pool="decode",count="ready"}'] == 2, 30, "two workers")
                    finally:
                        clients.stop()
                    got = scale(folder, "wait", "--after", order["decision_id"])
                    self.assertEqual(json.loads(got.stdout)["components"], {"decode": 1})
                    workers.pop().stop()
                    self.assertEqual(scale(folder, "complete", json.loads(got.stdout)["decision_id"]).returncode, 0)
                    plan.wait_for(lambda: plan.metrics()['pixii_planner_workers{pool="decode",count="ready"}'] == 1, 30, "one worker")
                    self.assertEqual(frontend.post(CHAT, body(3))[0], 200)
            finally:
                for worker in workers:
                    worker.stop()

    def test_nobody_decided_anything(self):
        with tempfile.TemporaryDirectory(prefix="pixii-virtual-") as folder:
            got = scale(folder, "wait", "--timeout", "100ms")
            self.assertEqual((got.returncode, got.stdout), (1, ""))
            self.assertIn("no planner", got.stderr)
            self.assertEqual(scale(folder, "complete").returncode, 2)
            self.assertEqual(scale(folder, "finish", 3).returncode, 2)

    def test_a_dry_run_decides_and_changes_nothing(self):
        flags = [word for key, value in MOCK.items() for word in (f"--{key}", str(value))]
        with tempfile.TemporaryDirectory(prefix="pixii-virtual-") as folder, cluster.Worker(folder, "tiny-chat", *flags), \
                cluster.Frontend(folder) as frontend, \
                Plan(folder, [f"http://127.0.0.1:{frontend.port}"], {**BY_LOAD, "environment": "virtual"}, "--dry-run") as plan:
            clients = Clients(lambda number: frontend.post(CHAT, body(number)), 8)
            try:
                plan.wait_for(lambda: plan.metrics().get('pixii_planner_workers{pool="decode",count="decided"}', 0) >= 2, 60, "it decides")
            finally:
                clients.stop()
            self.assertEqual(plan.metrics()['pixii_planner_scale_total{outcome="done"}'], 0)
            self.assertGreater(plan.metrics()['pixii_planner_scale_total{outcome="dry_run"}'], 0)
            self.assertEqual(scale(folder, "wait", "--timeout", "100ms").returncode, 1)


class ForecastTest(unittest.TestCase):
    def test_a_planner_with_a_profile_keeps_its_goal_by_forecast(self):
        """optimization_target sla: the fleet that the model asks for at the rate that comes."""
        with tempfile.TemporaryDirectory(prefix="pixii-forecast-") as folder:
            pathlib.Path(folder, "profile.json").write_text(json.dumps(PROFILE))
            config = {"mode": "agg", "environment": "local", "optimization_target": "sla", "ttft_ms": 400, "itl_ms": 200,
                      "throughput_adjustment_interval_seconds": 1, "load_predictor": "constant", "profile_results_dir": folder,
                      "scale_down_window_seconds": 3, "reversal_seconds": 4, "start_up_seconds": 1, "max_gpu_budget": 3}
            with Up(config) as up:
                clients = Clients(lambda number: up.ask(number, 12), 10)
                try:
                    up.wait(lambda: up.ready() > 1, 60, "the fleet has grown")
                finally:
                    clients.stop()
                up.wait(lambda: up.ready() == 1, 90, "the fleet has shrunk: no requests are known to be none")
                values = up.plan()
                self.assertIn('dynamo_planner_estimated_ttft_ms{pool="decode"}', values)
                self.assertEqual(values['pixii_planner_requests_per_second{kind="seen"}'], 0)


class WrongTest(unittest.TestCase):
    def run_planner(self, *words):
        return subprocess.run([harness.BINARY, "planner", *words], capture_output=True, text=True, timeout=60)

    def test_what_cannot_be_stops_the_start_and_is_named(self):
        folder = self.enterContext(tempfile.TemporaryDirectory(prefix="pixii-wrong-"))
        for words, said in (
                (("--config", '{"modus": "agg"}'), "modus"),
                (("--config", '{"mode": "agg", "optimization_target": "sla", "profile_results_dir": "/nowhere"}'), "pixii profile"),
                (("--config", '{"optimization_target": "load"}', "--frontends", "localhost"), "frontends"),
                (("--config", '{"optimization_target": "load"}', "--discovery", f"file:{folder}"), "graph-deployment"),
                (("--config", '{"environment": "global-planner"}'), "global-planner")):
            with self.subTest(words):
                done = self.run_planner(*words)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertIn(said, done.stderr)


if __name__ == "__main__":
    harness.main()
