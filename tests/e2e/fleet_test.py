"""Several models behind one frontend, and fleets that one command runs."""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import adapters
import cluster
import harness

CHAT = "/v1/chat/completions"
FLAGS = ("--threads", "1", "--max-batch", "8", "--kv-memory", "64MiB")
MOCK = ("--engine", "mock")


def listed(server):
    status, _, body = server.request("GET", "/v1/models")
    assert status == 200, body
    return sorted(model["id"] for model in body["data"])


def ask(server, body, after=None):
    return cluster.joined(server.stream(CHAT, {**body, "stream_options": {"include_usage": True}}), after)


def alive(pid):
    """Whether a process is there and no zombie."""
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children(pid):
    out = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            out.append(int(folder.name))
    return out


class Models(unittest.TestCase):
    def test_models_come_and_go_with_their_workers(self):
        body = {"messages": [{"role": "user", "content": "What is 17 + 25?"}], "max_tokens": 40, "temperature": 0}
        with cluster.Cluster(1, worker_flags=FLAGS) as fleet:
            server = fleet.frontend
            expected = ask(server, {**body, "model": "tiny-chat"})
            self.assertEqual(listed(server), ["tiny-chat"])
            second = cluster.Worker(fleet.folder.name, "tiny-chat", *FLAGS, "--served-model-name", "second")
            fleet.workers.append(second)
            server.wait_for(lambda: listed(server) == ["second", "tiny-chat"], 10, "both models")
            self.assertTrue(any('"second"' in name for name in server.metrics()))
            # The same weights under two names answer alike, each under its own.
            self.assertEqual(ask(server, {**body, "model": "second"}), expected)
            status, answer = server.post(CHAT, {**body, "model": "second"})
            self.assertEqual((status, answer["model"]), (200, "second"))
            self.assertEqual(server.post(CHAT, {**body, "model": "third"})[0], 404)
            self.assertEqual(server.post(CHAT, body)[0], 400, "which one is meant?")
            health = server.request("GET", "/health")[2]
            self.assertEqual(sorted(one["model"] for one in health["instances"]), ["second", "tiny-chat"])
            # A stream of a model whose only worker drains is finished by it.
            stream = server.stream(CHAT, {**body, "model": "second", "max_tokens": 200, "ignore_eos": True,
                                          "stream_options": {"include_usage": True}})
            first = next(stream)
            second.process.send_signal(signal.SIGTERM)
            server.wait_for(lambda: listed(server) == ["tiny-chat"], 12, "one model")
            rest = cluster.joined([first, *stream])
            self.assertEqual(rest["usage"]["completion_tokens"], 200)
            self.assertEqual(server.post(CHAT, {**body, "model": "second"})[0], 404)
            self.assertEqual(ask(server, {**body, "model": "tiny-chat"}), expected)
            # What it was goes with it; what was counted of it stays.
            gauge = 'dynamo_frontend_model_context_length{model="%s"}'
            server.wait_for(lambda: gauge % "second" not in server.metrics(), 10, "its gauges to go")
            self.assertIn(gauge % "tiny-chat", server.metrics())
            self.assertGreater(cluster.total(server, "dynamo_frontend_output_tokens_total", '"second"'), 0)
            # It comes back.
            again = cluster.Worker(fleet.folder.name, "tiny-chat", *FLAGS, "--served-model-name", "second")
            fleet.workers.remove(second)
            self.assertEqual(second.process.wait(10), 0)
            fleet.workers.append(again)
            server.wait_for(lambda: listed(server) == ["second", "tiny-chat"], 10, "both models again")
            self.assertEqual(ask(server, {**body, "model": "second"}), expected)

    def test_a_new_version_takes_over_and_the_old_one_ends_what_it_has(self):
        old, new = (str(harness.OWN_MODELS / name) for name in ("llama-gqa", "phi3"))
        flags = (*FLAGS, "--dtype", "fp32", "--served-model-name", "m")
        body = {"model": "m", "prompt": [5, 9, 13], "max_tokens": 12, "temperature": 0, "ignore_eos": True,
                "return_token_ids": True}

        def tokens(server):
            status, answer = server.post("/v1/completions", body)
            self.assertEqual(status, 200, answer)
            return answer["choices"][0]["token_ids"]

        with cluster.Cluster(1, model=old, worker_flags=flags) as fleet:
            first = tokens(fleet.frontend)
            newer = cluster.Worker(fleet.folder.name, new, *flags)
            fleet.workers.append(newer)
            fleet.frontend.wait_for(lambda: tokens(fleet.frontend) != first, 10, "the new version answers")
            second = tokens(fleet.frontend)
            self.assertEqual(listed(fleet.frontend), ["m"])
            # The new one fails: the old one has workers and takes over again.
            fleet.kill(newer)
            fleet.frontend.wait_for(lambda: tokens(fleet.frontend) == first, 10, "the old version answers again")
            self.assertNotEqual(first, second)

    def test_requests_go_to_workers_that_can_hold_them(self):
        flags = ("--engine", "mock")

        def limit(server):
            return [model["max_model_len"] for model in server.request("GET", "/v1/models")[2]["data"]]

        def used(max_tokens):
            return ask(server, {"messages": [{"role": "user", "content": "x"}], "max_tokens": max_tokens,
                                "ignore_eos": True})["usage"]["completion_tokens"]
        with cluster.Cluster(1, worker_flags=(*flags, "--max-context", "2048")) as fleet:
            server = fleet.frontend
            fleet.workers.append(cluster.Worker(fleet.folder.name, "tiny-chat", *flags, "--max-context", "512"))
            fleet.wait_for_workers(2)
            self.assertEqual(limit(server), [2048])
            self.assertEqual([used(count) for count in (20, 1000) * 4], [20, 1000] * 4)
            fleet.kill(fleet.workers[0])
            fleet.wait_for_workers(1)
            self.assertEqual(limit(server), [512])
            self.assertEqual(used(20), 20)
            status, answer = server.post(CHAT, {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1000})
            self.assertEqual(status, 400, answer)
            self.assertIn("512", answer["error"]["message"])

    def test_embeddings_and_scores_behind_a_frontend_are_those_of_a_server(self):
        cases = [("qwen3-embedding", "/v1/embeddings", {"input": ["one text", "another"], "dimensions": 8}),
                 ("bert-modes", "/v1/embeddings", {"input": [[5, 6, 7], [9]]}),
                 ("bert-classes", "/classify", {"input": [[5, 6, 7], [9]]}),
                 ("xlmr-reranker", "/v1/rerank", {"query": "a", "documents": ["b", "c d"]})]
        for name, path, body in cases:
            with self.subTest(name):
                folder = str(harness.OWN_MODELS / name)
                with harness.Server(folder, *FLAGS, "--dtype", "fp32", "--served-model-name", "m") as server:
                    alone = server.post(path, {**body, "model": "m"})
                with cluster.Cluster(1, model=folder, worker_flags=(*FLAGS, "--dtype", "fp32", "--served-model-name", "m")) as fleet:
                    behind = fleet.frontend.post(path, {**body, "model": "m"})
                    self.assertEqual(fleet.frontend.post(CHAT, {"model": "m", "messages": [{"role": "user", "content": "x"}]})[0], 404)
                for answer in (alone[1], behind[1]):
                    answer.pop("id", None)
                    answer.pop("created", None)
                self.assertEqual(behind, alone)


