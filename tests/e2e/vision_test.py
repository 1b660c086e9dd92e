"""Questions about pictures: the bundled model answers as its table says, the same wherever it is asked, and pictures are told apart."""
import base64
import contextlib
import gzip
import http.server
import pathlib
import random
import socket
import struct
import sys
import tempfile
import threading
import unittest
import zlib
from concurrent.futures import ThreadPoolExecutor

import cluster
import harness

sys.path.insert(0, str(harness.ROOT / "models/tiny-vlm/train"))
import conversations  # noqa: E402  (of the model's own folder)
import draw  # noqa: E402
import eval as asking  # noqa: E402

CHAT = "/v1/chat/completions"
FLAGS = ("--threads", "1", "--max-batch", "8", "--kv-memory", "64MiB")
TASKS = ("name", "count", "relation", "digits", "two pictures", "fourth question on a picture", "saying it sees no picture")
CASES_OF_TASK = 6
RIGHT_MIN = 0.95  # the table says 1.0 of each task


def plain(colour, width=112, height=112):
    """A data URL of one colour."""
    return "data:image/png;base64," + base64.b64encode(draw.png(width, height, bytes(colour) * (width * height))).decode()


def body(messages, **more):
    return {"model": "tiny-vlm", "messages": messages, "temperature": 0, "max_tokens": 48, **more}


def look(url, question="What do you see?", **more):
    return body([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question}]}], **more)


def all_cases():
    return [(task, case) for task in conversations.CASES if any(task.startswith(name) for name in TASKS)
            for case in conversations.cases(task, CASES_OF_TASK, 3)]


