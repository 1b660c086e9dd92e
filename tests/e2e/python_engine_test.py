"""The engine in a process of Python's, and clients of endpoints: what they give, who is asked, and what a bad processor harms."""
import functools
import json
import re
import signal
import tempfile
import unittest

import cluster
import harness
import python_cluster

NUMPY = python_cluster.run("-c", "import numpy").returncode == 0

ENGINE = """
import asyncio, gc, json, sys
import pixii
out = {}
with pixii.Engine("tiny-chat", threads=1, max_batch=8, kv_memory="32MiB") as engine:
    card = engine.card()
    out["card"] = card
    whole = engine.generate("What is 17 + 25?", max_tokens=12, temperature=0, ignore_eos=True)
    out["text"], out["tokens"], out["finish"], out["usage"] = whole.text, whole.tokens, whole.finish_reason, whole.usage
    again = engine.generate(engine.encode("What is 17 + 25?"), max_tokens=12, temperature=0, ignore_eos=True)
    pieces = list(again)
    out["pieces"] = ["".join(p.text for p in pieces), [t for p in pieces for t in p["token_ids"]], len(pieces)]
    out["cached"] = again.usage["prompt_tokens_details"]["cached_tokens"]
    out["chat"] = engine.chat("What is 17 + 25?", max_tokens=24, seed=1, template_kwargs={"enable_thinking": False}).text
    word = out["text"][4:6]
    out["stopped"] = [engine.generate("What is 17 + 25?", max_tokens=12, temperature=0, ignore_eos=True, stop=word).text, out["text"].partition(word)[0]]
    out["guided"] = engine.generate("Yes?", max_tokens=30, seed=3, guided={"choice": ["maybe so", "never"]}).text
    logprobs = list(engine.generate("Hello", max_tokens=2, temperature=0, logprobs=2))
    out["logprobs"] = logprobs[0]["log_probs"] + [entry["token_id"] for entry in logprobs[0]["top_logprobs"][0]]
    out["first"] = logprobs[0]["token_ids"][0]

    async def many():
        async def one(i):
            text = ""
            async for piece in engine.generate(f"Count to {i}", max_tokens=8, temperature=0, ignore_eos=True):
                text += piece.text
            return text
        return await asyncio.gather(*(one(i) for i in range(6)))
    out["many"] = asyncio.run(many())
    out["alone"] = [engine.generate(f"Count to {i}", max_tokens=8, temperature=0, ignore_eos=True).text for i in range(6)]
    left = engine.generate("Hello", max_tokens=4000, ignore_eos=True)
    next(left)
    left.close()
    faults = []
    for call in (lambda: engine.generate("Hello", no_such=1), lambda: engine.generate([99999999]), lambda: engine.generate("Hello", top_k="many"),
                 lambda: engine.generate("Hello", temperature=9.0).text, lambda: engine.generate([]), lambda: pixii.Engine("no-such-model"),
                 lambda: pixii.Engine("tiny-chat", no_such_flag=1), lambda: engine.generate("Hello", logits_processors=[3])):
        try:
            call()
            faults.append(None)
        except pixii.PixiiError as error:
            faults.append([type(error).__name__, error.param])
    out["faults"] = faults
closed = []
for call in (lambda: engine.generate([5]), engine.card):
    try:
        call()
    except pixii.ShuttingDown:
        closed.append("ShuttingDown")
out["closed"] = closed
print(json.dumps(out))
"""