class Conflicts(unittest.TestCase):
    def test_a_worker_that_contradicts_the_others_gets_nothing_until_they_are_gone(self):
        body = {"messages": [{"role": "user", "content": "What is 17 + 25?"}], "max_tokens": 8, "temperature": 0}
        with cluster.Cluster(2, worker_flags=FLAGS) as fleet:
            server = fleet.frontend
            expected = ask(server, body)
            odd = cluster.Worker(fleet.folder.name, "tiny-chat", *FLAGS, "--block-size", "32")
            fleet.workers.append(odd)

            def rows():
                return {one["instance_id"]: one for one in server.request("GET", "/health")[2]["instances"]}

            def states(reason):
                return [one for one in rows().values() if one["reason"] == reason]

            server.wait_for(lambda: len(states("config_conflict")) == 1, 20, f"a conflict: {rows()}")
            [row] = states("config_conflict")
            self.assertEqual(row["state"], "excluded")
            self.assertIn("kv_cache_block_size", row["message"])
            self.assertIn('"32"', row["message"])
            gauge = lambda state: sum(v for k, v in server.metrics().items()  # noqa: E731
                                      if k.startswith("dynamo_frontend_router_worker_state{") and f'state="{state}"' in k)
            self.assertEqual((gauge("available"), gauge("excluded")), (2, 1))
            self.assertIn("worker.conflict", server.log_text())
            fleet.busiest()
            for _ in range(12):
                self.assertEqual(ask(server, body), expected)
            self.assertIsNot(fleet.busiest(), odd)
            # The others leave: it is the only one, and no contradiction any more.
            for worker in fleet.workers[:2]:
                self.assertEqual(worker.stop(), 0, worker.log_text())
                worker.folder.cleanup()
            del fleet.workers[:2]
            server.wait_for(lambda: not states("config_conflict") and len(rows()) == 1, 20, "no conflict")
            server.wait_for(lambda: server.post(CHAT, body)[0] == 200, 20, "it serves")
            self.assertEqual(ask(server, body), expected)
            self.assertIn("worker.agrees", server.log_text())

    def test_another_tokenizer_is_another_set_of_workers(self):
        with tempfile.TemporaryDirectory() as folder, cluster.Cluster(2, worker_flags=FLAGS) as fleet:
            other = pathlib.Path(folder) / "tokenizer"
            shutil.copytree(harness.ROOT / "models/tiny-chat", other)
            config = json.loads((other / "tokenizer_config.json").read_text())
            config["chat_template"] = "{% for m in messages %}{{ m.content }}{% endfor %}"
            (other / "tokenizer_config.json").write_text(json.dumps(config))
            fleet.workers.append(cluster.Worker(fleet.folder.name, "tiny-chat", *FLAGS, "--tokenizer", str(other)))
            server = fleet.frontend

            def reasons():
                return sorted(one["reason"] for one in server.request("GET", "/health")[2]["instances"])

            server.wait_for(lambda: reasons() == ["", "", "config_conflict"], 20, "a conflict of texts")


