"""Outside engines as workers: what they are told, what comes of their answers, and what of their faults."""
import contextlib
import json
import os
import re
import subprocess
import tempfile
import unittest

import cluster
import harness
from fake_engines import FakeEngine, answer

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
HELLO = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 12, "temperature": 0.5, "seed": 11,
         "return_token_ids": True}
SYSTEM_PYTHON = "/usr/bin/python3"  # Debian's, for which python3-zmq is


class Attached:
    """A frontend and workers that stand for the engines."""

    def __init__(self, engines, kind=None, worker_flags=(), frontend_flags=()):
        self.folder = tempfile.TemporaryDirectory(prefix="pixii-attached-")
        self.workers, self.frontend = [], None
        try:
            for number, engine in enumerate(engines):
                flags = worker_flags[number] if worker_flags and isinstance(worker_flags[0], tuple) else worker_flags
                self.workers.append(cluster.Worker(self.folder.name, "tiny-chat", "--attach", engine.url, "--engine",
                                                   kind or engine.kind, *flags))
            self.frontend = cluster.Frontend(self.folder.name, *frontend_flags)
            self.frontend.wait_for(lambda: self.known_count() == len(engines), 20, f"{len(engines)} workers of any role")
            self.wait_for_workers(sum(engine_role != "prefill" for engine_role in (getattr(engine, "role", None) for engine in engines)))
        except BaseException:
            for process in (*self.workers, *([self.frontend] if self.frontend else [])):
                process.kill()
            raise

    def worker_count(self):
        return sum(v for k, v in self.frontend.metrics().items() if k.startswith("dynamo_frontend_model_workers{"))

    def known_count(self):
        return cluster.total(self.frontend, "dynamo_frontend_router_worker_state", 'state="available"')

    def wait_for_workers(self, count, seconds=20):
        self.frontend.wait_for(lambda: self.worker_count() == count, seconds, f"{count} workers")

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        statuses = {}
        for process in (self.frontend, *self.workers):
            if kind is not None:
                print(process.log_text())
                process.kill()
            else:
                statuses[process.port] = process.stop()
        self.folder.cleanup()
        if any(statuses.values()):
            raise AssertionError(f"exit statuses after SIGTERM: {statuses}")


def tokens_of(frontend, body):
    status, said = frontend.post(CHAT, body)
    assert status == 200, said
    return said["prompt_token_ids"], said["choices"][0]["token_ids"], said


class TokenEngines(unittest.TestCase):
    def check(self, kind):
        with FakeEngine(kind) as engine, Attached([engine]) as both:
            prompt, ids, said = tokens_of(both.frontend, HELLO)
            self.assertEqual(ids, answer(prompt, 12))
            self.assertEqual(said["choices"][0]["finish_reason"], "length")
            self.assertEqual(said["usage"]["completion_tokens"], 12)
            self.assertEqual(said["model"], "fake-model")
            return engine.seen[-1], prompt

    def test_vllm(self):
        asked, prompt = self.check("vllm")
        self.assertEqual(asked["prompt"], prompt)
        self.assertEqual((asked["seed"], asked["temperature"], asked["max_tokens"]), (11, 0.5, 12))
        self.assertTrue(asked["return_token_ids"])
        self.assertIn(4089, asked["stop_token_ids"])

    def test_sglang(self):
        asked, prompt = self.check("sglang")
        self.assertEqual(asked["input_ids"], prompt)
        self.assertEqual(asked["sampling_params"]["sampling_seed"], 11)

    def test_trtllm(self):
        asked, prompt = self.check("trtllm")
        self.assertIs(asked["detokenize"], False)

    def test_logprobs_and_choices(self):
        for kind in ("vllm", "sglang"):
            with FakeEngine(kind) as engine, Attached([engine]) as both:
                prompt, _, said = tokens_of(both.frontend, {**HELLO, "n": 3, "logprobs": True, "top_logprobs": 1})
                self.assertEqual(len(said["choices"]), 3)
                for choice in said["choices"]:
                    self.assertEqual(choice["token_ids"], answer(prompt, 12))
                    self.assertEqual([one["logprob"] for one in choice["logprobs"]["content"]], [-0.5] * 12)
                seeds = [body.get("seed", body.get("sampling_params", {}).get("sampling_seed")) for body in engine.seen]
                self.assertEqual(len(set(seeds)), 3)

    def test_what_an_engine_cannot_be_told_is_refused(self):
        with FakeEngine("trtllm") as engine, Attached([engine]) as both:
            status, said = both.frontend.post(CHAT, {**HELLO, "typical_p": 0.5})
            self.assertEqual(status, 400, said)
            self.assertEqual(said["error"]["param"], "typical_p")
            self.assertEqual(engine.seen, [])