PROCESSORS = """
import json, sys
import pixii
out = {}
engine = pixii.Engine("tiny-chat", threads=1, kv_memory="32MiB")
plain = dict(max_tokens=6, temperature=0, ignore_eos=True)
usual = engine.generate("Hello", **plain).tokens
prompt = engine.encode("Hello")
seen = []
def only(token):
    def processor(tokens, logits):
        seen.append((len(tokens), tokens[-1], tokens.prompt_size, list(tokens[:2]), logits.format, len(logits), logits.readonly))
        for place in range(len(logits)):
            if place != token:
                logits[place] = float("-inf")
    return processor
class Ban:
    def __init__(self, token):
        self.token = token
    def __call__(self, tokens, logits):
        logits[self.token] = float("-inf")
out["forced"] = engine.generate("Hello", logits_processors=[only(77)], **plain).tokens
out["seen"] = seen[:2] + [len(seen)]
out["banned"] = [usual, engine.generate("Hello", logits_processors=[Ban(usual[0])], **plain).tokens]
out["chain"] = engine.generate("Hello", logits_processors=[Ban(usual[0]), lambda tokens, logits: None], **plain).tokens == out["banned"][1]
# Beside one that is forced another one goes its own way, and one that raises harms nobody.
def bad(tokens, logits):
    raise ValueError("no thanks")
streams = [engine.generate("Hello", logits_processors=p, **plain) for p in ([only(78)], [], [bad], [only(79)])]
out["beside"] = []
for stream in streams:
    try:
        out["beside"].append(stream.tokens)
    except pixii.PixiiError as error:
        out["beside"].append([error.code, error.detail])
kept = []
try:
    engine.generate("Hello", logits_processors=[lambda tokens, logits: kept.append(memoryview(logits))], **plain).tokens
except pixii.PixiiError as error:
    out["kept"] = error.detail
def late(tokens, logits):
    late.tokens, late.logits = tokens, logits
engine.generate("Hello", logits_processors=[late], **plain).tokens
out["late"] = []
for look in (lambda: len(late.tokens), lambda: late.logits[0]):
    try:
        look()
    except ValueError as error:
        out["late"].append(str(error)[:30])
row = engine.logits("Hello")
out["best"] = max(range(len(row)), key=row.__getitem__) == usual[0]
if "numpy" in sys.argv:
    import numpy
    def array(tokens, logits):
        view = numpy.asarray(logits)
        array.shared = view.ctypes.data != 0 and not view.flags.owndata and view.flags.writeable
        view[:] = -numpy.inf
        view[80] = 0
    out["array"] = engine.generate("Hello", logits_processors=[array], **plain).tokens
    out["shared"] = bool(array.shared)
    out["row"] = numpy.asarray(row).shape[0] == len(row) and int(numpy.asarray(row).argmax()) == usual[0]
print(json.dumps(out))
"""

CLIENT = """
import asyncio, json, sys
import pixii
out = {}
async def main(place, count):
    runtime = pixii.Runtime(discovery=place, log_level="warn")
    async with await runtime.endpoint("dynamo.backend.generate").client() as client:
        for _ in range(2000):
            if len(client.instance_ids()) == count:
                break
            await asyncio.sleep(0.01)
        ids = client.instance_ids()
        out["ids"] = len(ids)
        request = {"token_ids": [51, 52, 53], "stop_conditions": {"max_tokens": 6, "ignore_eos": True}, "sampling_options": {"temperature": 0}}
        async def ask(stream):
            pieces = [piece.data() async for piece in stream]
            return [token for piece in pieces for token in piece["token_ids"]], pieces[-1].get("finish_reason"), pieces[-1].get("completion_usage")
        answers = [await ask(await client.generate(request)), await ask(await client.round_robin(request)), await ask(await client.random(request))]
        answers += [await ask(await client.direct(request, one)) for one in ids]
        out["answers"] = answers
        faults = []
        for call in (lambda: client.direct(request, 1), lambda: client.generate({}), lambda: client.generate({**request, "multi_modal_data": {"a": 1}}),
                     lambda: client.generate({**request, "sampling_options": {"n": 2}}), lambda: client.generate("text"),
                     lambda: client.generate({**request, "sampling_options": {"temperature": 9.0}})):
            try:
                await ask(await call())
                faults.append(None)
            except pixii.PixiiError as error:
                faults.append([type(error).__name__, error.param])
        out["faults"] = faults
        left = await client.generate({**request, "stop_conditions": {"max_tokens": 2000, "ignore_eos": True}})
        async for piece in left:
            break
        await left.aclose()
        out["left"] = True
    async with await runtime.endpoint("dynamo.nobody.generate").client() as client:
        try:
            await client.wait_for_instances(timeout=0.2)
        except pixii.DeadlineExceeded as error:
            out["nobody"] = error.detail
        try:
            await client.generate(request)
        except pixii.Unavailable as error:
            out["unavailable"] = error.detail
asyncio.run(main(sys.argv[1], int(sys.argv[2])))
print(json.dumps(out))
"""


def run_script(case, script, *words):
    done = python_cluster.run("-c", script, *words)
    case.assertEqual(done.returncode, 0, done.stderr)
    return json.loads(done.stdout)