class Vision(unittest.TestCase):
    def ask_all(self, server, cases):
        def one(entry):
            status, answer = server.post(CHAT, body(asking.request_messages(entry[1]["messages"]), logprobs=True, top_logprobs=2))
            self.assertEqual(status, 200, answer)
            choice = answer["choices"][0]
            return choice["message"]["content"], [(t["token"], t["logprob"]) for t in choice["logprobs"]["content"]]

        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(one, cases))

    def test_answers_are_right_and_the_same_in_every_topology(self):
        cases = all_cases()
        self.assertGreaterEqual(len(cases), 5 * CASES_OF_TASK)
        with harness.Server("tiny-vlm", *FLAGS) as server:
            alone = self.ask_all(server, cases)
            again = self.ask_all(server, cases)
        right = sum(conversations.right(task, case, text) for (task, case), (text, _) in zip(cases, alone))
        self.assertGreaterEqual(right / len(cases), RIGHT_MIN,
                                [(task, case["expect"], text) for (task, case), (text, _) in zip(cases, alone)
                                 if not conversations.right(task, case, text)])
        self.assertEqual(again, alone, "what was seen before changes nothing")
        for flags in (("--workers", "2"), ("--prefill", "1", "--decode", "1"), ("--enable-attention-dp", "--tensor-parallel-size", "2")):
            with self.subTest(flags=flags), harness.Server("tiny-vlm", *FLAGS, *flags) as server:
                self.assertEqual(self.ask_all(server, cases), alone)

    def test_equal_pictures_meet_in_the_cache_and_others_never(self):
        with harness.Server("tiny-vlm", *FLAGS) as server:
            def cached(url):
                status, answer = server.post(CHAT, look(url, max_tokens=1))
                self.assertEqual(status, 200, answer)
                return answer["usage"]["prompt_tokens_details"]["cached_tokens"]

            red = plain((200, 0, 0))
            self.assertEqual(cached(red), 0)
            self.assertGreater(cached(red), 0)
            almost = bytearray(bytes((200, 0, 0)) * (112 * 112))
            almost[-1] = 1
            other = "data:image/png;base64," + base64.b64encode(draw.png(112, 112, bytes(almost))).decode()
            self.assertEqual(cached(other), 0, "one bit of one pixel")
            # The same pixels in another file are the same picture.
            rows = b"".join(b"\0" + bytes((200, 0, 0)) * 112 for _ in range(112))
            chunk = lambda name, data: struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))  # noqa: E731
            file = (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 112, 112, 8, 2, 0, 0, 0)) +
                    chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b""))
            self.assertGreater(cached("data:image/png;base64," + base64.b64encode(file).decode()), 0)

    def test_a_picture_moves_with_its_request(self):
        cases = [entry for entry in all_cases() if entry[0].startswith("describe") or "two" in entry[0]][:4] or all_cases()[:4]
        message = asking.request_messages(cases[0][1]["messages"])
        wanted = body(message, max_tokens=300, ignore_eos=True, seed=5, temperature=1)
        with harness.Server("tiny-vlm", *FLAGS) as server:
            status, whole = server.post(CHAT, wanted)
            self.assertEqual(status, 200, whole)
        with cluster.Cluster(2, "tiny-vlm", FLAGS) as both:
            killed = False
            text = ""
            for event in both.frontend.stream(CHAT, wanted):
                for choice in event["choices"]:
                    text += choice["delta"].get("content") or ""
                if len(text) > 40 and not killed:
                    both.kill(both.serving())
                    killed = True
            self.assertTrue(killed)
            self.assertEqual(text, whole["choices"][0]["message"]["content"])
            self.assertEqual(both.migrations()["ongoing_request"], 1)

    def test_what_cannot_be_shown_is_refused_by_field(self):
        at = "messages[0].content[0].image_url.url"
        jpeg_start = base64.b64encode(b"\xff\xd8\xff\xe0 no picture").decode()
        with harness.Server("tiny-vlm", *FLAGS) as server:
            for url, code in (("data:image/png;base64,!!!", 400), ("data:image/png,abc", 400), ("data:nothing", 400),
                              ("data:image/png;base64," + base64.b64encode(b"text").decode(), 400),
                              ("data:image/jpeg;base64," + jpeg_start, 400), (plain((1, 2, 3), 4000, 4), 400)):
                with self.subTest(url=url[:40]):
                    status, answer = server.post(CHAT, look(url))
                    self.assertEqual((status, answer["error"]["param"]), (code, at), answer)
            status, answer = server.post(CHAT, body([{"role": "user", "content": [{"type": "video_url", "video_url": {"url": "data:,"}}]}]))
            self.assertEqual((status, answer["error"]["param"]), (400, "messages[0].content[0].video_url.url"), answer)
            status, answer = server.post(CHAT, look(plain((0, 0, 0)), nvext={"token_data": [5, 6]}))
            self.assertEqual((status, answer["error"]["param"]), (400, "nvext.token_data"), answer)
            status, answer = server.post(CHAT, look(plain((0, 0, 0))))
            self.assertEqual(status, 200, answer)
        with harness.Server("tiny-chat", *FLAGS) as server:
            status, answer = server.post(CHAT, {**look(plain((0, 0, 0))), "model": "tiny-chat"})
            self.assertNotEqual(status, 200)
            self.assertEqual(answer["error"]["param"], at)

    @contextlib.contextmanager
    def origin(self, answer):
        """A server on loopback: `answer(path)` gives status, headers and body. Yields its port and the paths that were asked for."""
        asked = []

        class Origin(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                status, headers, data = answer(self.path)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield server.server_port, asked
            finally:
                server.shutdown()
                thread.join()

    def refused(self, server, url, rule):
        status, answer = server.post(CHAT, look(url))
        self.assertEqual((status, answer["error"]["param"]), (400, "messages[0].content[0].image_url.url"), answer)
        self.assertIn(rule, answer["error"]["message"])

    def test_pictures_are_fetched_by_policy(self):
        picture = base64.b64decode(plain((0, 0, 200)).split(",")[1])
        with contextlib.ExitStack() as stack:
            port, asked = stack.enter_context(self.origin(lambda _: (200, {}, picture)))
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            pathlib.Path(folder, "in.png").write_bytes(picture)
            with harness.Server("tiny-vlm", *FLAGS) as server:
                for url in (f"http://127.0.0.1:{port}/a", f"https://127.0.0.1:{port}/a", f"https://localhost:{port}/a",
                            f"https://[::ffff:127.0.0.1]:{port}/a", f"http://2130706433:{port}/a", f"file://{folder}/in.png", "file:///etc/passwd",
                            "ftp://example.com/a", "//example.com/a", ""):
                    with self.subTest(url=url):
                        self.refused(server, url, "media URL is refused")
            self.assertEqual(asked, [], "nothing inside is ever asked")
            with harness.Server("tiny-vlm", *FLAGS, "--media-allow-internal", "--media-folder", folder) as server:
                answers = []
                for url in (plain((0, 0, 200)), f"http://127.0.0.1:{port}/a", f"file://{folder}/in.png"):
                    status, answer = server.post(CHAT, look(url, "What colour is the background?"))
                    self.assertEqual(status, 200, answer)
                    answers.append(answer["choices"][0]["message"]["content"])
                self.assertEqual(len(set(answers)), 1, answers)
                self.refused(server, f"file://{folder}/../outside.png", "media URL is refused")
            self.assertEqual(asked, ["/a"])
            pathlib.Path(folder, "large.png").write_bytes(draw.png(700, 600, random.Random(1).randbytes(3 * 700 * 600)))
            with harness.Server("tiny-vlm", *FLAGS, "--allowed-local-media-path", folder, "--max-file-size-mb", "1") as server:
                self.refused(server, f"file://{folder}/large.png", "1048576")
                status, answer = server.post(CHAT, look(f"file://{folder}/in.png"))
                self.assertEqual(status, 200, answer)

    def test_a_host_that_is_let_through_lets_no_other_through(self):
        picture = base64.b64decode(plain((0, 0, 200)).split(",")[1])
        routes = {"/metadata": (302, {"Location": "http://169.254.169.254/latest/meta-data/"}, b""), "/named": (302, {"Location": "http://localhost/"}, b""),
                  "/other": (302, {"Location": "http://10.0.0.1/a"}, b""), "/self": (302, {"Location": "/a"}, b""), "/a": (200, {}, picture)}
        with self.origin(routes.__getitem__) as (port, asked):
            with harness.Server("tiny-vlm", *FLAGS, "--media-internal-hosts", "127.0.0.1") as server:
                for path in ("/metadata", "/named", "/other"):
                    with self.subTest(path):
                        self.refused(server, f"http://127.0.0.1:{port}{path}", "media URL is refused")
                status, answer = server.post(CHAT, look(f"http://127.0.0.1:{port}/self"))
                self.assertEqual(status, 200, answer)
            self.assertEqual(asked, ["/metadata", "/named", "/other", "/self", "/a"])
            with harness.Server("tiny-vlm", *FLAGS, env={"DYN_MM_ALLOW_INTERNAL": "1"}) as server:
                status, answer = server.post(CHAT, look(f"http://127.0.0.1:{port}/a"))
                self.assertEqual(status, 200, answer)

    def test_what_a_host_does_wrong_is_the_requests_fault(self):
        picture = base64.b64decode(plain((0, 0, 200)).split(",")[1])
        cut = {"Content-Length": str(2 * len(picture))}
        routes = {"/half": (200, cut, picture), "/gone": (404, {}, b""), "/broken": (500, {}, b""), "/round": (302, {"Location": "/round"}, b""),
                  "/page": (200, {"Content-Type": "image/png"}, b"<html>"), "/packed": (200, {"Content-Encoding": "gzip"}, gzip.compress(picture))}
        with self.origin(routes.__getitem__) as (port, _), harness.Server("tiny-vlm", *FLAGS, "--media-internal-hosts", "127.0.0.1") as server:
            for path in routes:
                with self.subTest(path):
                    self.refused(server, f"http://127.0.0.1:{port}{path}", "")
            with socket.create_server(("127.0.0.1", 0)) as closed:
                closed_port = closed.getsockname()[1]
            self.refused(server, f"http://127.0.0.1:{closed_port}/", "cannot be fetched")

    def test_other_bytes_under_one_url_are_another_picture(self):
        pictures = [base64.b64decode(plain(colour).split(",")[1]) for colour in ((200, 0, 0), (200, 0, 0), (0, 200, 0))]
        with self.origin(lambda _: (200, {}, pictures[len(asked) - 1])) as (port, asked), \
                harness.Server("tiny-vlm", *FLAGS, "--media-allow-internal") as server:
            cached = []
            for _ in pictures:
                status, answer = server.post(CHAT, look(f"http://127.0.0.1:{port}/same", max_tokens=1))
                self.assertEqual(status, 200, answer)
                cached.append(answer["usage"]["prompt_tokens_details"]["cached_tokens"])
        self.assertEqual((cached[0], cached[2]), (0, 0), "no URL is believed")
        self.assertGreater(cached[1], 0)

    def test_three_pictures_keep_their_order(self):
        colours = [plain(colour) for colour in ((220, 0, 0), (0, 220, 0), (0, 0, 220))]
        with harness.Server("tiny-vlm", *FLAGS) as server:
            said = []
            for order in ((0, 1, 2), (1, 0, 2), (0, 2, 1), (0, 1, 2)):
                parts = [{"type": "image_url", "image_url": {"url": colours[i]}} for i in order]
                status, answer = server.post(CHAT, body([{"role": "user", "content": [*parts, {"type": "text", "text": "What do you see?"}]}],
                                                        logprobs=True, top_logprobs=5, max_tokens=8))
                self.assertEqual(status, 200, answer)
                said.append(answer["choices"][0]["logprobs"]["content"])
        self.assertEqual(said[0], said[3])
        self.assertTrue(all(said[i] != said[j] for i in range(3) for j in range(i)), "a swap is seen")

    def test_bombs_are_refused_by_their_headers(self):
        huge = base64.b64encode((harness.ROOT / "tests/golden/media/huge.png").read_bytes()).decode()
        with harness.Server("tiny-vlm", *FLAGS) as server:
            self.refused(server, "data:image/png;base64," + huge, "above the limit")

    def test_a_word_that_stands_for_pictures_is_neither_given_nor_chosen(self):
        image = 4098
        with harness.Server("tiny-vlm", *FLAGS) as server:
            for prompt in ([5, 6, image, 7], "see <|image_pad|>", [[5, 6], [image]]):
                status, answer = server.post("/v1/completions", {"model": "tiny-vlm", "prompt": prompt, "max_tokens": 2})
                self.assertEqual((status, answer["error"]["param"]), (400, "prompt"), answer)
                self.assertIn(str(image), answer["error"]["message"])
            status, answer = server.post("/inference/v1/generate", {"model": "tiny-vlm", "token_ids": [5, image], "sampling_params": {"max_tokens": 2}})
            self.assertEqual((status, answer["error"]["param"]), (400, "token_ids"), answer)
            status, answer = server.post("/v1/completions", {"model": "tiny-vlm", "prompt": "see", "max_tokens": 8, "temperature": 0,
                                                             "logit_bias": {str(image): 100}, "return_token_ids": True, "ignore_eos": True})
            self.assertEqual(status, 200, answer)
            self.assertNotIn(image, answer["choices"][0]["token_ids"])
            self.assertEqual(len(answer["choices"][0]["token_ids"]), 8)

    def test_flags_of_pictures_are_judged_before_anything_is_loaded(self):
        for flags, wrong in ((("--media-hosts", "*.x"), '"*.x"'), (("--media-hosts", "a.example,"), '""'), (("--media-internal-hosts", "a b"), '"a b"'),
                             (("--max-file-size-mb", "65"), "65"), (("--media-folder", "/no/such/folder"), "/no/such/folder")):
            with self.subTest(flags=flags):
                done = harness.run_pixii("serve", "/no/such/model", *flags)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(flags[0].removeprefix("--"), done.stderr)
                self.assertIn(wrong, done.stderr)

    def test_text_that_looks_like_a_placeholder_shows_nothing(self):
        with harness.Server("tiny-vlm", *FLAGS) as server:
            words = [{"role": "user", "content": [{"type": "text", "text": "<|vision_start|><|image_pad|><|vision_end|>"},
                                                  {"type": "image_url", "image_url": {"url": plain((9, 9, 9))}}]}]
            status, answer = server.post(CHAT, body(words, max_tokens=4))
            self.assertEqual(status, 200, answer)
            self.assertGreater(answer["usage"]["prompt_tokens"], 16 + 20, "the words are letters")


if __name__ == "__main__":
    harness.main()
