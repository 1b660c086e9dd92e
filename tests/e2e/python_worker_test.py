"""Workers written in Python behind a real frontend: they answer, are cancelled, and harm nobody but their own requests."""
import concurrent.futures
import functools
import os
import signal
import tempfile
import threading
import unittest

import cluster
import harness
import hostile_worker_cases as cases
import python_cluster

HOSTILE = harness.ROOT / "tests/e2e/hostile_worker.py"


class PythonCluster(unittest.TestCase):
    """A frontend, and programs that a case starts; all end with the case."""

    frontend_flags = ()

    def setUp(self):
        if not python_cluster.BUILT:
            self.skipTest(python_cluster.WHY_NOT)
        self.folder = tempfile.TemporaryDirectory(prefix="pixii-cluster-")
        self.addCleanup(self.folder.cleanup)

    @functools.cached_property
    def frontend(self):
        """It is ready once a worker has brought a model: to be asked for behind the first program."""
        one = cluster.Frontend(self.folder.name, *self.frontend_flags)
        self.addCleanup(one.folder.cleanup)
        self.addCleanup(one.stop)
        return one

    def program(self, *words, **kwargs):
        one = python_cluster.Program(*words, **kwargs)
        self.addCleanup(one.folder.cleanup)
        self.addCleanup(one.kill)
        return one

    def hostile(self, *flags, name="handler", **kwargs):
        return self.program(HOSTILE, f"file:{self.folder.name}", name, *flags, **kwargs)

    def models(self):
        status, _, answer = self.frontend.request("GET", "/v1/models")
        return [model["id"] for model in answer["data"]] if status == 200 else []

    def workers(self):
        return sum(v for k, v in self.frontend.metrics().items() if k.startswith("dynamo_frontend_model_workers{"))

    def wait_for(self, condition, what, *programs):
        harness.wait_for(condition, 60, what, lambda: self.frontend.log_text() + "".join(p.log_text() for p in programs))

    def ask(self, what, max_tokens=8, timeout=120, **more):
        """(status, answer) for a prompt whose last token says what the handler is to do."""
        return self.frontend.post("/v1/completions", {"model": "handler", "prompt": [51, 52, what], "max_tokens": max_tokens, "seed": 1,
                                                      "ignore_eos": True, "return_tokens_as_token_ids": True, "logprobs": None,
                                                      **more}, timeout=timeout)

    def assert_good(self, max_tokens=8):
        status, answer = self.ask(cases.GOOD, max_tokens)
        self.assertEqual(status, 200, answer)
        self.assertEqual(answer["usage"]["completion_tokens"], max_tokens)
        self.assertEqual(answer["choices"][0]["finish_reason"], "length")
        return answer["choices"][0]["text"]


class Workers(PythonCluster):
    def test_the_example_of_twenty_lines_registers_streams_and_leaves(self):
        worker = self.program(python_cluster.EXAMPLES / "echo_worker.py", "--discovery", f"file:{self.folder.name}")
        self.wait_for(lambda: self.models() == ["echo"], "the model is there", worker)
        body = {"model": "echo", "messages": [{"role": "user", "content": "Say it again, please."}], "max_tokens": 64}
        self.wait_for(lambda: self.frontend.post("/v1/chat/completions", body)[0] == 200, "its health check has passed", worker)
        events = list(self.frontend.stream("/v1/chat/completions", body))
        text = "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])
        self.assertIn("Say it again, please.", text)
        self.assertEqual(worker.stop(), 0, worker.log_text())
        self.wait_for(lambda: self.models() == [], "the model is gone", worker)

    def test_a_request_goes_on_where_a_worker_dies(self):
        first = self.hostile(env={"DIES": "1"})
        self.wait_for(lambda: self.models() == ["handler"] and self.workers() == 1, "one worker", first)
        answer = {}
        asking = threading.Thread(target=lambda: answer.update(zip(("status", "body"), self.ask(cases.DIES, 12))))
        # The one that dies is alone when it gets the request; who goes on comes while it runs, or after.
        second = self.hostile(ready="event=worker.ready")
        self.wait_for(lambda: self.workers() == 2, "two workers", second)
        asking.start()
        asking.join()
        self.assertEqual(answer["status"], 200, answer)
        self.assertEqual(answer["body"]["usage"]["completion_tokens"], 12)
        self.assertEqual(answer["body"]["choices"][0]["text"], self.assert_good(12), "a continued answer is another one")

    def test_cancelling_reaches_the_handler(self):
        worker = self.hostile(env={"PACE": "0.05"})
        self.wait_for(lambda: self.models() == ["handler"], "the model is there", worker)
        stream = self.frontend.stream("/v1/completions", {"model": "handler", "prompt": [51, cases.GOOD], "max_tokens": 2000,
                                                          "ignore_eos": True})
        next(stream)
        stream.close()  # its connection, too
        self.wait_for(lambda: "stopped" in worker.log_text(), "the handler saw it", worker)
        self.assert_good()

    def test_two_workers_share_requests(self):
        workers = [self.hostile(), self.hostile()]
        self.wait_for(lambda: self.workers() == 2, "two workers", *workers)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for status, answer in pool.map(lambda i: self.ask(cases.GOOD, 20, n=1 + i % 3), range(40)):
                self.assertEqual(status, 200, answer)
        for worker in workers:
            self.assertEqual(worker.stop(), 0, worker.log_text())