class Adapters(unittest.TestCase):
    def test_adapters_are_loaded_at_every_worker_and_at_those_that_come(self):
        model = harness.OWN_MODELS / "llama-gqa"
        with tempfile.TemporaryDirectory() as folder:
            adapters.write(pathlib.Path(folder) / "a", adapters.linears(model), 3, 4)
            flags = (*FLAGS, "--dtype", "fp32", "--served-model-name", "m", "--enable-lora")
            body = {"prompt": [5, 9, 13], "max_tokens": 12, "temperature": 0, "ignore_eos": True, "return_token_ids": True}

            def tokens(server, name):
                status, answer = server.post("/v1/completions", {**body, "model": name})
                self.assertEqual(status, 200, answer)
                return answer["choices"][0]["token_ids"]

            load = {"lora_name": "a", "source": {"uri": f"file://{folder}/a"}}
            with cluster.Cluster(2, model=str(model), worker_flags=flags) as fleet:
                server = fleet.frontend
                base = tokens(server, "m")
                self.assertEqual(server.post("/v1/loras", load)[0], 200)
                self.assertEqual(listed(server), ["a", "m"])
                adapted = tokens(server, "a")
                self.assertNotEqual(adapted, base)
                for _ in range(4):  # whichever worker answers
                    self.assertEqual(tokens(server, "a"), adapted)
                fleet.add_worker()
                fleet.wait_for_workers(3)
                for worker in fleet.workers[:2]:
                    fleet.kill(worker)
                fleet.wait_for_workers(1)
                server.wait_for(lambda: server.post("/v1/completions", {**body, "model": "a"})[0] == 200, 10, "the adapter is there")
                self.assertEqual(tokens(server, "a"), adapted)
                self.assertEqual(server.request("DELETE", "/v1/loras/a")[0], 200)
                server.wait_for(lambda: listed(server) == ["m"], 10, "the adapter is gone")
                self.assertEqual(tokens(server, "m"), base)


    def test_a_stream_whose_adapter_is_nowhere_waits_for_it(self):
        model = harness.ROOT / "models/tiny-chat"
        with tempfile.TemporaryDirectory() as folder:
            adapters.write(pathlib.Path(folder) / "a", adapters.linears(model), 3, 4)
            body = {"model": "a", "messages": [{"role": "user", "content": "x"}], "max_tokens": 400, "temperature": 0.8,
                    "seed": 3, "ignore_eos": True}
            with cluster.Cluster(1, worker_flags=(*FLAGS, "--lora-dir", folder)) as fleet:
                expected = ask(fleet.frontend, body)
                fleet.workers.append(cluster.Worker(fleet.folder.name, "tiny-chat", *FLAGS))  # it has no adapters
                fleet.wait_for_workers(2)

                def after(event):
                    if event == 5:
                        fleet.kill(fleet.workers[0])
                        fleet.add_worker()
                self.assertEqual(ask(fleet.frontend, body, after), expected)


