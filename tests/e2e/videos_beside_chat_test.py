"""A model that chats and one that makes videos, in one process on the same cores."""
import contextlib
import pathlib
import threading
import unittest

import harness
from video_harness import ENDLESS, LONG, MODEL, PROMPT, SMALL, VideoCase

QUESTION = {"messages": [{"role": "user", "content": "What is 17 + 25?"}], "temperature": 0, "model": "tiny-chat"}
STREAM = {**QUESTION, "max_tokens": 400, "ignore_eos": True}


@unittest.skipIf(MODEL is None, "neither models/tiny-video nor a golden model of videos is here")
class VideosBesideChat(VideoCase, unittest.TestCase):
    name = pathlib.Path(MODEL or ".").name

    @contextlib.contextmanager
    def serving(self, *flags):
        with harness.Server("tiny-chat", "--video-model", MODEL, *flags) as server:
            yield server

    def stream_text(self, server):
        chunks = list(server.stream("/v1/chat/completions", STREAM))
        self.assertEqual(chunks[-1]["choices"][0]["finish_reason"], "length")
        return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)

    def test_both_answer_under_their_names(self):
        with self.serving() as server:
            _, _, models = server.request("GET", "/v1/models")
            tasks = {model["id"]: model["task"] for model in models["data"]}
            self.assertEqual(set(tasks), {"tiny-chat", self.name})
            self.assertEqual((tasks["tiny-chat"][:8], tasks[self.name]), ("generate", "video,image"))
            self.assertEqual(server.request("GET", "/health")[0], 200)
            status, answer = server.post("/v1/chat/completions", {**QUESTION, "model": self.name})
            self.assertEqual((status, answer["error"]["param"]), (400, "model"))
            self.assertIn("makes videos", answer["error"]["message"])
            status, answer = server.post("/v1/videos", {"prompt": PROMPT, "model": "tiny-chat"})
            self.assertEqual((status, answer["error"]["param"]), (404, "model"))
            status, answer = server.post("/v1/images/generations", {"prompt": PROMPT, "model": self.name, "size": "64x64"})
            self.assertEqual(status, 200, answer)
            # Who names none gets the one that chats.
            status, answer = server.post("/v1/chat/completions", {key: QUESTION[key] for key in ("messages", "temperature")})
            self.assertIn("42", answer["choices"][0]["message"]["content"])

    def test_eight_videos_and_chats_go_on_beside_one_another_and_say_what_they_say_alone(self):
        with self.serving() as server:
            alone = self.stream_text(server)
            video = self.completed(server, self.create(server)["id"])
            file = self.get(server, f"/v1/videos/{video['id']}/content")[2]
            server.request("DELETE", f"/v1/videos/{video['id']}")
            idents = [self.create(server, **LONG)["id"] for _ in range(8)]
            server.wait_for(lambda: list(self.of_each(server, "status").values()) == ["in_progress"] * 8, 120, "eight videos")
            # While one stream follows the other, each video goes on, and as fast as the others.
            stop, texts = threading.Event(), []

            def chat():
                while not stop.is_set():
                    texts.append(self.stream_text(server))
            chatting = threading.Thread(target=chat)
            chatting.start()
            try:
                first = self.of_each(server, "progress")
                server.wait_for(lambda: all(self.of_each(server, "progress")[one] >= first[one] + 2 for one in idents), 180,
                                "progress of each")
                now = self.of_each(server, "progress")
                gains = [now[one] - first[one] for one in idents]
                self.assertLessEqual(max(gains) - min(gains), 2, gains)
                # Each is cancelled at once, and what is left goes on.
                for cancelled, ident in enumerate(idents, 1):
                    self.assertEqual(server.request("DELETE", f"/v1/videos/{ident}")[0], 200)
                    self.assertEqual(self.ended(server, "cancelled"), cancelled)
                    self.assertEqual(set(self.of_each(server, "status")), set(idents[cancelled:]))
                # Eight more end while chats go on.
                done = [self.create(server)["id"] for _ in range(8)]
                for ident in done:
                    self.completed(server, ident)
                self.assertEqual(self.get(server, f"/v1/videos/{done[3]}/content")[2], file)
            finally:
                stop.set()
                chatting.join()
            self.assertGreater(len(texts), 0)
            self.assertEqual(set(texts), {alone})

    def test_a_video_is_cancelled_within_its_step_beside_a_chat(self):
        with self.serving() as server:
            chatting = server.stream("/v1/chat/completions", {**STREAM, "max_tokens": 1500})
            next(chatting)

            def cut_within_its_step():
                begun = self.steps(server)
                job = self.create(server, **ENDLESS)
                server.wait_for(lambda: self.steps(server) > begun, 180, "a step")
                before = self.steps(server)
                server.request("DELETE", f"/v1/videos/{job['id']}")
                self.completed(server, self.create(server)["id"])  # behind whatever was left of the step
                return self.steps(server) == before + SMALL["num_inference_steps"]

            # A step may end just then; it does not do so five times.
            self.assertTrue(any(cut_within_its_step() for _ in range(5)))
            self.assertEqual(list(chatting)[-1]["choices"][0]["finish_reason"], "length")

    def test_a_shutdown_ends_both(self):
        with self.serving("--drain-timeout", "1s") as server:
            self.create(server, **ENDLESS)
            server.wait_for(lambda: self.steps(server) > 0, 120, "a step")
            chatting = server.stream("/v1/chat/completions", {**STREAM, "max_tokens": 1500})
            next(chatting)
            self.assertEqual(server.stop(), 0)
            chatting.close()

    def test_what_does_not_go_together_is_said_at_the_start(self):
        for model, flags, why in (("tiny-chat", ("--video-model", "tiny-chat"), "makes no videos"),
                                  ("tiny-chat", ("--video-model", "/nowhere"), "/nowhere"),
                                  ("tiny-chat", ("--video-model", MODEL, "--workers", "2"), "--workers"),
                                  ("tiny-chat", ("--video-model", MODEL, "--served-model-name", self.name), "both models"),
                                  ("tiny-chat", ("--video-model", MODEL, "--dit-cfg-size", "2"), "dit-cfg-size is 2"),
                                  ("tiny-chat", ("--video-model", MODEL, "--media-output-fs-url", "ftp://x"), "ftp://x"),
                                  (MODEL, ("--video-model", MODEL), "makes videos itself")):
            with self.subTest(flags=flags):
                refused = harness.run_pixii("serve", model, "--port", "0", *flags)
                self.assertNotEqual(refused.returncode, 0)
                self.assertIn(why, refused.stdout + refused.stderr)


if __name__ == "__main__":
    harness.main()
