"""The HTTP port of a worker: whether it lives, whether it is ready, what it counts, and what an operator may do to it."""
import pathlib
import signal
import tempfile
import threading
import time
import unittest

import cluster
import harness

CHAT = "/v1/chat/completions"
FLAGS = ("--threads", "1", "--max-batch", "4", "--kv-memory", "32MiB")


class SystemWorker(cluster.Worker):
    """A worker whose `request` asks its system port."""

    def __init__(self, folder, *flags, model="tiny-chat", wait=True):
        self.system_file = pathlib.Path(folder) / f"system-{id(self)}"
        words = ["worker", model, "--discovery", f"file:{folder}", "--system-port", "0", "--system-port-file",
                 str(self.system_file), *flags]
        if wait:
            self.start(words)
        else:
            self.start_unready(words)
        self.port = int(self.system_file.read_text())

    def start_unready(self, words):
        """Until the system port answers; the worker itself is not there yet."""
        import os
        import subprocess
        self.folder = tempfile.TemporaryDirectory(prefix="pixii-e2e-")
        self.log_path = pathlib.Path(self.folder.name) / "log"
        self.log = open(self.log_path, "wb")
        self.process = subprocess.Popen([harness.BINARY, *words], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        env=os.environ)
        try:
            harness.wait_for(lambda: self.system_file.exists() and self.system_file.read_text().strip(), 20, "the system port",
                             self.log_text)
        except BaseException:
            self.kill()
            raise

    def health(self):
        status, _, body = self.request("GET", "/health")
        return status, body["status"], body

    def wait_for_health(self, status, word):
        self.wait_for(lambda: self.health()[:2] == (status, word), 20, f"{status} {word}: {self.health()}")


