"""Workers in processes of their own behind a frontend: they answer as one, and their deaths are not seen."""
import json
import os
import pathlib
import random
import signal
import socket
import tempfile
import threading
import time
import unittest
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import adapters
import cluster
import harness

CHAT = "/v1/chat/completions"
ADAPTED = {name: shape for name, shape in adapters.linears(harness.ROOT / "models/tiny-chat").items()
           if "q_proj" in name or "down_proj" in name}
KILLS = int(os.environ.get("PIXII_CLUSTER_KILLS", 20))
STOPS = int(os.environ.get("PIXII_CLUSTER_STOPS", 5))
FLAGS = ("--threads", "1", "--max-batch", "8", "--kv-memory", "64MiB")


def ask(frontend, body, after=None):
    return cluster.joined(frontend.stream(CHAT, {**body, "stream_options": {"include_usage": True}}), after)


class Cluster(unittest.TestCase):
    def test_workers_answer_as_one_server_does(self):
        bodies = list(cluster.requests(12, 1))
        with harness.Server("tiny-chat", *FLAGS) as server:
            alone = [ask(server, body) for body in bodies]
        with cluster.Cluster(2, worker_flags=FLAGS) as both:
            with ThreadPoolExecutor(6) as pool:
                together = list(pool.map(lambda body: ask(both.frontend, body), bodies))
            _, _, models = both.frontend.request("GET", "/v1/models")
            self.assertEqual([model["id"] for model in models["data"]], ["tiny-chat"])
        self.assertEqual(alone, together)

    def test_a_worker_killed_at_any_token_is_not_noticed(self):
        draw = random.Random(5)
        root = tempfile.TemporaryDirectory(prefix="pixii-adapters-")
        self.addCleanup(root.cleanup)
        for seed, name in enumerate(("fox", "owl")):
            adapters.write(pathlib.Path(root.name) / name, ADAPTED, seed + 1, 8)
        bodies = list(cluster.requests(KILLS, 2, adapters=("fox", "owl")))
        pauses = []
        with cluster.Cluster(2, worker_flags=(*FLAGS, "--enable-lora", "--lora-dir", root.name)) as both:
            undisturbed = [ask(both.frontend, body) for body in bodies]
            for body, whole in zip(bodies, undisturbed):
                if "response_format" in body and whole["choices"][0]["finish"] == "stop":
                    self.assertEqual(set(json.loads(whole["choices"][0]["text"])), {"name", "age", "tags"})
            for number, (body, expected) in enumerate(zip(bodies, undisturbed)):
                at = draw.choice([0, 1, 2, draw.randint(3, 60)])
                killed, times = [], []

                def after(event, at=at, killed=killed, times=times):
                    if event == at:
                        killed.append(both.serving())
                        both.kill(killed[0])
                    if killed:
                        times.append(time.monotonic())

                self.assertEqual(ask(both.frontend, body, after), expected, f"request {number}, killed after event {at}")
                if killed:
                    pauses += [max(1000 * (later - earlier) for earlier, later in zip(times, times[1:]))] if times[1:] else []
                    both.add_worker()
                    both.wait_for_workers(2)
            self.assertGreater(both.migrations()["ongoing_request"], KILLS // 2)
        pauses.sort()
        print(f"longest pause of a stream after a kill: p50 {pauses[len(pauses) // 2]:.1f} ms, p99 {pauses[len(pauses) * 99 // 100]:.1f} ms, "
              f"of {len(pauses)}")

    def test_a_worker_that_stands_still_is_given_up_and_comes_back(self):
        draw = random.Random(6)
        bodies = list(cluster.requests(STOPS, 3))
        with cluster.Cluster(2, worker_flags=FLAGS, frontend_flags=("--worker-dead-after", "1s")) as both:
            undisturbed = [ask(both.frontend, body) for body in bodies]
            for number, (body, expected) in enumerate(zip(bodies, undisturbed)):
                at = draw.randint(0, 40)
                stopped = []

                def after(event, at=at, stopped=stopped):
                    if event == at:
                        stopped.append(both.serving())
                        cluster.pause(stopped[0])

                try:
                    self.assertEqual(ask(both.frontend, body, after), expected, f"request {number}, stopped after event {at}")
                finally:
                    for worker in stopped:
                        cluster.resume(worker)
                both.wait_for_workers(2)

    def test_a_fleet_sleeps_and_wakes_also_for_a_frontend_that_came_meanwhile(self):
        body = next(cluster.requests(1, 7))
        with cluster.Cluster(2, worker_flags=FLAGS) as both:
            expected = ask(both.frontend, body)
            status, said = both.frontend.post("/engine/control/release_memory_occupation", {})
            self.assertEqual(status, 200, said)
            both.wait_for_workers(0)
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]

            def knows_who_sleeps():
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                        return b"dynamo_frontend_model_workers{" in answer.read()
                except OSError:
                    return False  # it does not listen yet

            with ThreadPoolExecutor(1) as pool:
                coming = pool.submit(both.frontend_of, "--port", str(port))  # ready once somebody is awake
                harness.wait_for(knows_who_sleeps, 20, "the late frontend to find the workers")
                status, said = both.frontend.post("/engine/control/resume_memory_occupation", {})
                self.assertEqual(status, 200, said)
                both.wait_for_workers(2)
                with coming.result() as late:
                    self.assertEqual(ask(late, body), expected)
            self.assertEqual(ask(both.frontend, body), expected)

    def test_an_answer_that_others_recompute_says_so(self):
        body = {"messages": [{"role": "user", "content": "Tell me of rivers."}], "max_tokens": 500, "temperature": 0.8, "seed": 4,
                "ignore_eos": True}
        with cluster.Cluster(1, worker_flags=FLAGS) as both:
            both.workers.append(cluster.Worker(both.folder.name, "tiny-chat", *FLAGS, "--kv-dtype", "int8"))
            both.wait_for_workers(2)
            killed = []

            def after(event):
                if event == 40:
                    killed.append(both.serving())
                    both.kill(killed[0])

            events = []
            for number, event in enumerate(both.frontend.stream(CHAT, body)):
                events.append(event)
                after(number)
            said = [event["nvext"]["recomputed"] for event in events if "nvext" in event]
            self.assertEqual(len(said), 1, "with the last finish and nowhere else")
            self.assertIn("nvext", events[-1])
            [choice] = said[0]
            first, second = choice["parts"]
            self.assertEqual((choice["index"], first["first_token"]), (0, 0))
            self.assertGreater(second["first_token"], 5)
            self.assertNotEqual(first["numerics_id"], second["numerics_id"])
            self.assertEqual(both.migrations()["ongoing_request"], 1)
            self.assertEqual(sum(v for k, v in both.frontend.metrics().items() if k.startswith("pixii_answers_recomputed_total")), 1)

            # A whole answer says it in its head, too. The other kind of worker is there again.
            has_int8 = "int8" in both.workers[0].process.args
            both.workers.append(cluster.Worker(both.folder.name, "tiny-chat", *FLAGS, *(() if has_int8 else ("--kv-dtype", "int8"))))
            both.wait_for_workers(2)
            tokens = lambda: sum(v for k, v in both.frontend.metrics().items()  # noqa: E731
                                 if k.startswith("dynamo_frontend_output_tokens_total"))
            before = tokens()
            with ThreadPoolExecutor(1) as pool:
                answer = pool.submit(both.frontend.request, "POST", CHAT, {**body, "receipt": True})
                both.frontend.wait_for(lambda: tokens() >= before + 30, 20, "tokens")
                both.kill(both.serving())
                status, headers, whole = answer.result()
            self.assertEqual(status, 200, whole)
            parts = whole["nvext"]["recomputed"][0]["parts"]
            ids = [part["numerics_id"] for part in parts]
            self.assertEqual(headers["x-pixii-recomputed"], ", ".join(ids))
            self.assertEqual(len(set(ids)), 2)
            self.assertEqual(whole["receipt"]["numerics_id"], ids[0])
            self.assertEqual(whole["receipt"]["choices"][0]["computed"], parts)
            # Undisturbed nothing is said.
            status, headers, whole = both.frontend.request("POST", CHAT, {**body, "max_tokens": 4})
            self.assertNotIn("x-pixii-recomputed", headers)
            self.assertNotIn("nvext", whole)

    def test_all_workers_are_replaced_under_load_and_nothing_fails(self):
        bodies = list(cluster.requests(8, 4))
        with cluster.Cluster(2, worker_flags=FLAGS) as both:
            expected = [ask(both.frontend, body) for body in bodies]
            done = threading.Event()

            def drive(number):
                answers = 0
                while not done.is_set():
                    which = (number + answers) % len(bodies)
                    self.assertEqual(ask(both.frontend, bodies[which]), expected[which])
                    answers += 1
                return answers

            with ThreadPoolExecutor(4) as pool:
                drivers = [pool.submit(drive, number) for number in range(4)]
                for old in list(both.workers):
                    both.add_worker()
                    both.wait_for_workers(3)
                    both.workers.remove(old)
                    self.assertEqual(old.stop(), 0, old.log_text())
                    old.folder.cleanup()
                    both.wait_for_workers(2)
                done.set()
                self.assertGreater(sum(driver.result() for driver in drivers), 8)
            # One that crosses the word of the worker's end on its way is sent on before it began; what has begun stays.
            self.assertEqual(both.migrations()["ongoing_request"], 0)

    def test_what_shares_a_prefix_goes_where_it_is(self):
        prefixes = [f"You are number {i}. " + "Be brief and kind. " * 40 for i in range(3)]  # odd: in turns they would change places
        with cluster.Cluster(2, worker_flags=FLAGS, frontend_flags=("--router-mode", "kv")) as both:
            def cached(prefix, question):
                status, answer = both.frontend.post(CHAT, {"messages": [{"role": "system", "content": prefix},
                                                                        {"role": "user", "content": question}], "max_tokens": 2})
                self.assertEqual(status, 200, answer)
                return answer["usage"]["prompt_tokens_details"]["cached_tokens"] / answer["usage"]["prompt_tokens"]

            for prefix in prefixes:
                self.assertLess(cached(prefix, "What is 1 + 1?"), 0.5)
            for turn in range(3):
                for prefix in prefixes:
                    self.assertGreater(cached(prefix, f"What is {turn} + 2?"), 0.8)

    def test_without_moves_the_client_hears_of_the_death(self):
        body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 500, "ignore_eos": True}
        with cluster.Cluster(2, worker_flags=FLAGS, frontend_flags=("--migration-limit", "0")) as both:

            def after(event):
                if event == 40:  # so late that the busier one shows
                    both.kill(both.serving())

            with self.assertRaisesRegex(AssertionError, "Disconnected|connection"):
                ask(both.frontend, body, after)
            self.assertEqual(both.migrations()["ongoing_request"], 0)
            self.assertEqual(both.frontend.post(CHAT, {**body, "max_tokens": 3})[0], 200)

    def test_logs_tell_what_befell_a_fleet(self):
        body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 400, "ignore_eos": True}
        with cluster.Cluster(2, worker_flags=FLAGS) as both:
            frontend = both.frontend

            def logged(event, count=1):
                lines = [line for line in frontend.log_text().splitlines() if f"event={event} " in line]
                return lines[-1] if len(lines) >= count else None

            def wait(event, count=1):
                harness.wait_for(lambda: logged(event, count), 20, event, frontend.log_text)
                return logged(event, count)

            wait("worker.came", 2)

            def after(event):
                if event == 60:
                    both.kill(both.serving())

            ask(frontend, body, after)
            self.assertIn("why=", wait("worker.lost"))
            self.assertRegex(wait("request.moved"), "request=[0-9]+ .*from=[0-9a-f]+ to=[0-9a-f]+ .*why=")
            both.kill(both.workers[0])
            self.assertNotIn("discovery in progress", wait("readiness.lost"))
            wait("model.gone")
            status, _, health = frontend.request("GET", "/health")
            self.assertEqual((status, health["initial_discovery_complete"], health["message"]), (503, True, "no worker is there"))
            last = both.add_worker()
            wait("readiness.back")
            self.assertEqual(last.stop(), 0)
            both.workers.remove(last)
            self.assertIn("ends", wait("worker.left"))

    def test_what_is_cut_at_the_end_is_counted(self):
        body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4000, "ignore_eos": True}
        with cluster.Cluster(1, worker_flags=FLAGS, frontend_flags=("--drain-timeout", "100ms")) as one:
            streams = [one.frontend.stream(CHAT, body) for _ in range(2)]
            for stream in streams:
                next(stream)
            one.frontend.process.send_signal(signal.SIGTERM)
            self.assertEqual(one.frontend.process.wait(20), 0)
            self.assertIn("serve.stopped cancelled=2", one.frontend.log_text())
            one.frontend = cluster.Frontend(one.folder.name)

    def test_wrong_flags_are_named_before_the_model_is_loaded(self):
        with tempfile.TemporaryDirectory() as folder:
            taken = pathlib.Path(folder) / "file"
            taken.write_text("")
            for flags, said in [
                    (("--worker-host", "0.0.0.0"), "worker-host: "),
                    (("--namespace", "a b"), "namespace "),
                    (("--component", ""), "component "),
                    (("--endpoint", "a/b"), "endpoint "),
                    (("--worker-listen", f"unix:{folder}/none/socket"), "worker-listen: "),
                    (("--worker-host", "nowhere.invalid"), "worker-host: "),
                    (("--port-file", f"{folder}/none/port"), "port-file: "),
                    (("--discovery", f"file:{taken}"), "discovery: "),
                    (("--discovery", f"file:{taken}/sub"), "discovery: "),
                    (("--discovery", "etcd://"), "discovery: "),
                    (("--discovery", "foo"), "discovery: 'foo' is none of file:DIR")]:
                done = harness.run_pixii("worker", "no-such-model", "--discovery", f"file:{folder}/d", *flags, timeout=20)
                self.assertEqual(done.returncode, 2, (flags, done.stderr))
                self.assertIn(said, done.stderr, flags)
            for flags, said in [
                    (("frontend", "--router-url", "127.0.0.1:0"), "router-url: "),
                    (("frontend", "--router-url", "nonsense"), "router-url: "),
                    (("router", "--workers", "1=foo"), "workers: "),
                    (("router", "--peers", "ftp://x"), "peers: "),
                    (("router", "--route-host", "0.0.0.0"), "route-host: ")]:
                done = harness.run_pixii(*flags, "--port", "0", "--discovery", f"file:{folder}/d", timeout=20)
                self.assertEqual(done.returncode, 2, (flags, done.stderr))
                self.assertIn(said, done.stderr, flags)

    def test_a_worker_that_cannot_register_says_so(self):
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, "leases").write_text("in the way")
            with cluster.Worker(folder, "tiny-chat", *FLAGS) as worker:
                harness.wait_for(lambda: "discovery.away" in worker.log_text(), 10, "the reason", worker.log_text)
                pathlib.Path(folder, "leases").unlink()
                harness.wait_for(lambda: "discovery.back" in worker.log_text(), 10, "it is found", worker.log_text)

    def test_a_frontend_that_is_killed_leaves_nothing_running(self):
        with cluster.Cluster(1, worker_flags=FLAGS) as one:
            worker = one.workers[0]
            body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4000, "ignore_eos": True}
            stream = one.frontend.stream(CHAT, body)
            for _ in range(3):
                next(stream)
            one.frontend.kill()

            def idle():
                worker.process.send_signal(signal.SIGUSR1)
                dumps = [line for line in worker.log_text().splitlines() if "state.dump" in line]
                return dumps and " running=0" in dumps[-1] and "requests=0" in dumps[-1]

            harness.wait_for(idle, 1, "the worker is idle", worker.log_text)  # D10
            one.frontend = cluster.Frontend(one.folder.name)
            self.assertEqual(one.frontend.post(CHAT, {**body, "max_tokens": 3})[0], 200)


if __name__ == "__main__":
    harness.main()