@unittest.skipUnless(python_cluster.BUILT, python_cluster.WHY_NOT)
class Embedded(unittest.TestCase):
    @functools.cached_property
    def served(self):
        with harness.Server("tiny-chat", "--threads", "1") as server:
            status, answer = server.post("/v1/completions", {"prompt": "What is 17 + 25?", "max_tokens": 12, "temperature": 0, "ignore_eos": True})
            self.assertEqual(status, 200, answer)
            return answer

    def test_it_answers_as_a_server_does_with_and_without_asyncio(self):
        got = run_script(self, ENGINE)
        self.assertEqual(got["text"], self.served["choices"][0]["text"])
        self.assertEqual((len(got["tokens"]), got["finish"]), (12, "length"))
        self.assertEqual(got["usage"]["prompt_tokens"], self.served["usage"]["prompt_tokens"])
        self.assertEqual(got["usage"]["completion_tokens"], 12)
        self.assertEqual(got["pieces"][:2], [got["text"], got["tokens"]])
        self.assertGreater(got["pieces"][2], 3, "it comes in pieces")
        self.assertIn("42", got["chat"])
        self.assertEqual(*got["stopped"])
        self.assertIn(got["guided"], ("maybe so", "never"))
        self.assertEqual(got["logprobs"][1], got["first"])
        self.assertLess(got["logprobs"][0], 0)
        self.assertEqual(got["many"], got["alone"])
        self.assertEqual(got["faults"], [["InvalidArgument", "no_such"], ["InvalidArgument", "token_ids"], ["InvalidArgument", "top_k"],
                                         ["InvalidArgument", "temperature"], ["InvalidArgument", "token_ids"], ["NotFound", "MODEL"],
                                         ["InvalidArgument", "no-such-flag"], ["InvalidArgument", "logits_processors"]])
        self.assertEqual(got["closed"], ["ShuttingDown"] * 2)

    def test_processors_change_rows_in_place_each_of_its_request_alone(self):
        got = run_script(self, PROCESSORS, *(["numpy"] if NUMPY else []))
        self.assertEqual(got["forced"], [77] * 6)
        size = got["seen"][0][0]
        self.assertEqual([row[:2] for row in got["seen"][:2]], [[size, got["seen"][0][1]], [size + 1, 77]])
        self.assertEqual(got["seen"][2], 6, "once for each draw")
        self.assertEqual(got["seen"][0][4], "f")
        self.assertFalse(got["seen"][0][6])
        usual, banned = got["banned"]
        self.assertNotIn(usual[0], banned[:1])
        self.assertTrue(got["chain"])
        self.assertEqual(got["beside"][0], [78] * 6)
        self.assertEqual(got["beside"][1], usual)
        self.assertEqual(got["beside"][3], [79] * 6)
        self.assertEqual(got["beside"][2][0], "ProcessorFault")
        self.assertRegex(got["beside"][2][1], "the processor bad raised ValueError: no thanks")
        self.assertIn("keeps a view of the logits past its call", got["kept"])
        self.assertEqual(len(got["late"]), 2)
        self.assertTrue(got["best"])
        if NUMPY:
            self.assertEqual((got["array"], got["shared"], got["row"]), ([80] * 6, True, True))

    def test_a_process_ends_with_an_engine_open_and_a_stream_under_way(self):
        done = python_cluster.run("-c", "import pixii\nengine = pixii.Engine('tiny-chat', threads=1, kv_memory='32MiB')\n"
                                        "stream = engine.generate('Hello', max_tokens=4000, ignore_eos=True, logits_processors=[lambda t, l: None])\n"
                                        "next(stream)\nprint('so far')")
        self.assertEqual((done.returncode, done.stdout), (0, "so far\n"), done.stderr)


@unittest.skipUnless(python_cluster.BUILT, python_cluster.WHY_NOT)
class EndpointClient(unittest.TestCase):
    def test_instances_are_asked_as_the_caller_says(self):
        with tempfile.TemporaryDirectory() as folder:
            flags = ("--threads", "1", "--kv-memory", "32MiB", "--system-port", "0")
            workers = []
            for number in range(3):
                file = f"{folder}/system-{number}"
                workers.append(cluster.Worker(f"{folder}/cluster", "tiny-chat", *flags, "--system-port-file", file))
                workers[-1].port = int(open(file).read())
            got = run_script(self, CLIENT, f"file:{folder}/cluster", "3")
            self.assertEqual(got["ids"], 3)
            tokens = got["answers"][0][0]
            self.assertEqual(len(tokens), 6)
            for answer in got["answers"]:
                self.assertEqual(answer[:2], [tokens, "length"])
                self.assertEqual((answer[2]["prompt_tokens"], answer[2]["completion_tokens"]), (3, 6))
            self.assertEqual(got["faults"], [["Unavailable", "instance_id"], ["InvalidArgument", "token_ids"], ["Unsupported", "multi_modal_data"],
                                             ["Unsupported", "sampling_options.n"], ["InvalidArgument", "request"],
                                             ["InvalidArgument", "temperature"]])
            self.assertIn("dynamo.nobody.generate has no instance", got["nobody"])
            self.assertIn("no instance", got["unavailable"])
            served = [sum(v for k, v in worker.metrics().items() if k.startswith("dynamo_component_requests_total")) for worker in workers]
            self.assertTrue(all(count >= 1 for count in served), served)
            for worker in workers:
                worker.wait_for(lambda worker=worker: worker.running() == 0, 10, "what was left is cancelled")
                self.assertEqual(worker.stop(), 0, worker.log_text())
                worker.folder.cleanup()


if __name__ == "__main__":
    harness.main()
