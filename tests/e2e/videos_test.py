"""A model that makes videos: jobs as OpenAI's clients ask for them, answers with the file as Dynamo's do."""
import base64
import contextlib
import http.client
import json
import os
import pathlib
import threading
import unittest

import harness
from video_harness import ENDLESS, LONG, MODEL, PROMPT, SMALL, VideoCase, mp4_figures


@unittest.skipIf(MODEL is None, "neither models/tiny-video nor a golden model of videos is here")
class Videos(VideoCase, unittest.TestCase):
    def test_a_job_from_its_request_to_its_file(self):
        with self.serving() as server:
            _, _, models = server.request("GET", "/v1/models")
            self.assertEqual([(model["id"], model["task"]) for model in models["data"]], [("videos", "video,image")])
            self.assertEqual(server.request("GET", "/health")[0], 200)
            job = self.create(server)
            self.assertEqual((job["object"], job["status"], job["size"], job["error"]), ("video", "queued", "64x64", None))
            done = self.completed(server, job["id"])
            self.assertEqual(done["progress"], 100)
            status, headers, data = self.get(server, f"/v1/videos/{job['id']}/content")
            self.assertEqual((status, headers["Content-Type"]), (200, "video/mp4"))
            self.assertEqual(mp4_figures(data), (64, 64, 5, done["fps"]))
            status, headers, part = self.get(server, f"/v1/videos/{job['id']}/content?variant=video", {"Range": "bytes=4-11"})
            self.assertEqual((status, part, headers["Content-Range"]), (206, data[4:12], f"bytes 4-11/{len(data)}"))
            status, headers, part = self.get(server, f"/v1/videos/{job['id']}/content", {"Range": "bytes=-3"})
            self.assertEqual((status, part), (206, data[-3:]))
            status, headers, _ = self.get(server, f"/v1/videos/{job['id']}/content", {"Range": f"bytes={len(data)}-"})
            self.assertEqual((status, headers["Content-Range"]), (416, f"bytes */{len(data)}"))
            # Equal seeds give equal bytes, others do not.
            same, other = self.create(server), self.create(server, seed=8)
            for ident in (same["id"], other["id"]):
                self.completed(server, ident)
            self.assertEqual(self.get(server, f"/v1/videos/{same['id']}/content")[2], data)
            self.assertNotEqual(self.get(server, f"/v1/videos/{other['id']}/content")[2], data)
            _, _, page = server.request("GET", "/v1/videos?limit=2&order=asc")
            self.assertEqual([one["id"] for one in page["data"]], [job["id"], same["id"]])
            self.assertTrue(page["has_more"])
            status, _, gone = server.request("DELETE", f"/v1/videos/{job['id']}")
            self.assertEqual((status, gone), (200, {"id": job["id"], "object": "video.deleted", "deleted": True}))
            self.assertEqual(server.request("GET", f"/v1/videos/{job['id']}")[0], 404)
            self.assertEqual(self.get(server, f"/v1/videos/{job['id']}/content")[0], 404)

    def test_eight_jobs_share_the_device_and_one_is_cancelled_within_a_step(self):
        with self.serving() as server:
            jobs = [self.create(server, **LONG) for _ in range(8)]
            idents = [job["id"] for job in jobs]

            def of_each(name):
                return {one["id"]: one[name] for one in server.request("GET", "/v1/videos")[2]["data"]}

            # All of them go on at the same time, and as fast as one another.
            server.wait_for(lambda: list(of_each("status").values()) == ["in_progress"] * 8, 60, "eight running jobs")
            first = of_each("progress")
            server.wait_for(lambda: all(of_each("progress")[one] >= first[one] + 3 for one in idents), 60, "progress of each")
            now = of_each("progress")
            gains = [now[one] - first[one] for one in idents]
            self.assertLessEqual(max(gains) - min(gains), 2, gains)
            self.assertEqual(server.request("DELETE", f"/v1/videos/{idents[3]}")[0], 200)
            self.assertEqual(self.ended(server, "cancelled"), 1)
            self.assertEqual(set(of_each("status")), set(idents) - {idents[3]})
            # The others go on, then end as they are told to.
            steps = 'pixii_media_steps_total{model="videos"}'
            before = server.metrics().get(steps, 0)
            server.wait_for(lambda: server.metrics().get(steps, 0) >= before + 14, 60, "two steps of each")
            for ident in idents:
                server.request("DELETE", f"/v1/videos/{ident}")
            self.assertEqual(self.ended(server, "cancelled"), 8)
            # Nothing of them is left on the device: a new one has all of it.
            self.completed(server, self.create(server)["id"])
            self.assertEqual(server.metrics()['pixii_media_jobs{model="videos",status="in_progress"}'], 0)

    def test_a_cancelled_job_does_not_finish_its_step(self):
        with self.serving() as server:
            def steps():
                return server.metrics().get('pixii_media_steps_total{model="videos"}', 0)

            def cut_within_its_step():
                begun = steps()
                job = self.create(server, **ENDLESS)
                server.wait_for(lambda: steps() > begun, 60, "a step")
                before = steps()
                server.request("DELETE", f"/v1/videos/{job['id']}")
                self.completed(server, self.create(server)["id"])  # behind whatever was left of the step
                return steps() == before + SMALL["num_inference_steps"]

            # A step may end just then; it does not do so five times.
            self.assertTrue(any(cut_within_its_step() for _ in range(5)))

    def test_a_restart_keeps_what_was_completed_and_fails_the_rest(self):
        flags = ("--media-output-fs-url", pathlib.Path(self.folder.name).as_uri())
        with self.serving(*flags) as server:
            done = self.completed(server, self.create(server)["id"])
            data = self.get(server, f"/v1/videos/{done['id']}/content")[2]
            cut = self.create(server, **ENDLESS)
            server.wait_for(lambda: self.job(server, cut["id"])["status"] == "in_progress", 60, "a running job")
            self.assertEqual((pathlib.Path(self.folder.name) / "videos" / f"{done['id']}.mp4").read_bytes(), data)
            server.process.kill()
            server.process.wait()
            server.stop = lambda: 0  # it was killed, which is what is tested
            server.log.close()
        with self.serving(*flags) as server:
            self.assertEqual(self.job(server, done["id"]), done)
            self.assertEqual(self.get(server, f"/v1/videos/{done['id']}/content")[2], data)
            failed = self.job(server, cut["id"])
            self.assertEqual((failed["status"], failed["error"]["code"]), ("failed", "server_restarted"))
            status, _, gone = server.request("GET", f"/v1/videos/{cut['id']}/content")
            self.assertEqual((status, gone["error"]["param"]), (404, "video_id"))
            server.request("DELETE", f"/v1/videos/{done['id']}")
            server.wait_for(lambda: len(os.listdir(pathlib.Path(self.folder.name) / "videos")) == 2, 10, "a deleted file")

    def test_answers_with_the_file(self):
        flags = ("--media-output-fs-url", pathlib.Path(self.folder.name).as_uri(), "--media-output-http-url",
                 "https://media.example/", "--media-pixels", str(1 << 36))
        body = {"prompt": PROMPT, "model": "videos", "size": "64x64",
                "nvext": {"num_frames": 5, "num_inference_steps": 2, "seed": 3, "fps": 8}}
        with self.serving(*flags) as server:
            status, answer = server.post("/v1/videos", {**body, "response_format": "b64_json"})
            self.assertEqual(status, 200, answer)
            self.assertEqual((answer["object"], answer["model"], answer["status"], answer["progress"]),
                             ("video", "videos", "completed", 100))
            data = base64.b64decode(answer["data"][0]["b64_json"])
            self.assertEqual(mp4_figures(data), (64, 64, 5, 8))
            self.assertEqual((answer["data"][0]["fps"], answer["data"][0]["output_format"]), (8, "mp4"))
            self.assertGreater(answer["inference_time_s"], 0)
            status, answer = server.post("/v1/videos", {"prompt": PROMPT, "size": "4096x4096", "num_frames": 4093})
            self.assertEqual(status, 400, answer)
            self.assertIn(answer["error"]["param"], ("size", "num_frames"))
            status, answer = server.post("/v1/videos", {**body, "response_format": "url"})
            self.assertEqual(answer["data"][0]["url"], f"https://media.example/videos/{answer['id']}.mp4")
            self.assertEqual((pathlib.Path(self.folder.name) / "videos" / f"{answer['id']}.mp4").read_bytes(), data)

    def test_pictures(self):
        body = {"prompt": PROMPT, "size": "64x64", "nvext": {"num_inference_steps": 2, "seed": 3}}
        signs = {"png": b"\x89PNG\r\n\x1a\n", "jpeg": b"\xff\xd8\xff", "webp": b"RIFF"}
        with self.serving() as server:
            for name, sign in signs.items():
                status, answer = server.post("/v1/images/generations", {**body, "n": 3, "output_format": name,
                                                                        "response_format": "b64_json"})
                self.assertEqual(status, 200, answer)
                files = [base64.b64decode(one["b64_json"]) for one in answer["data"]]
                self.assertTrue(all(file.startswith(sign) for file in files), name)
                self.assertEqual(len(set(files)), 3)
            _, answer = server.post("/v1/images/generations", {**body, "n": 2})
            pictures = [self.get(server, one["url"]) for one in answer["data"]]
            self.assertTrue(all(status == 200 and headers["Content-Type"] == "image/png" and data.startswith(signs["png"])
                                for status, headers, data in pictures))
            # The second picture is the first of the seed behind it, whatever was beside it.
            _, single = server.post("/v1/images/generations", {**body, "nvext": {**body["nvext"], "seed": 4}})
            self.assertEqual(self.get(server, single["data"][0]["url"])[2], pictures[1][2])

    def test_a_client_that_hangs_up_ends_its_job(self):
        with self.serving() as server:
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port)) as connection:
                connection.request("POST", "/v1/videos", json.dumps({"prompt": PROMPT, **ENDLESS, "response_format": "url"}),
                                   {"Content-Type": "application/json"})
                running = 'pixii_media_jobs{model="videos",status="in_progress"}'
                server.wait_for(lambda: server.metrics().get(running) == 1, 60, "a running job")
            server.wait_for(lambda: self.ended(server, "cancelled") == 1, 60, "a cancelled job")

    def test_a_shutdown_answers_who_waits_and_fails_what_runs(self):
        flags = ("--drain-timeout", "1s", "--media-output-fs-url", pathlib.Path(self.folder.name).as_uri())
        answers = []
        with self.serving(*flags) as server:
            waits = threading.Thread(target=lambda: answers.append(
                server.post("/v1/videos", {"prompt": PROMPT, **ENDLESS, "response_format": "url"})))
            waits.start()
            running = 'pixii_media_jobs{model="videos",status="in_progress"}'
            server.wait_for(lambda: server.metrics().get(running) == 1, 60, "a running job")
            self.assertEqual(server.stop(), 0)
            waits.join()
        self.assertEqual((answers[0][0], answers[0][1]["error"]["code"]), (503, "shutting_down"))
        with self.serving(*flags) as server:
            jobs = server.request("GET", "/v1/videos")[2]["data"]
            self.assertEqual([job["status"] for job in jobs], ["failed"])
            self.assertIn(jobs[0]["error"]["code"], ("server_stopped", "server_restarted"))

    def test_what_cannot_be_done_is_said(self):
        with self.serving("--media-queue", "1", "--media-concurrency", "1", "--media-pixels", "3000000") as server:
            for fields, param in ((({"size": "abc"}), "size"), ({"size": "0x0"}, "size"), ({"size": "99999x16"}, "size"),
                                  ({"size": "60x64"}, "size"), ({"num_frames": 6}, "num_frames"), ({"size": "1024x1024"}, "size"),
                                  ({"output_format": "gif"}, "output_format"), ({"input_reference": "x"}, "input_reference")):
                status, answer = server.post("/v1/videos", {"prompt": PROMPT, **SMALL, **fields})
                self.assertEqual((status, answer["error"]["param"]), (400, param), answer)
            status, answer = server.post("/v1/images/generations", {"prompt": PROMPT, "n": 11})
            self.assertEqual((status, answer["error"]["param"]), (400, "n"))
            for path in ("edits", "extensions", "characters", "video_1/remix"):
                status, answer = server.post(f"/v1/videos/{path}", {"prompt": PROMPT})
                self.assertEqual((status, answer["error"]["param"]), (400, path.split("/")[-1]))
            for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings"):
                status, answer = server.post(path, {"model": "videos", "prompt": "a", "input": "a",
                                                    "messages": [{"role": "user", "content": "a"}]})
                self.assertEqual(status, 400, answer)
                self.assertIn("makes videos", answer["error"]["message"])
            self.assertEqual(self.get(server, "/v1/videos/none/content?variant=thumbnail")[0], 400)
            # One runs and one waits: there is no room for a third.
            running = self.create(server, **ENDLESS)
            server.wait_for(lambda: self.job(server, running["id"])["status"] == "in_progress", 60, "a running job")
            waiting = self.create(server, **ENDLESS)
            status, answer = server.post("/v1/videos", {"prompt": PROMPT, **SMALL})
            self.assertEqual(status, 529, answer)
            for ident in (waiting["id"], running["id"]):
                self.assertEqual(server.request("DELETE", f"/v1/videos/{ident}")[0], 200)


@unittest.skipIf(MODEL is None, "neither models/tiny-video nor a golden model of videos is here")
class OpenAiClient(harness.NpmClientCase):
    """The official `openai` npm client, unmodified."""

    client = "openai"
    server_arguments = (MODEL, "--served-model-name", "videos", "--media-pixels", "67108864")

    def test_videos(self):
        self.run_case("videos")


if __name__ == "__main__":
    harness.main()
