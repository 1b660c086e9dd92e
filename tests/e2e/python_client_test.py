"""The package's client, with and without asyncio, and an engine by the contract of LLMEngine, both against real servers."""
import json
import re
import tempfile
import unittest

import cluster
import harness
import python_cluster

# What each case prints is compared here: python3 of this script may not be the package's.
SYNC = """
import json, sys, pixii
url, small = sys.argv[1:]
with pixii.Client(url) as client:
    ask = dict(model="tiny-chat", seed=3, max_tokens=24)
    whole = client.chat("What is 17 + 25?", **ask)
    parts = [event.text for event in client.chat("What is 17 + 25?", stream=True, **ask)]
    left = client.chat("What is 17 + 25?", stream=True, **{**ask, "max_tokens": 400})
    next(left); left.close()
    ids = client.complete([5, 6, 7], model="tiny-chat", max_tokens=4, ignore_eos=True)
    faults = []
    for call in (lambda: client.chat("x", model="nobody"), lambda: client.chat("x", model="tiny-chat", temperature=9),
                 lambda: client.chat("x " * 100000, model="tiny-chat"), lambda: pixii.Client("http://127.0.0.1:1").models(),
                 lambda: pixii.Client("nonsense://x"), lambda: list(client.chat("x", model="nobody", stream=True))):
        try:
            call()
            faults.append("none")
        except pixii.PixiiError as error:
            faults.append([type(error).__name__, error.status, error.param])
    print(json.dumps({"models": client.models(), "whole": whole.text, "parts": "".join(parts), "count": len(parts),
                      "tokens": ids.usage.completion_tokens, "faults": faults, "again": client.chat("What is 17 + 25?", **ask).text}))
"""

ASYNC = """
import asyncio, json, sys, pixii
async def main(url):
    async with pixii.AsyncClient(url) as client:
        ask = dict(model="tiny-chat", seed=3, max_tokens=24)
        whole, *others = await asyncio.gather(*(client.chat("What is 17 + 25?", **ask) for _ in range(8)))
        parts = [event.text async for event in await client.chat("What is 17 + 25?", stream=True, **ask)]
        try:
            await client.chat("x", model="nobody")
        except pixii.NotFound as error:
            fault = error.status
        print(json.dumps({"whole": whole.text, "parts": "".join(parts), "same": all(o.text == whole.text for o in others),
                          "fault": fault, "models": await client.models()}))
asyncio.run(main(sys.argv[1]))
"""


@unittest.skipUnless(python_cluster.BUILT, python_cluster.WHY_NOT)
class Client(unittest.TestCase):
    def run_script(self, script, *words):
        done = python_cluster.run("-c", script, *words)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def test_answers_streams_and_errors_with_and_without_asyncio(self):
        with harness.Server("tiny-chat") as server:
            url = f"http://127.0.0.1:{server.port}"
            got = self.run_script(SYNC, url, "")
            self.assertEqual(got["models"], ["tiny-chat"])
            self.assertTrue(got["whole"])
            self.assertEqual(got["parts"], got["whole"])
            self.assertGreater(got["count"], 3)
            self.assertEqual(got["again"], got["whole"])
            self.assertEqual(got["tokens"], 4)
            self.assertEqual([fault[:2] for fault in got["faults"]],
                             [["NotFound", 404], ["InvalidArgument", 400], ["InvalidArgument", 400], ["Disconnected", 0],
                              ["InvalidArgument", 0], ["NotFound", 404]], got["faults"])
            self.assertEqual(got["faults"][1][2], "temperature")
            asked = self.run_script(ASYNC, url)
            self.assertEqual((asked["whole"], asked["parts"], asked["same"], asked["fault"], asked["models"]),
                             (got["whole"], got["whole"], True, 404, ["tiny-chat"]))
            harness.wait_for(lambda: server.running() == 0, 10, "the stream that was left is cancelled", server.log_text)


@unittest.skipUnless(python_cluster.BUILT, python_cluster.WHY_NOT)
class Engine(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="pixii-cluster-")
        self.addCleanup(self.folder.cleanup)

    def program(self, *flags):
        one = python_cluster.Program(python_cluster.EXAMPLES / "counting_engine.py", "--discovery", f"file:{self.folder.name}", *flags)
        self.addCleanup(one.folder.cleanup)
        self.addCleanup(one.kill)
        return one

    def test_it_lives_from_start_to_cleanup_and_is_told_of_aborts(self):
        engine = self.program("--pace", "0.02")
        with cluster.Frontend(self.folder.name) as frontend:
            body = {"model": "counting", "prompt": [10], "max_tokens": 6, "ignore_eos": True}
            harness.wait_for(lambda: frontend.post("/v1/completions", body)[0] == 200, 30, "its health check passes", engine.log_text)
            stream = frontend.stream("/v1/completions", {**body, "max_tokens": 2000})
            next(stream)
            stream.close()
            harness.wait_for(lambda: "aborted one of 2000" in engine.log_text(), 10, "the engine hears of the abort", engine.log_text)
        self.assertEqual(engine.stop(), 0, engine.log_text())
        log = engine.log_path.read_text()
        self.assertRegex(log, r"(?s)drained.*cleaned up")
        self.assertRegex(log, r'event=engine.lifecycle \{"model_load_time_seconds": [0-9.e-]+, "drain_time_seconds"')

    def test_routers_find_what_it_says_that_it_has_cached(self):
        engines = [self.program(), self.program()]
        with cluster.Frontend(self.folder.name, "--router-mode", "kv") as frontend:
            def ask(prompt):
                status, answer = frontend.post("/v1/completions", {"model": "counting", "prompt": prompt, "max_tokens": 2,
                                                                   "ignore_eos": True})
                self.assertEqual(status, 200, answer)
                return answer["usage"]["prompt_tokens_details"]["cached_tokens"]
            harness.wait_for(lambda: cluster.total(frontend, "dynamo_frontend_model_workers") == 2, 30, "two engines",
                             engines[0].log_text)
            harness.wait_for(lambda: frontend.post("/v1/completions", {"model": "counting", "prompt": [1], "max_tokens": 1})[0] == 200,
                             30, "their health checks pass", engines[0].log_text)
            prompts = [[10 + i, *range(20, 60), 70 + i, *range(80, 110)] for i in range(6)]
            self.assertEqual([ask(prompt) for prompt in prompts], [0] * 6)
            # Each is sent where its blocks are once the events have come: a prompt that grew finds all of its beginning.
            harness.wait_for(lambda: cluster.total(frontend, "pixii_router_index_blocks") >= sum(len(p) // 16 for p in prompts), 20,
                             "the events have come", frontend.log_text)
            for number, prompt in enumerate(prompts):
                longer = prompt + [120 + number] * 20
                found = ask(longer)
                self.assertEqual(found, len(prompt) - len(prompt) % 16)
        for engine in engines:
            self.assertEqual(engine.stop(), 0, engine.log_text())


if __name__ == "__main__":
    harness.main()
