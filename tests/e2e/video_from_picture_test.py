"""A served model whose videos begin with a picture that requests bring, and a served FLUX."""
import base64
import contextlib
import json
import pathlib
import tempfile
import unittest

import diffusion_files
import harness

FOLDER = harness.ROOT / "tests/golden/diffusion"
SMALL = {"prompt": "a red circle", "size": "32x32", "num_frames": 5, "num_inference_steps": 2, "seed": 7}


def data_url(content):
    return "data:image/bmp;base64," + base64.b64encode(content).decode()


class FromPicture(unittest.TestCase):
    def video(self, server, expected=200, **fields):
        """The answer with the file."""
        status, answer = server.post("/v1/videos", {**SMALL, "response_format": "b64_json", **fields})
        self.assertEqual(status, expected, answer)
        return base64.b64decode(answer["data"][0]["b64_json"]) if status == 200 else answer["error"]

    def test_a_video_begins_with_the_picture_that_its_request_brings(self):
        red, blue = diffusion_files.bmp((230, 20, 20)), diffusion_files.bmp((20, 20, 230))
        with tempfile.TemporaryDirectory() as pictures:
            (pathlib.Path(pictures) / "red.bmp").write_bytes(red)
            with harness.Server(str(FOLDER / "wan-i2v"), "--served-model-name", "videos", "--media-folder", pictures) as server:
                first = self.video(server, input_reference=data_url(red))
                self.assertEqual(first[4:8], b"ftyp")
                self.assertEqual(self.video(server, input_reference=f"file://{pictures}/red.bmp"), first)
                self.assertNotEqual(self.video(server, input_reference=data_url(blue)), first)
                for wrong in (None, "https://example.org/a.png", 7):
                    fields = {} if wrong is None else {"input_reference": wrong}
                    self.assertEqual(self.video(server, 400, **fields)["param"], "input_reference")
                # What is no picture is seen when it is decoded.
                strip = diffusion_files.bmp((1, 2, 3), 1, 3000)  # too long once its short side is the encoder's
                for wrong in (data_url(b"BM, but no picture"), "file:///etc/passwd", data_url(strip)):
                    error = self.video(server, 400, input_reference=wrong)
                    self.assertEqual(error["param"], "input_reference")
                    self.assertIn("input_reference", error["message"])
                self.assertEqual(self.upload(server, red), first)

    def upload(self, server, content):
        """As OpenAI's clients send it; a job."""
        edge = "edge-of-the-parts"
        parts = [f'--{edge}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
                 for name, value in SMALL.items()]
        parts.append(f'--{edge}\r\nContent-Disposition: form-data; name="input_reference"; filename="a.bmp"\r\n'
                     "Content-Type: image/bmp\r\n\r\n".encode() + content + b"\r\n")
        with contextlib.closing(server.connection()) as connection:
            connection.request("POST", "/v1/videos", b"".join(parts) + f"--{edge}--\r\n".encode(),
                               {"Content-Type": f"multipart/form-data; boundary={edge}"})
            response = connection.getresponse()
            job = json.loads(response.read())
            self.assertEqual(response.status, 200, job)
            ident = job["id"]

        def status():
            return server.request("GET", f"/v1/videos/{ident}")[2]["status"]

        server.wait_for(lambda: status() in ("completed", "failed"), 60, "the end of a job")
        self.assertEqual(status(), "completed")
        with contextlib.closing(server.connection()) as connection:
            connection.request("GET", f"/v1/videos/{ident}/content")
            return connection.getresponse().read()


class Flux(unittest.TestCase):
    def test_pictures_of_a_request_differ_and_repeat(self):
        with tempfile.TemporaryDirectory() as folder:
            adapter = pathlib.Path(folder) / "a.safetensors"
            adapter.write_bytes(diffusion_files.adapter("transformer.proj_out", 16, 24))
            plain = self.pictures()
            self.assertEqual(len(set(plain)), 3)
            self.assertEqual(self.pictures(), plain)
            self.assertEqual(self.pictures("--media-lora", f"{adapter}=0"), plain)
            self.assertNotEqual(self.pictures("--media-lora", str(adapter)), plain)

    def pictures(self, *flags):
        with harness.Server(str(FOLDER / "flux"), "--served-model-name", "pictures", *flags) as server:
            body = {"prompt": "a red circle", "size": "32x32", "n": 3, "num_inference_steps": 2, "seed": 1,
                    "response_format": "b64_json"}
            status, answer = server.post("/v1/images/generations", body)
            self.assertEqual(status, 200, answer)
            out = [base64.b64decode(one["b64_json"]) for one in answer["data"]]
            for picture in out:
                self.assertEqual(picture[:8], b"\x89PNG\r\n\x1a\n")
            if not flags:
                status, answer = server.post("/v1/videos", {**SMALL, "response_format": "b64_json"})
                self.assertEqual(status, 400, answer)
                self.assertEqual(answer["error"]["param"], "num_frames")
                status, answer = server.post("/v1/images/generations", {**body, "negative_prompt": "blurry"})
                self.assertEqual((status, answer["error"]["param"]), (400, "negative_prompt"))
            return out


if __name__ == "__main__":
    harness.main()