class Drain(unittest.TestCase):
    def test_a_worker_that_is_told_to_end_ends_what_it_has(self):  # C10
        bodies = [{"messages": [{"role": "user", "content": f"Tell me {i}."}], "max_tokens": 120, "seed": i,
                   "ignore_eos": True} for i in range(10)]
        with cluster.Cluster(1, worker_flags=FLAGS) as fleet:
            worker = fleet.workers[0]
            running = threading.Barrier(11)

            def drive(body):
                def after(event):
                    if event == 2:
                        running.wait(30)
                return ask(fleet.frontend, body, after)

            with ThreadPoolExecutor(10) as pool:
                drivers = [pool.submit(drive, body) for body in bodies]
                running.wait(30)
                fleet.add_worker()
                fleet.wait_for_workers(2)
                worker.process.send_signal(signal.SIGTERM)
                fleet.wait_for_workers(1)
                fleet.workers.remove(worker)
                fresh = ask(fleet.frontend, bodies[0])
                answers = [driver.result() for driver in drivers]
            self.assertEqual(worker.process.wait(20), 0)
            self.assertEqual(fresh, answers[0])
            for answer in answers:
                self.assertEqual(answer["usage"]["completion_tokens"], 120)
            self.assertEqual(fleet.migrations(), {"new_request": 0, "ongoing_request": 0})