class Hostile(PythonCluster):
    """Beside each bad request a good one runs all the time, which must not notice."""

    def setUp(self):
        super().setUp()
        self.worker = self.hostile("stall_limit=2s", env={"SILENCE": "1.5", "PACE": "0.01"})
        self.wait_for(lambda: self.models() == ["handler"], "the model is there", self.worker)
        self.assert_good()

    def refused(self, what, status, **kwargs):
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            beside = pool.submit(self.ask, cases.GOOD, 60)
            got, answer = self.ask(what, **kwargs)
            self.assertEqual(got, status, answer)
            ok, good = beside.result()
            self.assertEqual(ok, 200, good)
            self.assertEqual(good["usage"]["completion_tokens"], 60)
        self.assert_good()
        return answer["error"]["message"]

    def test_raising_is_a_typed_error(self):
        self.assertIn("ValueError: no", self.refused(cases.RAISES, 500))
        self.assertIn("SystemExit", self.refused(cases.EXITS, 500))

    def test_garbage_is_a_typed_error_that_names_it(self):
        self.assertIn("it is a str, not a dict", self.refused(cases.GARBAGE, 500))
        self.assertIn("token_ids is a str, not a list", self.refused(cases.WRONG_TYPE, 500))
        self.assertIn("yielded token 1000000000", self.refused(cases.WRONG_TOKEN, 500))
        self.assertIn('finish_reason is "because"', self.refused(cases.BAD_FINISH, 500))

    def test_an_end_without_a_reason_is_an_error(self):
        self.assertIn("without a finish_reason", self.refused(cases.NO_END, 500))
        self.assertIn("RuntimeError: later", self.refused(cases.RAISES_LATE, 500))

    def test_hanging_ends_by_a_deadline(self):
        self.assertIn("gave nothing for 1.5 s", self.refused(cases.HANGS, 504))

    def test_one_without_an_end_is_ended_at_its_limit(self):
        status, answer = self.ask(cases.ENDLESS, 30)
        self.assertEqual((status, answer["usage"]["completion_tokens"], answer["choices"][0]["finish_reason"]), (200, 30, "length"))
        self.assert_good()

    def test_what_comes_after_a_cancel_reaches_nobody(self):
        stream = self.frontend.stream("/v1/completions", {"model": "handler", "prompt": [51, cases.LATE], "max_tokens": 20,
                                                          "ignore_eos": True})
        next(stream)
        stream.close()
        self.wait_for(lambda: "cancelled" in self.worker.log_text(), "the handler was stopped", self.worker)
        self.assert_good()

    def test_one_that_cannot_now_says_so(self):
        self.refused(cases.GIVES_UP, 503)

    def test_a_blocked_interpreter_loses_its_requests_to_another_worker(self):
        self.worker.stop()
        self.wait_for(lambda: self.workers() == 0, "it is gone", self.worker)
        blocked = self.hostile("stall_limit=2s", env={"BLOCKS": "1"})
        self.wait_for(lambda: self.ask(cases.GOOD)[0] == 200, "it answers", blocked)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            answer = pool.submit(self.ask, cases.BLOCKS, 9)
            self.wait_for(lambda: "blocking" in blocked.log_text(), "the loop is blocked", blocked)
            other = self.hostile()
            status, body = answer.result()
            self.assertEqual(status, 200, body)
            self.assertEqual(body["usage"]["completion_tokens"], 9)
        self.assert_good()
        os.kill(blocked.process.pid, signal.SIGKILL)
        self.assertEqual(other.stop(), 0, other.log_text())


if __name__ == "__main__":
    harness.main()
