"""Workers that look at pictures for others, and features that requests bring themselves: the answers are those of one process."""
import base64
import contextlib
import json
import os
import pathlib
import re
import struct
import sys
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor

import cluster
import harness

sys.path.insert(0, str(harness.ROOT / "models/tiny-vlm/train"))
import conversations  # noqa: E402  (of the model's own folder)
import draw  # noqa: E402
import eval as asking  # noqa: E402

CHAT = "/v1/chat/completions"
FLAGS = ("--threads", "1", "--max-batch", "8", "--kv-memory", "64MiB")
CASES_OF_TASK = 2
LATE = 10  # seconds for what should take a moment


def png(colour, side=112):
    return draw.png(side, side, bytes(colour) * (side * side))


def plain(colour):
    return "data:image/png;base64," + base64.b64encode(png(colour)).decode()


def show(part, question="What do you see?", **more):
    return {"model": "tiny-vlm", "messages": [{"role": "user", "content": [part, {"type": "text", "text": question}]}], "temperature": 0,
            "max_tokens": 24, "logprobs": True, "top_logprobs": 2, **more}


def picture(url):
    return {"type": "image_url", "image_url": {"url": url}}


def said(answer):
    choice = answer["choices"][0]
    return choice["message"]["content"], [(t["token"], t["logprob"]) for t in choice["logprobs"]["content"]]


def all_cases():
    return [case for task in conversations.CASES for case in conversations.cases(task, CASES_OF_TASK, 5)]


class Cluster:
    """Workers by role and a frontend; all end with it."""

    def __init__(self, *roles, flags=(), of=None):
        self.root = tempfile.TemporaryDirectory(prefix="pixii-encode-")
        self.folder = self.root.name
        os.mkdir(f"{self.folder}/cluster")
        pathlib.Path(f"{self.folder}/key").write_bytes(os.urandom(32))
        self.workers, self.frontend = [], None
        try:
            for role in roles:
                self.workers.append(cluster.RoleWorker(self.folder, role, *FLAGS, *flags, *((of or {}).get(role, ())), model="tiny-vlm"))
            self.frontend = cluster.Frontend(f"{self.folder}/cluster")
            self.wait_for_workers()
        except BaseException:
            self.end(False)
            raise

    def of(self, role):
        return [worker for worker in self.workers if worker.role == role]

    def wait_for_workers(self):
        self.frontend.wait_for(lambda: cluster.total(self.frontend, "dynamo_frontend_router_worker_state", 'state="available"')
                               == len(self.workers), 20, "all workers")

    def kill(self, worker):
        self.workers.remove(worker)
        worker.kill()
        worker.folder.cleanup()

    def total(self, role, name, label=""):
        return sum(int(cluster.total(worker, name, label)) for worker in self.of(role))

    def paths(self):
        return {re.search('path="([a-z_]+)"', name)[1]: int(value) for name, value in self.frontend.metrics().items()
                if name.startswith("pixii_encode_total{")}

    def ask(self, body):
        status, answer = self.frontend.post(CHAT, body)
        if status != 200:
            raise AssertionError(f"status {status}: {answer}")
        return said(answer)

    def wait_until_idle(self):
        """The frontend has heard that nobody looks at anything: who it takes to be busy is passed over."""
        def busy():
            status, _, view = self.frontend.request("GET", "/v1/cluster")
            loads = [one["load"] for one in view["workers"] if one["role"] == "encode"] if status == 200 else []
            return not loads or any(load is None or load["running"] + load["queued"] for load in loads)
        self.frontend.wait_for(lambda: not busy(), LATE, "encode workers are idle")

    def wait_until_quiet(self):
        """Nothing is asked for, kept for somebody, or computed at any worker."""
        names = ("pixii_media_encode_requests", "pixii_media_features_pinned_bytes", "pixii_engine_blocks_pinned", "pixii_engine_running",
                 "pixii_engine_waiting", "pixii_handover_offers", "pixii_handover_loads")
        for worker in self.workers:
            worker.wait_for(lambda worker=worker: not any(cluster.total(worker, name) for name in names), LATE, "nothing is left")

    def end(self, asserts=True):
        processes = ([self.frontend] if self.frontend else []) + self.workers
        cluster.end(processes, asserts, self.root)
        for process in processes:
            process.folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.end(kind is None)