class ServeWorkers(unittest.TestCase):
    def workers(self, server):
        health = server.request("GET", "/health")[2]
        return [one for one in health["instances"] if not one["draining"]]

    def ready(self, server):
        return sum(v for k, v in server.metrics().items() if k.startswith("dynamo_frontend_model_workers{"))

    def test_a_worker_that_dies_is_started_anew_and_nobody_notices(self):
        bodies = list(cluster.requests(12, 7))
        with harness.Server("tiny-chat", *FLAGS, "--workers", "3") as server:
            server.wait_for(lambda: self.ready(server) == 3, 30, "three workers")
            self.assertEqual(len(self.workers(server)), 3)
            expected = [ask(server, body) for body in bodies]
            before = children(server.process.pid)
            self.assertEqual(len(before), 3)
            killed = before[:2]

            # One death at a time: a request that two workers die under while they have it is given up as poisoned.
            for half, victim in ((range(6), killed[0]), (range(6, 12), killed[1])):
                def drive(number, first=half[0], victim=victim):
                    def after(event):
                        if event == 3 and number == first + 2:
                            os.kill(victim, signal.SIGKILL)
                    return ask(server, bodies[number], after)

                with ThreadPoolExecutor(4) as pool:
                    self.assertEqual(list(pool.map(drive, half)), expected[half[0]:half[-1] + 1])
            server.wait_for(lambda: self.ready(server) == 3, 30, "three workers again")
            after = children(server.process.pid)
            self.assertTrue(set(killed).isdisjoint(after))
            self.assertEqual(server.stop(), 0, server.log_text())
            for pid in (*before, *after):
                self.assertFalse(alive(pid), pid)

    def test_workers_that_die_together_poison_no_request(self):
        body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 300, "ignore_eos": True}
        with harness.Server("tiny-chat", "--engine", "mock", "--mock-step-time", "5ms", "--workers", "3") as server:
            server.wait_for(lambda: self.ready(server) == 3, 30, "three workers")
            running = threading.Barrier(7)

            def drive(_):
                return ask(server, body, lambda event: event == 3 and running.wait(30))

            with ThreadPoolExecutor(6) as pool:
                drivers = [pool.submit(drive, number) for number in range(6)]
                running.wait(30)
                # Stopped first: however long this script is kept between two signals, the second does nothing after the first died.
                victims = children(server.process.pid)[:2]
                for kind in (signal.SIGSTOP, signal.SIGKILL):
                    for pid in victims:
                        os.kill(pid, kind)
                # A stream that lost the first of them may have been sent to the second, which had never heard of it.
                for driver in drivers:
                    self.assertEqual(driver.result()["usage"]["completion_tokens"], 300)

    def test_nothing_outlives_a_server_that_is_killed(self):
        server = harness.Server("tiny-chat", *FLAGS, "--workers", "2")
        server.wait_for(lambda: self.ready(server) == 2, 30, "two workers")
        workers = children(server.process.pid)
        self.assertEqual(len(workers), 2)
        server.kill()
        harness.wait_for(lambda: not any(alive(pid) for pid in workers), 2, "no worker is left", lambda: str(workers))

    def test_what_a_killed_server_left_goes_when_the_next_one_starts(self):
        with tempfile.TemporaryDirectory() as cache:
            folder = pathlib.Path(cache) / "pixii/serve"
            flags, env = (*MOCK, "--workers", "1"), {"XDG_CACHE_HOME": cache}

            def files(server):
                return [one.name for one in folder.iterdir() if one.name.startswith(f"serve-{server.process.pid}-")]

            killed = harness.Server("tiny-chat", *flags, env=env)
            killed.wait_for(lambda: self.ready(killed) == 1, 30, "a worker")
            with harness.Server("tiny-chat", *flags, env=env) as running:
                running.wait_for(lambda: self.ready(running) == 1, 30, "a worker")
                self.assertEqual(len([name for name in files(killed) if name.endswith("-key")]), 1)
                killed.kill()
                self.assertTrue(files(killed))
                before = files(running)
                self.assertEqual(len([name for name in before if name.endswith("-key")]), 1)
                with harness.Server("tiny-chat", *flags, env=env) as last:
                    last.wait_for(lambda: self.ready(last) == 1, 30, "a worker")
                    self.assertEqual(files(killed), [])
                    self.assertEqual(files(running), before, "it runs, so its files stay")
            self.assertEqual(list(folder.iterdir()), [])

    def test_each_worker_has_a_system_port_that_is_logged(self):
        with harness.Server("tiny-chat", *MOCK, "--workers", "2") as server:
            server.wait_for(lambda: self.ready(server) == 2, 30, "two workers")

            def ports():
                return re.findall(r"worker\.process worker=\d+ role=agg pid=(\d+) what=\"is ready\" system=127\.0\.0\.1:(\d+)", server.log_text())

            server.wait_for(lambda: len(ports()) == 2, 20, "their ports")
            self.assertEqual(sorted(int(pid) for pid, _ in ports()), sorted(children(server.process.pid)))
            for _, port in ports():
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                    self.assertIn("pixii_worker_ready", answer.read().decode())

    def test_who_may_not_ask_the_server_may_not_ask_its_workers(self):
        with tempfile.TemporaryDirectory() as folder:
            keys = pathlib.Path(folder) / "keys"
            keys.write_text("a-key-of-a-client-0123456789\n")
            keys.chmod(0o600)
            with harness.Server("tiny-chat", *MOCK, "--workers", "1", "--api-key-file", str(keys)) as server:
                server.wait_for(lambda: re.search(r"what=\"is ready\" system=127", server.log_text()), 30, "its port")
                port = re.search(r"system=127\.0\.0\.1:(\d+)", server.log_text())[1]
                with self.assertRaises(urllib.error.HTTPError) as refused:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/loras")
                self.assertEqual(refused.exception.code, 401)

    def test_a_model_that_cannot_be_loaded_is_said(self):
        program = subprocess.run([harness.BINARY, "serve", "/nowhere", "--port", "0", "--workers", "2"],
                                 capture_output=True, text=True, timeout=60)
        self.assertEqual(program.returncode, 2, program.stderr)
        self.assertIn("/nowhere", program.stderr)