class SystemPort(unittest.TestCase):
    def setUp(self):
        self.root = tempfile.TemporaryDirectory(prefix="pixii-system-")
        self.addCleanup(self.root.cleanup)

    def test_it_lives_before_it_is_ready(self):
        # An engine that nobody answers for: the worker waits for it, and says so.
        worker = SystemWorker(self.root.name, "--attach", "http://127.0.0.1:1", "--engine", "vllm", wait=False)
        try:
            self.assertEqual(worker.request("GET", "/live")[0], 200)
            status, word, body = worker.health()
            self.assertEqual((status, word, body["endpoints"]), (503, "notready", {"generate": "notready"}), body)
            self.assertIn("not there yet", body["message"])
            self.assertEqual(worker.request("GET", "/ready")[0], 503)
            self.assertEqual(worker.request("GET", "/metrics")[0], 200)
            status, answer = worker.post("/engine/control/clear_kv_blocks", {})
            self.assertEqual(status, 503, answer)
            # It is told to end before its engine is there, and does.
            worker.process.send_signal(signal.SIGTERM)
            worker.process.wait(timeout=20)
        finally:
            worker.kill()
            worker.folder.cleanup()

    def test_a_model_that_loads_says_that_it_is_not_ready(self):
        worker = SystemWorker(self.root.name, *FLAGS, wait=False)
        try:
            seen = set()
            worker.wait_for(lambda: seen.add(worker.health()[:2]) or (200, "ready") in seen, 30, "ready")
            self.assertLessEqual(seen, {(503, "notready"), (200, "ready")})
            self.assertEqual(worker.stop(), 0, worker.log_text())
        finally:
            worker.kill()
            worker.folder.cleanup()

    def test_what_it_says_and_counts(self):
        with SystemWorker(self.root.name, *FLAGS) as worker, cluster.Frontend(self.root.name) as frontend:
            worker.wait_for_health(200, "ready")
            body = worker.health()[2]
            self.assertEqual(body["endpoints"], {"generate": "ready"})
            self.assertGreaterEqual(body["uptime"]["secs"], 0)
            self.assertLess(body["uptime"]["nanos"], 1_000_000_000)
            sent = 3
            for number in range(sent):
                status, answer = frontend.post(CHAT, {"messages": [{"role": "user", "content": f"{number}?"}], "max_tokens": 4})
                self.assertEqual(status, 200, answer)
            stream = frontend.stream(CHAT, {"messages": [{"role": "user", "content": "Go on"}], "max_tokens": 1500, "ignore_eos": True})
            next(stream)
            value = lambda name: sum(v for k, v in worker.metrics().items() if k.startswith(name + "{"))  # noqa: E731
            self.assertEqual(value("dynamo_component_inflight_requests"), 1)
            stream.close()
            worker.wait_for(lambda: value("dynamo_component_cancellation_total") == 1, 10, "the cancellation is counted")
            figures = worker.metrics()
            requests = {k: v for k, v in figures.items() if k.startswith("dynamo_component_requests_total{")}
            [(labels, count)] = requests.items()
            for label in ('dynamo_namespace="dynamo"', 'dynamo_component="backend"', 'dynamo_endpoint="generate"',
                          'model="tiny-chat"', "worker_id="):
                self.assertIn(label, labels)
            canaries = sum(v for k, v in frontend.metrics().items() if k.startswith("pixii_canaries_total{") and "failed" not in k)
            self.assertEqual(count, sent + 1 + canaries, "what the frontend tried it with is not a client's, but a request")
            self.assertEqual(value("dynamo_component_errors_total"), 0)
            self.assertEqual(value("pixii_worker_ready"), 1)
            self.assertGreater(value("dynamo_component_total_blocks"), 0)
            self.assertGreater(value("dynamo_component_uptime_seconds"), 0)
            self.assertGreaterEqual(value("pixii_canaries_total"), 1)
            self.assertGreater(value("pixii_engine_steps_total"), 0)
            self.assertFalse([k for k in figures if k.startswith("dynamo_frontend_")], "it is no frontend")
            # Clients are not answered here.
            self.assertEqual(worker.post(CHAT, {"messages": []})[0], 404)
            self.assertEqual(worker.request("GET", "/busy_threshold")[0], 404)

    def test_an_operator_puts_it_to_sleep_and_clears_its_cache(self):
        with SystemWorker(self.root.name, *FLAGS) as worker, cluster.Frontend(self.root.name) as frontend:
            worker.wait_for_health(200, "ready")
            body = {"messages": [{"role": "user", "content": "What is 17 + 25? " * 20}], "max_tokens": 8, "temperature": 0}

            def cached():
                def answered():  # it hears within a tenth of a second that the worker is back
                    status, answer = frontend.post(CHAT, body)
                    return answer if status == 200 else None

                answer = harness.wait_for(answered, 10, "an answer", frontend.log_text)
                return answer["usage"]["prompt_tokens_details"]["cached_tokens"]

            cached()
            self.assertGreater(cached(), 0)
            self.assertEqual(worker.post("/engine/control/clear_kv_blocks", {}),
                             (200, {"status": "success", "message": "KV cache cleared"}))
            self.assertEqual(cached(), 0)
            self.assertEqual(worker.post("/engine/control/clear_kv_blocks", {"x": 1})[0], 400)
            self.assertEqual(worker.post("/engine/control/release_memory_occupation", {})[0], 200)
            status, word, said = worker.health()
            self.assertEqual((status, word), (503, "notready"), said)
            self.assertIn("sleeps", said["message"])
            self.assertEqual(worker.request("GET", "/live")[0], 200)
            self.assertEqual(worker.post("/engine/control/resume_memory_occupation", {})[0], 200)
            worker.wait_for_health(200, "ready")
            self.assertEqual(cached(), 0, "it slept")

    def test_while_it_drains_it_lives_and_is_not_ready(self):
        worker = SystemWorker(self.root.name, *FLAGS)
        with cluster.Frontend(self.root.name) as frontend:
            try:
                worker.wait_for_health(200, "ready")
                frontend.wait_for(lambda: frontend.request("GET", "/ready")[0] == 200, 20, "a frontend")
                stream = frontend.stream(CHAT, {"messages": [{"role": "user", "content": "Go on"}], "max_tokens": 600, "ignore_eos": True})
                next(stream)
                seen = []
                worker.process.send_signal(signal.SIGTERM)
                worker.wait_for(lambda: worker.health()[0] == 503, 10, "not ready")
                seen.append((worker.health()[0], worker.request("GET", "/live")[0]))
                reader = threading.Thread(target=lambda: [None for _ in stream])
                reader.start()
                reader.join(60)
                self.assertFalse(reader.is_alive())
                self.assertEqual(worker.process.wait(timeout=30), 0, worker.log_text())
                self.assertEqual(seen, [(503, 200)])
            finally:
                worker.kill()
                worker.folder.cleanup()

    def test_who_stands_by_serves_when_the_other_one_dies(self):  # D12
        lock = str(pathlib.Path(self.root.name) / "lock")
        body = {"messages": [{"role": "user", "content": "Tell me of rivers."}], "max_tokens": 300, "temperature": 0.8, "seed": 4,
                "ignore_eos": True, "stream_options": {"include_usage": True}}
        processes = [SystemWorker(self.root.name, *FLAGS, "--standby-lock", lock)]
        try:
            frontend = cluster.Frontend(self.root.name)
            processes.append(frontend)
            frontend.wait_for(lambda: frontend.request("GET", "/ready")[0] == 200, 20, "a model")
            expected = cluster.joined(frontend.stream(CHAT, body))
            standby = SystemWorker(self.root.name, *FLAGS, "--standby-lock", lock, wait=False)
            processes.append(standby)
            standby.wait_for(lambda: "stands by" in standby.health()[2]["message"], 30, "a standby")
            self.assertEqual(standby.health()[0], 503)
            self.assertEqual(len(frontend.request("GET", "/health")[2]["instances"]), 1, "nobody sends it anything")
            killed = []

            def after(event):
                if event == 30:
                    processes[0].kill()
                    killed.append(time.monotonic())

            self.assertEqual(cluster.joined(frontend.stream(CHAT, body), after), expected, "what was in flight goes on there")
            self.assertEqual(standby.health()[:2], (200, "ready"))
            gaps = []
            third = SystemWorker(self.root.name, *FLAGS, "--standby-lock", lock, wait=False)
            processes.append(third)
            third.wait_for(lambda: "stands by" in third.health()[2]["message"], 30, "a standby")
            begun = time.monotonic()
            standby.kill()
            status, answer = frontend.post(CHAT, {**body, "max_tokens": 1, "stream_options": None})
            while status != 200 and time.monotonic() < begun + 20:
                status, answer = frontend.post(CHAT, {**body, "max_tokens": 1, "stream_options": None})
            gaps.append(time.monotonic() - begun)
            self.assertEqual(status, 200, answer)
            print(f"standby serves {1000 * gaps[0]:.0f} ms after a kill -9")
            self.assertLess(gaps[0], 1.0 * harness.BUSY)
            # One that is told to end hands over at once.
            self.assertEqual(third.health()[0], 200)
            self.assertEqual(third.stop(), 0, third.log_text())
        finally:
            for process in processes:
                process.kill()
                process.folder.cleanup()

    def test_paths_keys_and_what_is_wrong_with_them(self):
        keys = pathlib.Path(self.root.name) / "keys"
        key = "an-operator-key-0123456789"
        keys.write_text(key + "\n")
        flags = (*FLAGS, "--system-health-path", "/healthz", "--system-live-path", "/livez", "--system-api-key-file", str(keys))
        with SystemWorker(self.root.name, *flags) as worker:
            worker.wait_for(lambda: worker.request("GET", "/healthz")[0] == 200, 20, "ready")
            self.assertEqual(worker.request("GET", "/livez")[0], 200)
            self.assertEqual(worker.request("GET", "/health")[0], 404)
            self.assertEqual(worker.post("/engine/control/clear_kv_blocks", {})[0], 401)
            self.assertEqual(worker.post("/engine/control/clear_kv_blocks", {},
                                         headers={"Authorization": f"Bearer {key}"})[0], 200)
        for words, said in [(("--system-health-path", "metrics"), 'system-health-path: "metrics"'),
                            (("--system-live-path", "/health"), "system-live-path"),
                            (("--system-port", "70000"), "system-port"),
                            (("--canary-interval", "5ms"), "canary-interval")]:
            done = harness.run_pixii("worker", "tiny-chat", "--system-port", "0", "--discovery", f"file:{self.root.name}", *words)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(said, done.stdout + done.stderr)


if __name__ == "__main__":
    harness.main()