class Canaries(unittest.TestCase):
    def test_without_canaries_the_engine_has_the_requests_of_clients_alone(self):
        off = ("--canary-interval", "0")
        with FakeEngine("vllm") as engine:
            with Attached([engine], frontend_flags=off, worker_flags=off) as both:
                both.frontend.wait_for(lambda: both.frontend.request("GET", "/ready")[0] == 200, 10, "ready")
                self.assertEqual(tokens_of(both.frontend, HELLO)[1], answer(tokens_of(both.frontend, HELLO)[0], 12))
                self.assertEqual(engine.trials, 0)
                self.assertEqual(len(engine.seen), 2)
            with Attached([engine], worker_flags=("--canary-interval", "100ms"), frontend_flags=("--canary-interval", "200ms")) as both:
                harness.wait_for(lambda: engine.trials >= 5, 20, "canaries")
                values = both.frontend.metrics()
                made = sum(v for k, v in values.items() if k.startswith('pixii_canaries_total{') and 'result="ok"' in k)
                self.assertGreaterEqual(made, 1)
                self.assertEqual(sum(v for k, v in values.items() if k.startswith("dynamo_frontend_requests_total")), 0,
                                 "no client asked anything")
                self.assertEqual(len(engine.seen), 2)


class TextEngines(unittest.TestCase):
    def test_texts_go_in_and_come_out(self):
        with FakeEngine("openai") as engine, Attached([engine]) as both:
            status, said = both.frontend.post(CHAT, {**HELLO, "max_tokens": 6})
            self.assertEqual(status, 200, said)
            self.assertEqual(said["choices"][0]["message"]["content"], "the river runs on and on ")
            self.assertIn("Hello", engine.seen[-1]["prompt"])
            status, said = both.frontend.post(CHAT, {**HELLO, "logprobs": True})
            self.assertEqual((status, said["error"]["param"]), (400, "logprobs"))

    def test_a_server_of_our_own_answers_as_it_does_alone(self):
        bodies = [{**body, "temperature": 0} for body in cluster.requests(16, 9)
                  if body.get("n", 1) == 1 and "response_format" not in body and "logprobs" not in body][:6]
        add = {"type": "function", "function": {"name": "add", "parameters": {
            "type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]}}}
        bodies.append({"messages": [{"role": "user", "content": "What is 17 + 25?"}], "tools": [add], "temperature": 0,
                       "max_tokens": 200})
        bodies = [body for body in bodies if body.get("tool_choice") != "required"]

        def ask(server, body):
            return cluster.joined(server.stream(CHAT, {**body, "stream_options": {"include_usage": True}}))

        flags = ("--threads", "1", "--max-batch", "8", "--kv-memory", "64MiB")
        with harness.Server("tiny-chat", *flags) as server:
            server.url = f"http://127.0.0.1:{server.port}/v1"
            alone = [ask(server, body) for body in bodies]
            for kind, prompts in (("openai", "auto"), ("openai", "text"), ("vllm", "tokens")):
                with Attached([server], kind, ("--attach-prompts", prompts)) as both:
                    for body, expected in zip(bodies, alone):
                        got = ask(both.frontend, body)
                        if prompts == "text":  # counted as this side's tokenizer cuts the text
                            got["usage"] = expected["usage"]
                        self.assertEqual(got, expected, f"{kind} {prompts} {body}")


class Faults(unittest.TestCase):
    def test_each_fault_ends_the_request_once(self):
        expected = {"status 400": (400,), "status 429": (529,), "status 500": (503,), "cut 0": (503,), "cut 3": (503,), "json": (500,),
                    "error": (503,), "no end": (503,), "hang": (503,), "hang before": (503,)}
        with FakeEngine("vllm") as engine, Attached([engine], worker_flags=("--attach-silence", "1s"),
                                                    frontend_flags=("--migration-limit", "0")) as both:
            for script, statuses in expected.items():
                engine.script = script
                status, said = both.frontend.post(CHAT, HELLO, timeout=20)
                self.assertIn(status, statuses, f"{script}: {said}")
                engine.script = None  # a full engine is left alone for a while
                both.frontend.wait_for(lambda: both.frontend.post(CHAT, HELLO)[0] == 200, 20, f"an answer after {script}")
            engine.script = "twice"
            prompt, ids, _ = tokens_of(both.frontend, HELLO)
            self.assertEqual(ids, answer(prompt, 12))
            engine.script = None
            self.assertEqual(tokens_of(both.frontend, HELLO)[1], ids)
            harness.wait_for(lambda: engine.open == 0, 5, "nothing runs at the engine")

    def test_an_engine_that_breaks_off_is_left_for_another(self):
        with FakeEngine("vllm") as broken, FakeEngine("vllm") as good, \
                Attached([broken, good], frontend_flags=("--router-mode", "round-robin")) as both:
            broken.script = "cut 5"
            for _ in range(4):
                prompt, ids, said = tokens_of(both.frontend, HELLO)
                self.assertEqual(len(ids), 12)
                self.assertEqual(said["choices"][0]["finish_reason"], "length")
                moved = answer(prompt, 5) + answer(prompt + answer(prompt, 5), 7)  # it goes on behind what the client has
                self.assertIn(ids, (answer(prompt, 12), moved))
                if ids == moved:  # nobody knows whether both compute alike
                    parts = said["nvext"]["recomputed"][0]["parts"]
                    self.assertEqual([part["first_token"] for part in parts], [0, 5])
                    self.assertEqual(len({part["numerics_id"] for part in parts}), 2)
            self.assertTrue(any(body["max_tokens"] == 7 for body in good.seen), "nothing went on at the other engine")

    def test_an_engine_that_is_gone_gets_nothing_until_it_is_back(self):
        with FakeEngine("vllm") as engine, Attached([engine]) as both:
            engine.close()
            both.wait_for_workers(0)
            self.assertEqual(both.frontend.post(CHAT, HELLO)[0], 503)

    def test_a_client_that_leaves_is_left_by_the_engine(self):
        for kind in ("vllm", "sglang"):
            with FakeEngine(kind) as engine, Attached([engine]) as both:
                engine.pause = 0.02
                stream = both.frontend.stream(CHAT, {**HELLO, "max_tokens": 3000})
                for _ in range(3):
                    next(stream)
                self.assertEqual(engine.open, 1)
                stream.close()
                harness.wait_for(lambda: engine.open == 0 and engine.aborted == 1, 2, "the engine gave up")

    def test_an_engine_that_is_not_there_is_said_at_the_start(self):
        done = harness.run_pixii("worker", "tiny-chat", "--attach", "http://127.0.0.1:9", "--engine", "vllm", "--attach-wait", "0s")
        self.assertEqual(done.returncode, 2)
        self.assertIn("attach", done.stderr)
        for flags, said in ((("--engine", "vllm"), "--attach"), (("--attach", "ftp://x", "--engine", "vllm"), "http://"),
                            (("--attach", "http://127.0.0.1:9"), "engine")):
            done = harness.run_pixii("worker", "tiny-chat", *flags)
            self.assertEqual(done.returncode, 2)
            self.assertIn(said, done.stderr)


class Adapters(unittest.TestCase):
    def test_adapters_of_the_engine_can_be_named(self):
        with FakeEngine("vllm") as engine:
            engine.adapters["tuned"] = "/adapters/tuned"
            with Attached([engine]) as both:
                status, said = both.frontend.post(CHAT, {**HELLO, "model": "tuned"})
                self.assertEqual(status, 200, said)
                self.assertEqual(engine.seen[-1]["model"], "tuned")


class Disaggregation(unittest.TestCase):
    """A prefill engine and a decode engine of one kind, each behind a worker, are paired in their own words."""

    @contextlib.contextmanager
    def pair(self, kinds, frontend_flags=()):
        with tempfile.NamedTemporaryFile() as key, contextlib.ExitStack() as stack:
            key.write(os.urandom(32))
            key.flush()
            engines = [stack.enter_context(FakeEngine(kind, role=role)) for kind, role in kinds]
            flags = tuple(("--role", role, "--cluster-key", key.name, "--canary-interval", "0", "--attach-bootstrap-port", "8765",
                           "--attach-block-size", "16") for _, role in kinds)
            yield engines, stack.enter_context(Attached(engines, worker_flags=flags,
                                                        frontend_flags=("--canary-interval", "0", *frontend_flags)))

    def paths(self, both):
        return {re.search('path="([a-z_]+)"', name)[1]: int(value) for name, value in both.frontend.metrics().items()
                if name.startswith("pixii_disaggregation_total{") and value}

    def check(self, kind, *flags):
        with self.pair(((kind, "prefill"), (kind, "decode")), flags) as ((prefill, decode), both):
            for number in range(3):
                prompt, ids, said = tokens_of(both.frontend, {**HELLO, "messages": [{"role": "user", "content": f"Hello {number} " * 20}]})
                self.assertEqual(ids, answer(prompt, 12))
                self.assertEqual(said["usage"]["completion_tokens"], 12)
                self.assertEqual(decode.fetched[-1], prompt)
            self.assertEqual(len(prefill.seen), 3)
            body = {**HELLO, "messages": [{"role": "user", "content": "Several " * 30}], "n": 3}
            prompt, ids, said = tokens_of(both.frontend, body)
            self.assertEqual([choice["token_ids"] for choice in said["choices"]], [answer(prompt, 12)] * 3)
            self.assertEqual(decode.fetched[-3:], [prompt] * 3, "a hand-over for each choice, as each is a request of the engine")
            harness.wait_for(lambda: prefill.kept == [] and prefill.open == 0 and decode.open == 0, 10, "nothing is kept")
            self.assertEqual(self.paths(both), {"prefill": 4})
            return prefill, decode

    def test_vllm(self):
        prefill, decode = self.check("vllm")
        self.assertEqual(prefill.seen[0]["prompt"], decode.fetched[0])
        self.assertEqual(decode.seen[0]["kv_transfer_params"]["remote_engine_id"], f"engine {prefill.port}")
        self.assertEqual(decode.seen[0]["max_tokens"], 12)

    def test_trtllm(self):
        prefill, decode = self.check("trtllm")
        words = decode.seen[0]["disaggregated_params"]
        self.assertEqual(words["request_type"], "generation_only")
        self.assertEqual(words["first_gen_tokens"], answer(decode.fetched[0], 1))
        self.assertTrue(words["encoded_opaque_state"])

    def test_sglang(self):
        prefill, decode = self.check("sglang", "--no-decode-fallback")
        for engine in (prefill, decode):
            self.assertEqual((engine.seen[0]["bootstrap_host"], engine.seen[0]["bootstrap_port"]), ("127.0.0.1", 8765))
        self.assertEqual(prefill.seen[0]["bootstrap_room"], decode.seen[0]["bootstrap_room"])
        self.assertEqual(len({body["bootstrap_room"] for body in prefill.seen}), 6, "a room for each")

    def test_a_prompt_that_no_engine_hands_over_is_computed_or_refused(self):
        long = {**HELLO, "messages": [{"role": "user", "content": "Hello again " * 20}]}
        with self.pair((("vllm", "prefill"), ("vllm", "decode"))) as ((prefill, decode), both):
            prefill.script = "status 500"
            prompt, ids, _ = tokens_of(both.frontend, long)
            self.assertEqual(ids, answer(prompt, 12))
            self.assertEqual(decode.fetched, [])
            self.assertEqual(self.paths(both), {"prefill": 1, "fallback_unavailable": 1})
            prefill.script = "status 400"
            status, said = both.frontend.post(CHAT, long)
            self.assertEqual(status, 400, said)
        with self.pair((("sglang", "decode"),)) as ((decode,), both):
            status, said = both.frontend.post(CHAT, long)
            self.assertEqual(status, 503, said)
            self.assertEqual(decode.seen, [], "it computes no prompts")

    def test_words_of_another_engine_are_not_passed_on(self):
        with self.pair((("vllm", "prefill"), ("trtllm", "decode"))) as ((_, decode), both):
            prompt, ids, _ = tokens_of(both.frontend, {**HELLO, "messages": [{"role": "user", "content": "Hello again " * 20}]})
            self.assertEqual(ids, answer(prompt, 12))
            self.assertEqual(decode.fetched, [])
            self.assertNotIn("kv_transfer_params", decode.seen[-1])
            self.assertNotIn("disaggregated_params", decode.seen[-1])

    def test_what_cannot_be_is_said_at_the_start(self):
        with FakeEngine("openai") as engine, tempfile.NamedTemporaryFile() as key:
            key.write(os.urandom(32))
            key.flush()
            done = harness.run_pixii("worker", "tiny-chat", "--attach", engine.url, "--engine", "openai", "--role", "prefill",
                                     "--cluster-key", key.name)
            self.assertEqual(done.returncode, 2)
            self.assertIn("role", done.stderr)
            done = harness.run_pixii("worker", "tiny-chat", "--attach", engine.url, "--engine", "vllm", "--role", "decode")
            self.assertIn("cluster-key", done.stderr)


class Publisher:
    """tests/e2e/kv_publisher.py as a process."""

    def __init__(self):
        self.process = subprocess.Popen([SYSTEM_PYTHON, str(harness.ROOT / "tests/e2e/kv_publisher.py")], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.addresses = json.loads(self.process.stdout.readline())
        self.flags = ("--attach-kv-events", self.addresses["events"], "--attach-kv-replay", self.addresses["replay"])

    def tell(self, **command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        self.process.stdout.readline()

    def __enter__(self):
        return self

    def __exit__(self, *arguments):
        self.process.kill()
        self.process.communicate()


def has_zmq():
    with contextlib.suppress(OSError):
        return subprocess.run([SYSTEM_PYTHON, "-c", "import zmq, msgpack"], capture_output=True).returncode == 0
    return False


@unittest.skipUnless(has_zmq(), "python3-zmq and python3-msgpack of tools/packages.txt are not installed")
class KvEvents(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if "publish-kv-events" not in harness.run_pixii("worker", "--help").stdout:
            raise unittest.SkipTest("frontends of this build do not route by what workers tell")

    def test_requests_go_where_a_foreign_publisher_says_their_blocks_are(self):
        prompts = [[400 + (i * 37 + j * 11) % 2000 for j in range(160)] for i in range(9)]
        with FakeEngine("vllm") as one, FakeEngine("vllm") as two, Publisher() as first, Publisher() as second:
            first.tell(stored=prompts[0])  # before anybody listens
            with Attached([one, two], worker_flags=(first.flags, second.flags), frontend_flags=("--router-mode", "kv")) as both:
                engines, publishers = (one, two), (first, second)

                def served_by(prompt):
                    before = [len(engine.seen) for engine in engines]
                    status, said = both.frontend.post(COMPLETIONS, {"prompt": prompt, "max_tokens": 1})
                    self.assertEqual(status, 200, said)
                    return [len(engine.seen) - count for engine, count in zip(engines, before)].index(1)

                def goes_to(prompt, which):
                    harness.wait_for(lambda: all(served_by(prompt) == which for _ in range(4)), 5,
                                     f"requests go to engine {which}", both.frontend.log_text)

                goes_to(prompts[0], 0)
                for number, prompt in enumerate(prompts[1:], 1):
                    which = (number * 5 + 1) // 3 % 2
                    publishers[which].tell(stored=prompt, form="map" if number % 2 else "array", silent=number % 3 == 0)
                    publishers[which].tell(cleared=False, stored=[3000 + number] * 16)  # shows the gap, if there is one
                    goes_to(prompt, which)


if __name__ == "__main__":
    harness.main()