GRAPH = """
environment: {{PIXII_TEST: "1"}}
components:
  http:
    command: frontend
    flags: {{port: {port}}}
    needs: [chat]
  chat:
    model: {model}
    replicas: {replicas}
    settle: 1s
    flags:
      threads: 1
      max-batch: {batch}
      kv-memory: 64MiB
      served-model-name: m
"""


class Up:
    """`pixii up` with a folder of its own."""

    def __init__(self, **values):
        self.folder = tempfile.TemporaryDirectory(prefix="pixii-up-")
        self.path = pathlib.Path(self.folder.name) / "graph.yaml"
        self.state = pathlib.Path(self.folder.name) / "state"
        self.values = {"port": 0, "model": "tiny-chat", "replicas": 2, "batch": 8, **values}
        self.write()
        self.lines = []
        self.process = subprocess.Popen([harness.BINARY, "up", str(self.path), "--state-dir", str(self.state)],
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.reader = threading.Thread(target=lambda: self.lines.extend(iter(self.process.stdout.readline, "")), daemon=True)
        self.reader.start()

    def write(self, **values):
        self.values.update(values)
        self.path.write_text(GRAPH.format(**self.values))

    def settled(self):
        return sum("all is as" in line for line in self.lines)

    def wait(self, condition, seconds, what):
        harness.wait_for(condition, seconds, what, lambda: "".join(self.lines) + self.logs())

    def logs(self):
        return "".join(f"--- {path.name}\n{path.read_text()[-1500:]}" for path in sorted(self.state.glob("logs/*")))

    def frontend(self):
        """The running frontend as a harness.Server to ask."""
        names = [line.split()[0] for line in self.lines if line.startswith("http-") and "is ready" in line]
        server = harness.Server.__new__(harness.Server)
        server.port = int((self.state / "ports" / names[-1]).read_text())
        return server

    def again(self):
        return subprocess.run([harness.BINARY, "up", str(self.path), "--state-dir", str(self.state)],
                              capture_output=True, text=True, timeout=20)

    def __enter__(self):
        self.wait(lambda: self.settled() == 1, 60, "everything runs")
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        try:
            status = self.process.wait(40)
        finally:
            self.process.kill()
            self.reader.join(5)
            self.folder.cleanup()
        if status != 0:
            raise AssertionError(f"exit status {status}: {''.join(self.lines)}")


class UpTest(unittest.TestCase):
    def test_a_changed_file_replaces_workers_under_load_and_nothing_fails(self):
        bodies = [{"model": "m", "messages": [{"role": "user", "content": f"What is {i} + 4?"}], "max_tokens": 12, "seed": i,
                   "temperature": 0.8} for i in range(8)]
        with Up() as up:
            server = up.frontend()
            starts = [line.split()[0] for line in up.lines if "started" in line]
            self.assertEqual([name.split("-")[0] for name in starts], ["chat", "chat", "http"])
            expected = [ask(server, body) for body in bodies]
            workers = set(children(up.process.pid))
            done = threading.Event()

            def drive(number):
                answers = 0
                while not done.is_set():
                    which = (number + answers) % len(bodies)
                    self.assertEqual(ask(server, bodies[which]), expected[which])
                    answers += 1
                return answers

            with ThreadPoolExecutor(6) as pool:
                began = time.monotonic()
                drivers = [pool.submit(drive, number) for number in range(6)]
                up.write(batch=6)
                second = up.again()
                self.assertEqual(second.returncode, 0, second.stderr)
                up.wait(lambda: up.settled() == 2, 90, "all workers are replaced")
                done.set()
                answers = sum(driver.result() for driver in drivers)
                rate = answers / (time.monotonic() - began)
            print(f"rolling update under {rate:.0f} requests/s: {answers} answers, none failed, none changed")
            self.assertEqual(len(workers & set(children(up.process.pid))), 1, "only the frontend is the same")
            # Fewer replicas, and one that dies.
            up.write(replicas=1)
            up.process.send_signal(signal.SIGHUP)
            up.wait(lambda: up.settled() == 3, 60, "one worker is left")
            self.assertEqual(ask(server, bodies[0]), expected[0])
            chat = [line for line in up.lines if line.startswith("chat-") and "is ready" in line]
            victims = [int(line.split("process ")[1].split(",")[0]) for line in chat]
            for pid in victims:
                if alive(pid):
                    os.kill(pid, signal.SIGKILL)
            up.wait(lambda: any("ended with status 137" in line for line in up.lines) and
                    server.post(CHAT, bodies[0])[0] == 200, 60, "a new one answers")
            # A file that is wrong changes nothing.
            up.path.write_text("components:\n  chat:\n    modle: x\n")
            up.process.send_signal(signal.SIGHUP)
            up.wait(lambda: any("graph.yaml:3: components.chat.modle" in line for line in up.lines), 10, "the error is said")
            self.assertEqual(ask(server, bodies[0]), expected[0])
            everything = children(up.process.pid)
        self.assertFalse(any(alive(pid) for pid in everything))

    def test_a_router_starts_before_those_that_ask_it(self):
        graph = """
components:
  http:
    command: frontend
    needs: [where, chat]
    flags: {{port: 0, router-url: discovery, router-mode: kv}}
  chat:
    model: tiny-chat
    replicas: {replicas}
    flags: {{threads: 1, max-batch: 8, kv-memory: 64MiB}}
  where:
    command: router
    flags: {{port: 0}}
  alone:
    command: serve
    model: tiny-chat
    needs: [http]
    flags: {{port: 0, engine: mock}}
"""
        body = {"messages": [{"role": "user", "content": "What is 17 + 25?"}], "max_tokens": 8}
        global GRAPH
        usual, GRAPH = GRAPH, graph
        try:
            with Up(replicas=1) as up:
                starts = [line.split()[0].rsplit("-", 1)[0] for line in up.lines if "started" in line]
                self.assertEqual((sorted(starts[:2]), starts[2:]), (["chat", "where"], ["http", "alone"]))
                server = up.frontend()
                self.assertEqual(server.post(CHAT, body)[0], 200)
                router = harness.Server.__new__(harness.Server)
                ports = {path.name.rsplit("-", 1)[0]: int(path.read_text()) for path in (up.state / "ports").iterdir()}
                router.port = ports["where"]
                # The router knows the worker, and was asked.
                harness.wait_for(lambda: router.request("GET", "/ready")[0] == 200, 20, "the router has a worker")
                alone = harness.Server.__new__(harness.Server)
                alone.port = ports["alone"]
                status, answer = alone.post(CHAT, body)
                self.assertEqual(status, 200, answer)
                self.assertEqual(len(alone.request("GET", "/health")[2]["instances"]), 0, "it finds nobody")
                everything = children(up.process.pid)
            self.assertFalse(any(alive(pid) for pid in everything))
        finally:
            GRAPH = usual
    def test_a_state_folder_is_of_one_graph(self):
        with tempfile.TemporaryDirectory() as folder:
            one, two, state = (pathlib.Path(folder) / name for name in ("one.yaml", "two.yaml", "state"))
            for path in (one, two):
                path.write_text("components:\n  a:\n    replicas: 0\n")
            first = subprocess.Popen([harness.BINARY, "up", str(one), "--state-dir", str(state)], stdout=subprocess.PIPE, text=True)
            try:
                self.assertIn("all is as", first.stdout.readline())
                again = subprocess.run([harness.BINARY, "up", str(one), "--state-dir", str(state)], capture_output=True, text=True, timeout=20)
                self.assertEqual(again.returncode, 0, again.stderr)
                other = subprocess.run([harness.BINARY, "up", str(two), "--state-dir", str(state)], capture_output=True, text=True, timeout=20)
                self.assertEqual(other.returncode, 2)
                unwritten = subprocess.run([harness.BINARY, "up", str(one), "--port-file", str(state / "p")], capture_output=True, text=True, timeout=20)
                self.assertEqual((unwritten.returncode, "port-file" in unwritten.stderr), (2, True))
                self.assertIn(f"state-dir: process {first.pid} keeps {one}", other.stderr)
            finally:
                first.terminate()
                self.assertEqual(first.wait(20), 0)
                first.stdout.close()

    def test_check_says_what_is_wrong_and_where(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "g.yaml"

            def check(text):
                path.write_text(text)
                done = subprocess.run([harness.BINARY, "up", "--check", str(path)], capture_output=True, text=True, timeout=20)
                return done.returncode, done.stdout + done.stderr

            self.assertEqual(check("components:\n  a:\n    replicas: 3\n"), (0, f"{path}: 1 components, 3 processes\n"))
            for text, said in [
                    ("components:\n  a:\n    flags:\n      max-btach: 3\n", "g.yaml:4: components.a.flags.max-btach: pixii worker has no flag --max-btach; did you mean max-batch?"),
                    ("components:\n  a:\n    flags:\n      max-batch: many\n", "g.yaml:4: components.a.flags.max-batch: "),
                    ("components:\n  a:\n    flags:\n      max-batch: [1, 2]\n", "g.yaml:4: components.a.flags.max-batch: takes one value"),
                    ("components:\n  a:\n    command: frontend\n  b:\n    command: frontend\n", "components.b.flags.port: 127.0.0.1:8000 is a's already"),
                    ("components:\n  a:\n    command: router\n  b:\n    command: router\n", "components.b.flags.port: 127.0.0.1:8090 is a's already"),
                    ("components:\n  a:\n    command: frontend\n    replicas: 2\n", "components.a.replicas: several cannot have one port"),
                    ("components:\n  a:\n    command: router\n    replicas: 2\n", "components.a.replicas: several cannot have one port"),
                    ("components:\n  a:\n    command: router\n    model: m\n", "components.a.model: pixii router takes no model"),
                    ("components:\n  a:\n    command: chat\n", 'components.a.command: "chat" is none of frontend, worker, planner, router, serve')]:
                status, output = check(text)
                self.assertEqual(status, 2, output)
                self.assertIn(said, output)


if __name__ == "__main__":
    harness.main()
