"""What a server of videos does with formats, stores, quotas and hostile requests."""
import base64
import http.server
import json
import os
import pathlib
import shutil
import threading
import unittest
import urllib.request

import harness
import kv_tiers_test
import s3_stub
from video_harness import ENDLESS, LONG, MODEL, PROMPT, SMALL, VideoCase, avi_figures, mp4_figures, webm_figures

BUCKET = "films"


@unittest.skipIf(MODEL is None, "neither models/tiny-video nor a golden model of videos is here")
class VideoLimits(VideoCase, unittest.TestCase):
    def folder_flags(self):
        return ("--media-output-fs-url", pathlib.Path(self.folder.name).as_uri())

    @staticmethod
    def s3_flags(store):
        return ("--media-output-fs-url", f"s3://{BUCKET}/made/here", "--media-s3-endpoint", store.endpoint,
                "--media-s3-region", s3_stub.REGION, "--media-s3-access-key", s3_stub.ACCESS_KEY,
                "--media-s3-secret-key", s3_stub.SECRET_KEY)

    def begun(self, server, **fields):
        job = self.create(server, **{**ENDLESS, **fields})
        server.wait_for(lambda: self.job(server, job["id"])["status"] == "in_progress", 60, "a running job")
        return job

    def test_containers(self):
        readers = {"mp4": (mp4_figures, "video/mp4"), "webm": (webm_figures, "video/webm"),
                   "avi": (avi_figures, "video/x-msvideo")}
        with self.serving() as server:
            for name, (figures, kind) in readers.items():
                with self.subTest(name):
                    body = {"prompt": PROMPT, **SMALL, "fps": 8}
                    status, answer = server.post("/v1/videos", {**body, "output_format": name, "response_format": "b64_json"})
                    self.assertEqual(status, 200, answer)
                    self.assertEqual(answer["data"][0]["output_format"], name)
                    data = base64.b64decode(answer["data"][0]["b64_json"])
                    self.assertEqual(figures(data), (64, 64, 5, 8))
                    # As a job, the format alone does not ask for another answer.
                    job = self.completed(server, self.create(server, fps=8, format=name)["id"])
                    status, headers, again = self.get(server, f"/v1/videos/{job['id']}/content")
                    self.assertEqual((status, headers["Content-Type"], again), (200, kind, data))
                    # TensorRT-LLM's synchronous route answers with the file itself.
                    with self.open_post(server, "/v1/videos/sync", {**body, "format": name}) as response:
                        self.assertEqual(response.headers["Content-Type"], kind)
                        self.assertEqual(response.read(), data)
                        ident = response.headers["X-Video-Id"]
                    self.assertEqual(self.job(server, ident)["status"], "completed")
            status, answer = server.post("/v1/videos/sync", {"prompt": PROMPT, **SMALL, "response_format": "url"})
            self.assertEqual((status, answer["status"]), (200, "completed"), answer)
            status, answer = server.post("/v1/videos/generations", {"prompt": PROMPT, **SMALL})
            self.assertEqual((status, answer["object"], answer["progress"]), (200, "video", 100), answer)
            self.assertEqual(self.get(server, answer["data"][0]["url"])[0], 200)

    @staticmethod
    def open_post(server, path, body):
        return urllib.request.urlopen(urllib.request.Request(
            f"http://127.0.0.1:{server.port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}))

    def test_the_url_leads_to_the_bytes(self):
        folder = pathlib.Path(self.folder.name)

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *arguments):
                super().__init__(*arguments, directory=str(folder))

            def log_message(self, *arguments):
                pass

        web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=web.serve_forever, daemon=True).start()
        self.addCleanup(web.server_close)
        self.addCleanup(web.shutdown)
        flags = (*self.folder_flags(), "--media-output-http-url", f"http://127.0.0.1:{web.server_address[1]}/")
        with self.serving(*flags) as server:
            for path, body in (("/v1/videos", {"prompt": PROMPT, **SMALL}),
                               ("/v1/images/generations", {"prompt": PROMPT, "size": "64x64", "seed": 1,
                                                           "num_inference_steps": 2})):
                _, inline = server.post(path, {**body, "response_format": "b64_json"})
                _, named = server.post(path, {**body, "response_format": "url"})
                with urllib.request.urlopen(named["data"][0]["url"]) as response:
                    self.assertEqual(response.read(), base64.b64decode(inline["data"][0]["b64_json"]))

    def test_an_object_store_keeps_what_was_completed(self):
        with s3_stub.Store() as store:
            store.page = 2
            with self.serving(*self.s3_flags(store)) as server:
                done = self.completed(server, self.create(server)["id"])
                data = self.get(server, f"/v1/videos/{done['id']}/content")[2]
                mp4_figures(data)
                self.assertEqual(store.objects[(BUCKET, f"made/here/videos/{done['id']}.mp4")], data)
                status, answer = server.post("/v1/videos", {"prompt": PROMPT, **SMALL, "response_format": "url"})
                self.assertEqual(answer["data"][0]["url"], f"s3://{BUCKET}/made/here/videos/{answer['id']}.mp4")
                status, pictures = server.post("/v1/images/generations", {"prompt": PROMPT, "size": "64x64", "n": 2,
                                                                          "num_inference_steps": 2})
                self.assertEqual(status, 200, pictures)
                cut = self.begun(server)
                server.process.kill()
                server.process.wait()
                server.stop = lambda: 0  # it was killed, which is what is tested
                server.log.close()
            with self.serving(*self.s3_flags(store)) as server:
                self.assertEqual(self.job(server, done["id"]), done)
                self.assertEqual(self.get(server, f"/v1/videos/{done['id']}/content")[2], data)
                self.assertEqual(self.job(server, cut["id"])["error"]["code"], "server_restarted")
                server.request("DELETE", f"/v1/videos/{done['id']}")
                server.wait_for(lambda: not any(done["id"] in name for _, name in store.objects), 10, "a deleted object")
                # What cannot be kept is refused, or fails, and says so; the server goes on.
                job = self.begun(server, **LONG)
                store.status = 507
                status, answer = server.post("/v1/videos", {"prompt": PROMPT, **SMALL})
                self.assertEqual(status, 529, answer)
                server.wait_for(lambda: self.job(server, job["id"])["status"] == "failed", 120, "a failed job")
                self.assertEqual(self.job(server, job["id"])["error"]["code"], "storage_failed")
                store.status = None
                self.completed(server, self.create(server)["id"])
            store.status = 500
            refused = harness.run_pixii("serve", MODEL, "--port", "0", *self.s3_flags(store))
            self.assertNotEqual(refused.returncode, 0)
            self.assertIn("status 500", refused.stderr)

    def test_a_folder_that_goes_away_fails_jobs_and_not_the_server(self):
        with self.serving(*self.folder_flags()) as server:
            job = self.begun(server, **LONG)
            shutil.rmtree(pathlib.Path(self.folder.name) / "videos")
            server.wait_for(lambda: self.job(server, job["id"])["status"] == "failed", 120, "a failed job")
            self.assertEqual(self.job(server, job["id"])["error"]["code"], "storage_failed")
            status, answer = server.post("/v1/videos", {"prompt": PROMPT, **SMALL})
            self.assertEqual(status, 503, answer)
            self.assertNotIn(self.folder.name, answer["error"]["message"])
            self.assertIn("No such file", server.log_text())  # whoever runs it is told why
            os.mkdir(pathlib.Path(self.folder.name) / "videos")
            self.completed(server, self.create(server)["id"])

    def test_a_full_disk_fails_jobs_and_not_the_server(self):
        folder = pathlib.Path(self.folder.name) / "full"
        folder.mkdir()
        with kv_tiers_test.mounted(f"mount -t tmpfs -o size=24k none {folder}", folder):
            with self.serving("--media-output-fs-url", folder.as_uri()) as server:
                large = {"size": "128x128", "num_frames": 33, "num_inference_steps": 1, "output_format": "avi"}
                status, answer = server.post("/v1/videos", {"prompt": PROMPT, **SMALL, **large})
                self.assertEqual(status, 503, answer)
                self.assertIn("could not be kept", answer["error"]["message"])
                # Its id was never said: nobody could delete it.
                self.assertEqual(server.request("GET", "/v1/videos")[2]["data"], [])
                # What did not fit is not in the way of what does.
                done = self.completed(server, self.create(server)["id"])
                mp4_figures(self.get(server, f"/v1/videos/{done['id']}/content")[2])

    def test_what_has_had_its_time_goes(self):
        with self.serving(*self.folder_flags(), "--media-time", "1s") as server:
            job = self.create(server)
            server.wait_for(lambda: self.job(server, job["id"]) is None, 60, "an expired job")
            server.wait_for(lambda: not [name for name in os.listdir(pathlib.Path(self.folder.name) / "videos")
                                         if name.startswith(job["id"])], 10, "its files")

    def test_files_of_others_in_the_folder_stay(self):
        videos = pathlib.Path(self.folder.name) / "videos"
        videos.mkdir()
        (videos / "holiday.mp4").write_bytes(b"precious")
        (videos / "video_1.json").write_text("{}")
        with self.serving(*self.folder_flags()) as server:
            self.completed(server, self.create(server)["id"])
        self.assertEqual((videos / "holiday.mp4").read_bytes(), b"precious")
        self.assertEqual((videos / "video_1.json").read_text(), "{}")

    def test_a_folder_whose_name_needs_escapes(self):
        folder = pathlib.Path(self.folder.name) / "made here, 100 %"
        with self.serving("--media-output-fs-url", folder.as_uri()) as server:
            status, answer = server.post("/v1/videos", {"prompt": PROMPT, **SMALL, "response_format": "url"})
            self.assertEqual(status, 200, answer)
            url = answer["data"][0]["url"]
            self.assertEqual(url, (folder / f"videos/{answer['id']}.mp4").as_uri())
            self.assertEqual(mp4_figures(urllib.request.urlopen(url).read())[:3], (64, 64, 5))
        for flags, name in ((("--media-output-fs-url", "file:///tmp/100%"), "media-output-fs-url"),
                            (("--media-output-fs-url", "file:///dev/null"), "media-output-fs-url"),
                            ((*self.folder_flags(), "--media-output-http-url", "javascript:alert(1)"), "media-output-http-url")):
            refused = harness.run_pixii("serve", MODEL, "--port", "0", *flags)
            self.assertNotEqual(refused.returncode, 0)
            self.assertIn(name, refused.stderr)

    def test_a_full_store_says_so_and_pictures_make_room(self):
        one = {"prompt": PROMPT, "size": "64x64", "num_inference_steps": 1}
        with self.serving("--media-store-size", "1") as server:
            status, answer = server.post("/v1/images/generations", one)
            self.assertEqual(status, 529, answer)
            self.assertIn("there is room for 1", answer["error"]["message"])
        with self.serving("--media-store-size", "20000") as server:
            made = []
            while (answer := server.post("/v1/images/generations", {**one, "n": 2}))[0] == 200:
                made.append(answer[1]["data"][1]["url"])
            self.assertEqual(answer[0], 529, answer)
            first = made[0].split("/content")[0]
            status, _, answer = server.request("GET", first + "/content?index=2")
            self.assertEqual((status, answer["error"]["param"]), (404, "index"), answer)
            status, _, answer = server.request("DELETE", first)
            self.assertEqual((status, answer["object"], answer["deleted"]), (200, "image.deleted", True), answer)
            self.assertEqual(server.request("GET", made[0])[0], 404)
            self.assertEqual(server.request("DELETE", first)[0], 404)
            self.assertEqual(server.post("/v1/images/generations", {**one, "n": 2})[0], 200)

    def test_a_tenant_has_its_own_quota(self):
        keys = pathlib.Path(self.folder.name) / "keys.json"
        keys.write_text(json.dumps({"keys": [{"key": "key-of-ann", "tenant": "ann"}, {"key": "key-of-bob", "tenant": "bob"}]}))

        def ask(server, key, method, path, body=None):
            return server.request(method, path, body, headers={"Authorization": f"Bearer {key}"})
        with self.serving("--api-key-file", str(keys), "--media-tenant-jobs", "1", "--media-tenant-size", "1") as server:
            endless = {"prompt": PROMPT, **ENDLESS}
            status, _, job = ask(server, "key-of-ann", "POST", "/v1/videos", endless)
            self.assertEqual(status, 200, job)
            status, _, answer = ask(server, "key-of-ann", "POST", "/v1/videos", endless)
            self.assertEqual(status, 429, answer)
            # Nobody sees or ends what others have.
            for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/content")):
                self.assertEqual(ask(server, "key-of-bob", method, f"/v1/videos/{job['id']}{path}")[0], 404)
            self.assertEqual(ask(server, "key-of-bob", "GET", "/v1/videos")[2]["data"], [])
            self.assertEqual(server.request("GET", f"/v1/videos/{job['id']}")[0], 401)
            status, _, small = ask(server, "key-of-bob", "POST", "/v1/videos", {"prompt": PROMPT, **SMALL})
            self.assertEqual(status, 200, small)

            def ended():
                found = ask(server, "key-of-bob", "GET", f"/v1/videos/{small['id']}")[2]
                return found if found["status"] == "failed" else None
            server.wait_for(ended, 120, "a failed job")
            self.assertEqual(ended()["error"]["code"], "quota_exceeded")
            status, _, answer = ask(server, "key-of-bob", "POST", "/v1/videos/sync", {"prompt": PROMPT, **SMALL})
            self.assertEqual(status, 429, answer)
            self.assertEqual(ask(server, "key-of-ann", "DELETE", f"/v1/videos/{job['id']}")[0], 200)
            self.assertEqual(ask(server, "key-of-ann", "POST", "/v1/videos", endless)[0], 200)

    def test_cancels_in_every_state(self):
        with self.serving("--media-concurrency", "1") as server:
            def delete(ident):
                return server.request("DELETE", f"/v1/videos/{ident}")[0]
            running = self.begun(server)
            queued = self.create(server, **LONG)
            self.assertEqual(self.job(server, queued["id"])["status"], "queued")
            # Its bytes are not there before it is done, and asking does no harm.
            for job in (running, queued):
                status, _, answer = server.request("GET", f"/v1/videos/{job['id']}/content")
                self.assertEqual((status, answer["error"]["param"]), (404, "video_id"))
            # Two deletes at once: one finds it, whoever comes first.
            for job in (queued, running):
                answers = []
                both = [threading.Thread(target=lambda ident=job["id"]: answers.append(delete(ident))) for _ in range(2)]
                for one in both:
                    one.start()
                for one in both:
                    one.join()
                self.assertEqual(sorted(answers), [200, 404])
            done = self.completed(server, self.create(server)["id"])
            self.assertEqual((delete(done["id"]), delete(done["id"])), (200, 404))
            self.assertEqual((delete("video_none"), delete("%00"), delete("..%2f..%2fetc")), (404, 404, 404))
            self.assertEqual(self.ended(server, "cancelled"), 2)
            # Deleted at any moment of its short life, it is gone and nothing is left of it.
            for _ in range(30):
                self.assertEqual(delete(self.create(server, num_inference_steps=1)["id"]), 200)
            self.completed(server, self.create(server)["id"])
            self.assertEqual(len(self.of_each(server, "id")), 1)
            metrics = server.metrics()
            self.assertEqual([metrics[f'pixii_media_jobs{{model="videos",status="{state}"}}'] for state in ("queued", "in_progress")],
                             [0, 0])

    def test_hostile_requests(self):
        nested = "[" * 2000 + "]" * 2000
        huge = 10 ** 400
        bad = [("size", value) for value in ("", "x", "64x", "x64", "64X64", "-64x64", "64x64 ", "1e2x64", "4294967296x64",
                                             "64x" + "9" * 1000, 64, [64, 64], {}, True)]
        bad += [("num_frames", value) for value in (0, -1, 4, 4097, huge, 1.5, "five", [], True)]
        bad += [("seconds", value) for value in (0, -4, "4s", "", "nan", "inf", huge, [], True)]
        bad += [("fps", value) for value in (0, 241, -1, "x", huge, {})]
        bad += [("num_inference_steps", value) for value in (0, 1001, -1, 2.5, "x", huge)]
        bad += [("guidance_scale", value) for value in (-1, 101, "x", huge)]
        bad += [("seed", value) for value in (-1, 2 ** 64, 0.5, "x")]
        bad += [("output_format", value) for value in ("gif", "mp4/../x", "", 4, ["mp4"])]
        bad += [("response_format", value) for value in ("file", "", 1, {})]
        bad += [("prompt", value) for value in ("", 5, [], "a" * 32_001)]
        bad += [("nvext", value) for value in (1, [], {"what": 1}, {"fps": -1}, {"annotations": ["x"]}, {"boundary_ratio": 0.5})]
        bad += [("stream", True), ("input_reference", "file:///etc/passwd"), ("extra_args", {"a": 1}), ("model", "other")]
        with self.serving("--body-limit", "1MiB") as server:
            for field, value in bad:
                with self.subTest(field=field, value=str(value)[:40]):
                    status, answer = server.post("/v1/videos", {"prompt": PROMPT, **SMALL, field: value})
                    self.assertIn(status, (400, 404), answer)
                    self.assertEqual(answer["error"]["param"].split(".")[0], field, answer)
            for value in (0, -1, 11, huge, "many", 1.5, []):
                status, answer = server.post("/v1/images/generations", {"prompt": PROMPT, "n": value})
                self.assertEqual((status, answer["error"]["param"]), (400, "n"), answer)
            for body in ("", "{", "[]", "null", nested, '{"prompt": "a", "prompt": "b"', '{"prompt": "\\ud800"}', b"\xff\xfe"):
                status, _, answer = server.request("POST", "/v1/videos", body)
                self.assertEqual(status, 400, (body[:20], answer))
            self.assertEqual(server.post("/v1/videos", {"prompt": "a" * (2 << 20)})[0], 413)
            form = {"Content-Type": "multipart/form-data; boundary=x"}
            for body in ("", "--x", "--x\r\n\r\n", "--x--\r\n", '--x\r\nContent-Disposition: form-data; name="nvext"\r\n\r\n{\r\n--x--\r\n',
                         '--x\r\nContent-Disposition: form-data; name="input_reference"; filename="a.png"\r\n\r\nx\r\n--x--\r\n'):
                self.assertEqual(server.request("POST", "/v1/videos", body, headers=form)[0], 400, body)
            for path in ("/v1/images/edits", "/v1/images/variations", "/v1/videos/generations/stream"):
                status, answer = server.post(path, {"prompt": PROMPT})
                self.assertEqual((status, answer["error"]["param"]), (400, path.split("/")[-1]))
            # None of them made a job, and the next one is made.
            self.assertEqual(self.of_each(server, "id"), {})
            self.completed(server, self.create(server, prompt="\u0000\u202e \U0001f3ac" * 1000)["id"])

    def test_a_pipeline_of_another_class_is_refused_at_the_start(self):
        folder = pathlib.Path(self.folder.name) / "other"
        shutil.copytree(MODEL, folder)
        index = folder / "model_index.json"
        index.write_text(json.dumps({**json.loads(index.read_text()), "_class_name": "LTXPipeline"}))
        refused = harness.run_pixii("serve", str(folder), "--port", "0")
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("LTXPipeline", refused.stderr)
        self.assertIn("WanPipeline", refused.stderr)

    def test_the_command_writes_each_container(self):
        for name, figures in (("mp4", mp4_figures), ("webm", webm_figures), ("avi", avi_figures)):
            path = pathlib.Path(self.folder.name) / f"clip.{name}"
            done = harness.run_pixii("video", PROMPT, "--model", MODEL, "--out", str(path), "--size", "64x64", "--frames", "5",
                                     "--steps", "2", "--fps", "12.5")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(figures(path.read_bytes()), (64, 64, 5, 12.5))


if __name__ == "__main__":
    harness.main()