class Encode(unittest.TestCase):
    def ask_all(self, server, cases):
        def one(case):
            body = {"model": "tiny-vlm", "messages": asking.request_messages(case["messages"]), "temperature": 0, "max_tokens": 48,
                    "logprobs": True, "top_logprobs": 2}
            status, answer = server.post(CHAT, body)
            self.assertEqual(status, 200, answer)
            return said(answer)

        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(one, cases))

    def test_answers_are_those_of_one_process_in_every_topology(self):
        cases = all_cases()
        with harness.Server("tiny-vlm", *FLAGS) as server:
            alone = self.ask_all(server, cases)
            looked = int(cluster.total(server, "pixii_media_encoded_total"))
        self.assertGreater(looked, len(cases) // 2)
        with self.subTest("E/PD"), Cluster("encode", "agg", "agg", flags=("--kv-transfer", "tcp")) as pair:
            self.assertEqual(self.ask_all(pair.frontend, cases), alone)
            self.assertEqual(pair.total("agg", "pixii_media_encoded_total"), 0)
            self.assertEqual(pair.total("encode", "pixii_media_encoded_total"), looked)
            self.assertGreater(pair.total("agg", "pixii_media_features_fetched_total"), 0)
            self.assertGreater(pair.total("agg", "pixii_transfer_bytes_total", 'transport="tcp",operation="read"'), 0)
            self.assertEqual(set(pair.paths()) and pair.paths()["fallback"], 0)
            pair.wait_until_quiet()
        named = ("--no-vision-tower", "--encode-endpoint", "dyn://dynamo.encode.generate")
        with self.subTest("E/P/D"), Cluster("encode", "encode", "prefill", "decode", of={"prefill": named}) as three:
            self.assertEqual(self.ask_all(three.frontend, cases), alone)
            self.assertEqual(three.total("encode", "pixii_media_encoded_total"), looked)
            self.assertEqual(three.total("decode", "pixii_media_encoded_total"), 0)
            few = three.total("decode", "pixii_media_features_fetched_total")
            self.assertLess(few, three.total("prefill", "pixii_media_features_fetched_total") // 2, "who decodes has the blocks, all but the last")
            self.assertGreater(three.total("prefill", "pixii_transfer_bytes_total", 'transport="shm",operation="read"'), 0)
            self.assertGreater(three.total("decode", "pixii_handover_bytes_total"), 0)
            self.assertTrue(all(cluster.total(worker, "pixii_media_encoded_total") for worker in three.of("encode")), "pictures are shared out")
            three.wait_until_quiet()
        blind = ("--no-vision-tower",)
        with self.subTest("E/P/D, towers elsewhere"), Cluster("encode", "prefill", "decode", of={"prefill": blind, "decode": blind}) as three:
            self.assertEqual(self.ask_all(three.frontend, cases[:12]), alone[:12])
            three.wait_until_quiet()
        with self.subTest("EP/D"), Cluster("prefill", "decode") as two:
            self.assertEqual(self.ask_all(two.frontend, cases), alone)
            self.assertEqual(two.total("prefill", "pixii_media_encoded_total"), looked)
            self.assertLessEqual(two.total("decode", "pixii_media_encoded_total"), few, "those that reach into the last block")
            two.wait_until_quiet()
        with self.subTest("one command"), harness.Server("tiny-vlm", *FLAGS, "--prefill", "1", "--decode", "1", "--encode", "1") as server:
            self.assertEqual(self.ask_all(server, cases[:8]), alone[:8])
            self.assertGreater(cluster.total(server, "pixii_encode_total", 'path="encode"'), 0)

    def test_a_picture_goes_where_it_was_seen(self):
        with Cluster("encode", "encode", "encode", "agg", "agg") as many:
            questions = ["What do you see?", "What colour is it?", "How many shapes are there?", "Name the shape."]
            for question in questions:
                many.wait_until_idle()
                many.ask(show(picture(plain((200, 0, 0))), question))
            seen = sorted(int(cluster.total(worker, "pixii_media_encoded_total")) for worker in many.of("encode"))
            self.assertEqual(seen, [0, 0, 1])
            self.assertEqual(many.total("encode", "pixii_media_cache_hits_total"), len(questions) - 1)
            self.assertEqual(many.paths()["encode"], len(questions))
            # One picture twice in a request is looked at once, and its order counts.
            many.wait_until_idle()
            red, blue = picture(plain((200, 0, 0))), picture(plain((0, 0, 200)))
            body = {**show(red), "messages": [{"role": "user", "content": [red, blue, red, {"type": "text", "text": "What do you see?"}]}]}
            many.ask(body)
            self.assertEqual(many.total("encode", "pixii_media_encoded_total"), 2)
            many.wait_until_quiet()

    def test_a_worker_that_dies_at_its_picture_costs_no_answer(self):
        with harness.Server("tiny-vlm", *FLAGS) as server:
            status, answer = server.post(CHAT, show(picture(plain((10, 200, 30)))))
            self.assertEqual(status, 200, answer)
            wanted = said(answer)
        with Cluster("encode", "encode", "prefill", "decode") as four:
            with ThreadPoolExecutor(1) as pool:
                for left in (1, 0):
                    stopped = four.of("encode")
                    for worker in stopped:
                        cluster.pause(worker)
                    asked = pool.submit(four.ask, show(picture(plain((10, 200, 30))), seed=left))
                    four.frontend.wait_for(lambda: cluster.total(four.frontend, "dynamo_frontend_inflight_requests") == 1 or asked.done(),
                                           LATE, "the request is under way")
                    four.kill(stopped[0])
                    for worker in stopped[1:]:
                        cluster.resume(worker)
                    self.assertEqual(asked.result(60), wanted)
                    self.assertEqual(len(four.of("encode")), left)
            self.assertEqual(four.ask(show(picture(plain((10, 200, 30))))), wanted)
            self.assertGreaterEqual(four.paths()["fallback"] + four.paths()["local_no_worker"], 1)
            four.wait_until_quiet()

    def test_a_cancel_reaches_the_worker_that_encodes(self):
        with Cluster("encode", "agg") as pair:
            encode = pair.of("encode")[0]
            pair.ask(show(picture(plain((1, 1, 1)))))
            cluster.pause(encode)
            connection = pair.frontend.connection()
            connection.request("POST", CHAT, body=json.dumps(show(picture(plain((2, 2, 2))))), headers={"Content-Type": "application/json"})
            pair.frontend.wait_for(lambda: cluster.total(pair.frontend, "dynamo_frontend_inflight_requests") == 1, LATE, "it is under way")
            connection.close()
            pair.frontend.wait_for(lambda: cluster.total(pair.frontend, "dynamo_frontend_active_requests") == 0, LATE, "the request ended")
            cluster.resume(encode)
            pair.wait_until_quiet()
            self.assertEqual(pair.total("agg", "pixii_media_offered_hits_total"), 1, "the second never came so far")
            self.assertEqual(len(pair.ask(show(picture(plain((2, 2, 2)))))), 2)

    def test_without_any_tower_the_error_says_so(self):
        with Cluster("agg", flags=("--no-vision-tower",)) as blind:
            status, answer = blind.frontend.post(CHAT, show(picture(plain((1, 1, 1)))))
            self.assertEqual(status, 503, answer)
            self.assertIn("encode", answer["error"]["message"])
            status, answer = blind.frontend.post(CHAT, {"model": "tiny-vlm", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4})
            self.assertEqual(status, 200, answer)
        for words, flag in ((("serve", "tiny-vlm", "--no-vision-tower"), "vision-tower"), (("worker", "tiny-vlm", "--no-vision-tower"), "vision-tower"),
                            (("serve", "tiny-chat", "--encode", "1", "--port", "0"), "reads text alone"),
                            (("worker", "tiny-vlm", "--role", "encode"), "cluster-key"),
                            (("worker", "tiny-vlm", "--encode-endpoint", "dyn://dynamo.encode"), '"dyn://dynamo.encode" is none'),
                            (("worker", "tiny-vlm", "--encode-endpoint", "dyn://other.encode.generate"), "another namespace"),
                            (("worker", "tiny-vlm", "--encode-endpoint", "dyn://dynamo.encode.generate"), "needs --cluster-key")):
            with self.subTest(words=words):
                done = harness.run_pixii(*words)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(flag, done.stderr)
        with tempfile.NamedTemporaryFile() as key:
            key.write(os.urandom(32))
            key.flush()
            done = harness.run_pixii("worker", "tiny-chat", "--role", "encode", "--cluster-key", key.name)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("reads text alone", done.stderr)


def safetensors(tensors):
    """A file of name -> (dtype, shape, bytes)."""
    header, data = {}, b""
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


class Embeddings(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.root = tempfile.TemporaryDirectory(prefix="pixii-embeddings-")
        folder = pathlib.Path(cls.root.name)
        cls.folder = folder / "allowed"
        cls.folder.mkdir()
        (folder / "a.png").write_bytes(png((200, 0, 0)))
        (folder / "b.png").write_bytes(png((0, 0, 200)))
        for name in ("a", "b"):
            done = harness.run_pixii("media", str(folder / f"{name}.png"), "--model", "tiny-vlm", "--embeddings",
                                     str(cls.folder / f"{name}.safetensors"))
            if done.returncode != 0:
                raise AssertionError(done.stderr)

    @classmethod
    def tearDownClass(cls):
        cls.root.cleanup()

    def bytes_of(self, name):
        return (self.folder / f"{name}.safetensors").read_bytes()

    def tensors(self, name):
        """name -> (dtype, shape, bytes) of a file."""
        raw = self.bytes_of(name)
        size = struct.unpack("<Q", raw[:8])[0]
        header = json.loads(raw[8:8 + size])
        return {key: (one["dtype"], one["shape"], raw[8 + size + one["data_offsets"][0]:8 + size + one["data_offsets"][1]])
                for key, one in header.items() if key != "__metadata__"}

    def test_they_are_as_good_as_their_pictures(self):
        inline = base64.b64encode(self.bytes_of("a")).decode()
        forms = [{"type": "image_embeds", "image_embeds": inline},
                 {"type": "image_embeds", "image_embeds": f"data:application/octet-stream;base64,{inline}"},
                 {"type": "image_embeds", "image_embeds": {"url": f"file://{self.folder}/a.safetensors"}},
                 picture(f"file://{self.folder}/a.safetensors")]
        with harness.Server("tiny-vlm", *FLAGS, "--media-folder", str(self.folder)) as server:
            status, answer = server.post(CHAT, show(picture(plain((200, 0, 0)))))
            self.assertEqual(status, 200, answer)
            wanted, usage = said(answer), answer["usage"]["prompt_tokens"]
            looked = cluster.total(server, "pixii_media_encoded_total")
            cached = []
            for form in forms:
                status, answer = server.post(CHAT, show(form))
                self.assertEqual(status, 200, answer)
                self.assertEqual(said(answer), wanted)
                self.assertEqual(answer["usage"]["prompt_tokens"], usage)
                cached.append(answer["usage"]["prompt_tokens_details"]["cached_tokens"])
            self.assertGreater(cached[1], cached[0], "equal features meet in the cache, whatever they came as")
            self.assertEqual(len(set(cached[1:])), 1)
            status, answer = server.post(CHAT, show({"type": "image_embeds", "image_embeds": base64.b64encode(self.bytes_of("b")).decode()}))
            self.assertEqual(answer["usage"]["prompt_tokens_details"]["cached_tokens"], cached[0], "others never")
            self.assertNotEqual(said(answer), wanted)
            self.assertEqual(cluster.total(server, "pixii_media_encoded_total"), looked, "no tower was asked")
            # Beside pictures, in their order.
            pair = {**show(forms[0]), "messages": [{"role": "user", "content": [forms[0], picture(plain((0, 0, 200))), {"type": "text", "text": "Compare."}]}]}
            both = {**show(forms[0]), "messages": [{"role": "user", "content": [picture(plain((200, 0, 0))), picture(plain((0, 0, 200))),
                                                                               {"type": "text", "text": "Compare."}]}]}
            answers = [server.post(CHAT, body) for body in (pair, both)]
            self.assertEqual([status for status, _ in answers], [200, 200], answers)
            self.assertEqual(said(answers[0][1]), said(answers[1][1]))
        with Cluster("encode", "prefill", "decode") as three:
            self.assertEqual(three.ask(show(forms[0])), wanted)
            self.assertEqual(three.total("encode", "pixii_media_encoded_total"), 0)

    def test_other_types_of_numbers_are_read(self):
        of_file = self.tensors("a")
        _, shape, raw = of_file["mm_embeddings"]
        grid = {"image_grid_thw": of_file["image_grid_thw"]}
        floats = struct.unpack(f"<{len(raw) // 4}f", raw)
        half = b"".join(struct.pack("<I", struct.unpack("<I", struct.pack("<f", value))[0])[2:] for value in floats)
        forms = {"F64": safetensors({"mm_embeddings": ("F64", shape, struct.pack(f"<{len(floats)}d", *floats)), **grid}),
                 "BF16": safetensors({"image_embeds": ("BF16", [1, *shape], half), "special_tokens": ("I64", [1], bytes(8)), **grid}),
                 "F16": safetensors({"x": ("F16", shape, struct.pack(f"<{len(floats)}e", *floats)), **grid})}
        with harness.Server("tiny-vlm", *FLAGS) as server:
            status, answer = server.post(CHAT, show(picture(plain((200, 0, 0)))))
            wanted = said(answer)
            answers = {}
            for dtype, file in forms.items():
                status, answer = server.post(CHAT, show({"type": "image_embeds", "image_embeds": base64.b64encode(file).decode()}))
                self.assertEqual(status, 200, answer)
                answers[dtype] = said(answer)
            self.assertEqual(answers["F64"], wanted, "nothing is lost")

    def test_what_is_no_good_is_refused_by_name(self):
        of_file = self.tensors("a")
        _, shape, raw = of_file["mm_embeddings"]
        grid = {"image_grid_thw": of_file["image_grid_thw"]}
        good = self.bytes_of("a")
        (self.folder / "cut.safetensors").write_bytes(good[:-1])
        (self.folder / "model.pt").write_bytes(b"PK\x03\x04rest")
        (self.folder / "renamed.safetensors").write_bytes(b"PK\x03\x04" + bytes(100))
        with contextlib.suppress(FileExistsError):
            os.symlink("/etc/passwd", self.folder / "link.safetensors")
        with open(self.folder / "large.safetensors", "wb") as large:
            large.truncate((64 << 20) + 1)
        bad = struct.pack("<f", float("nan")) + raw[4:]
        files = {"cut": ("file", "data_offsets"), "link": ("file", "refused"), "large": ("file", "67108864"), "model.pt": ("file", "save_file"),
                 "renamed": ("file", "save_file"), "nowhere": ("file", "refused")}
        inline = {"rows of": safetensors({"mm_embeddings": ("F32", [shape[0], 7], raw[:shape[0] * 28])}),
                  "has the shape": safetensors({"mm_embeddings": ("F32", [len(raw) // 4], raw)}),
                  "is nan": safetensors({"mm_embeddings": ("F32", shape, bad), **grid}),
                  "I32; F32": safetensors({"mm_embeddings": ("I32", shape, raw), **grid}),
                  "image_grid_thw is missing": safetensors({"mm_embeddings": ("F32", shape, raw)}),
                  "may be the features": safetensors({"a": ("F32", shape, raw), "b": ("F32", shape, raw)}),
                  "no tensor": safetensors({"special_tokens": ("I64", [1], bytes(8))}),
                  "too few": b"abc", "header of": struct.pack("<Q", 1 << 40) + b"{}",
                  "0 rows": safetensors({"mm_embeddings": ("F32", [0, shape[1]], b"")})}
        with harness.Server("tiny-vlm", *FLAGS, "--media-folder", str(self.folder)) as server:
            seen = set()
            for name, (scheme, words) in files.items():
                path = name if "." in name else f"{name}.safetensors"
                for form, at in ((picture(f"{scheme}://{self.folder}/{path}"), "image_url.url"),
                                 ({"type": "image_embeds", "image_embeds": f"{scheme}://{self.folder}/{path}"}, "image_embeds")):
                    with self.subTest(name=name, at=at):
                        status, answer = server.post(CHAT, show(form))
                        self.assertEqual((status, answer["error"]["param"]), (400, f"messages[0].content[0].{at}"), answer)
                        self.assertIn(words, answer["error"]["message"])
                        seen.add(answer["error"]["message"].replace(at, ""))
            for words, file in inline.items():
                with self.subTest(words=words):
                    status, answer = server.post(CHAT, show({"type": "image_embeds", "image_embeds": base64.b64encode(file).decode()}))
                    self.assertEqual((status, answer["error"]["param"]), (400, "messages[0].content[0].image_embeds"), answer)
                    self.assertIn(words, answer["error"]["message"])
                    seen.add(answer["error"]["message"])
            self.assertGreaterEqual(len(seen), len(inline) + 4, "each says what is wrong with it")
            self.assertGreater(cluster.total(server, "pixii_media_refused_total", 'stage="fetch"'), 0)
            self.assertGreater(cluster.total(server, "pixii_media_fetches_total", 'source="data"'), 0)
            self.assertGreater(cluster.total(server, "pixii_media_fetches_total", 'source="file"'), 0)
            status, answer = server.post(CHAT, show({"type": "image_embeds", "image_embeds": base64.b64encode(good).decode()}))
            self.assertEqual(status, 200, answer)


class Figures(unittest.TestCase):
    def ask_before(self, part, question):
        return {**show(part), "messages": [{"role": "user", "content": [{"type": "text", "text": question}, part]}]}

    def test_what_becomes_of_pictures_is_counted(self):
        with harness.Server("tiny-vlm", *FLAGS, "--media-cache", "0") as server:
            red = picture(plain((200, 0, 0)))
            for question in ("What do you see?", "Name the shape."):
                status, answer = server.post(CHAT, self.ask_before(red, question))
                self.assertEqual(status, 200, answer)
            self.assertEqual(cluster.total(server, "pixii_media_encoded_total"), 2, "nothing is kept, and the prompts differ before it")
            self.assertEqual(cluster.total(server, "pixii_media_decodes_total"), 2)
            self.assertEqual(cluster.total(server, "pixii_media_decoder_deaths_total"), 0)
            status, _ = server.post(CHAT, show(picture("data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n").decode())))
            self.assertEqual(status, 400)
            self.assertEqual(cluster.total(server, "pixii_media_refused_total", 'stage="decode"'), 1)
        with harness.Server("tiny-vlm", *FLAGS) as server:
            for question in ("What do you see?", "Name the shape."):
                server.post(CHAT, self.ask_before(red, question))
            self.assertEqual(cluster.total(server, "pixii_media_encoded_total"), 1)
            self.assertEqual(cluster.total(server, "pixii_media_cache_hits_total"), 1)


if __name__ == "__main__":
    harness.main()
