"""Questions about videos: the bundled model answers as about pictures, the same wherever it is asked; hostile files are refused by field."""
import base64
import json
import pathlib
import struct
import sys
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor

import harness

sys.path.insert(0, str(harness.ROOT / "models/tiny-vlm/train"))
import conversations  # noqa: E402  (of the model's own folder)
import draw  # noqa: E402

CHAT = "/v1/chat/completions"
FLAGS = ("--threads", "1", "--max-batch", "8", "--kv-memory", "64MiB")
FILMS = harness.ROOT / "tests/golden/media/film"
SHAPES = json.loads((FILMS / "shapes.json").read_text())
AT = "messages[0].content[0].video_url.url"


def data_url(kind, data):
    return f"data:{kind};base64," + base64.b64encode(data).decode()


def gif(width, height, frames, hundredths):
    """An animation of RGB frames of at most 128 colours together, without compression."""
    colours = sorted({frame[i:i + 3] for frame in frames for i in range(0, len(frame), 3)})
    assert len(colours) <= 128
    index = {colour: i for i, colour in enumerate(colours)}
    out = b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF6, 0, 0) + b"".join(colours).ljust(3 * 128, b"\0")
    for frame in frames:
        out += b"\x21\xf9\x04\x00" + struct.pack("<H", hundredths) + b"\0\0\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x07"
        # Codes of 8 bits: 128 says that the table begins anew, before it grows.
        codes = bytearray()
        for at in range(0, width * height, 120):
            codes.append(128)
            codes += bytes(index[frame[3 * i:3 * i + 3]] for i in range(at, min(at + 120, width * height)))
        codes.append(129)
        out += b"".join(bytes([len(codes[at:at + 255])]) + codes[at:at + 255] for at in range(0, len(codes), 255)) + b"\0"
    return out + b"\x3b"


def few_colours(rgb):
    """Five levels of a channel, 125 colours."""
    return bytes(min(255, (value + 32) // 64 * 64) for value in rgb)


def plain(colour, count=2):
    return gif(112, 112, [bytes(colour) * (112 * 112)] * count, 50)


def video(url, *texts):
    return [{"role": "user", "content": [{"type": "video_url", "video_url": {"url": url}}, *({"type": "text", "text": text} for text in texts)]}]


def body(messages, **more):
    return {"model": "tiny-vlm", "messages": messages, "temperature": 0, "max_tokens": 48, **more}


class Films(unittest.TestCase):
    def ask(self, server, messages, **more):
        status, answer = server.post(CHAT, body(messages, logprobs=True, top_logprobs=2, **more))
        self.assertEqual(status, 200, answer)
        choice = answer["choices"][0]
        return choice["message"]["content"], [(t["token"], t["logprob"]) for t in choice["logprobs"]["content"]]

    def shapes(self, server):
        def one(entry):
            return self.ask(server, video(data_url("video/mp4", (FILMS / entry["file"]).read_bytes()), entry["question"]))

        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(one, SHAPES))

    def test_answers_are_right_and_the_same_in_every_topology(self):
        with harness.Server("tiny-vlm", *FLAGS) as server:
            alone = self.shapes(server)
            self.assertEqual(self.shapes(server), alone, "what was seen before changes nothing")
        for entry, (text, _) in zip(SHAPES, alone):
            if entry["frames"] <= 3:  # two are taken, one row of patches; the model was not trained on more
                self.assertEqual(text, entry["expect"], entry)
        for flags in (("--workers", "2"), ("--prefill", "1", "--decode", "1")):
            with self.subTest(flags=flags), harness.Server("tiny-vlm", *FLAGS, *flags) as server:
                self.assertEqual(self.shapes(server), alone)

    def test_a_video_of_one_picture_is_that_picture(self):
        with harness.Server("tiny-vlm", *FLAGS) as server:
            for task in ("describe", "colour", "read digits"):
                scene = conversations.cases(task, 1, 5)[0]["messages"][0]["content"]
                scene = next(part["scene"] for part in scene if part["type"] == "image")
                rgb = few_colours(draw.draw(scene.width, scene.height, scene.back_colour, scene.items))
                question = {"type": "text", "text": "What do you see?"}
                png = data_url("image/png", draw.png(scene.width, scene.height, rgb))
                picture = self.ask(server, [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": png}}, question]}])
                film = gif(scene.width, scene.height, [rgb] * 2, 50)
                self.assertEqual(self.ask(server, video(data_url("image/gif", film), question["text"])), picture, task)

    def test_equal_videos_meet_in_the_cache_and_others_never(self):
        with harness.Server("tiny-vlm", *FLAGS) as server:
            def cached(file):
                status, answer = server.post(CHAT, body(video(data_url("video/mp4", file), "What?"), max_tokens=1))
                self.assertEqual(status, 200, answer)
                return answer["usage"]["prompt_tokens_details"]["cached_tokens"], answer["usage"]["prompt_tokens"]

            red = plain((192, 0, 0), 4)
            first, tokens = cached(red)
            self.assertEqual(first, 0)
            self.assertGreater(cached(red)[0], 0)
            # The same frames for longer are another video: they lie further apart in time.
            slow = gif(112, 112, [bytes((192, 0, 0)) * (112 * 112)] * 4, 100)
            self.assertEqual(cached(slow)[0], 0)
            frames = [bytes((192, 0, 0)) * (112 * 112)] * 3 + [bytes((192, 0, 0)) * (112 * 112 - 1) + bytes((192, 0, 64))]
            self.assertEqual(cached(gif(112, 112, frames, 50)), (0, tokens), "one bit of one pixel of the last frame")
            self.assertLess(cached(plain((192, 0, 0), 2))[1], tokens, "half of the frames")

    def test_the_order_of_text_pictures_and_videos_is_kept(self):
        colours = {"red": (192, 0, 0), "blue": (0, 0, 192)}
        film = {name: {"type": "video_url", "video_url": data_url("image/gif", plain(colour))} for name, colour in colours.items()}
        picture = {name: {"type": "image_url", "image_url": data_url("image/png", draw.png(112, 112, bytes(colour) * (112 * 112)))}
                   for name, colour in colours.items()}
        text = {"type": "text", "text": "What is the background of the second picture?"}
        with harness.Server("tiny-vlm", *FLAGS) as server:
            pictures = {(a, b): self.ask(server, [{"role": "user", "content": [picture[a], picture[b], text]}])
                        for a, b in (("red", "blue"), ("blue", "red"))}
            self.assertNotEqual(*pictures.values())
            for (first, second), expected in pictures.items():
                # Rows of a still video are the picture's: only their order could differ.
                for content in ([film[first], picture[second], text], [picture[first], film[second], text], [film[first], film[second], text]):
                    self.assertEqual(self.ask(server, [{"role": "user", "content": content}]), expected)

    def test_what_cannot_be_shown_is_refused_by_field(self):
        vp9 = (FILMS / "shapes_0_vp9.mp4").read_bytes()
        at = vp9.index(b"stsz") + 12
        many = vp9[:at] + struct.pack(">I", 10**9) + vp9[at + 4:]
        jpeg = base64.b64encode(b"\xff\xd8\xff\xe0").decode()
        cases = (("data:,", "its data are not in base64"),
                 (data_url("video/mp4", b"text"), "its first bytes are not those of MP4, WebM, AVI or GIF"),
                 (data_url("video/mp4", (FILMS / "hevc.mp4").read_bytes()), "its codec is HEVC"),
                 (data_url("video/webm", (FILMS / "av1.mkv").read_bytes()), "its codec is AV1"),
                 (data_url("video/mp4", vp9[:-40]), "video is truncated"),
                 (data_url("video/mp4", many), "it has 1000000000 frames, above the limit frames_max of 20000"),
                 ("data:video/jpeg;base64," + ",".join([jpeg] * 10000), "of its data is not base64"),
                 ("file:///etc/passwd", "no folder that files may come from"), ("http://127.0.0.1/a.mp4", None))
        with harness.Server("tiny-vlm", *FLAGS) as server:
            for url, why in cases:
                with self.subTest(url=url[:40], why=why):
                    status, answer = server.post(CHAT, body(video(url)))
                    self.assertEqual((status, answer["error"]["param"]), (400, AT), answer)
                    if why:
                        self.assertIn(why, answer["error"]["message"])
            status, answer = server.post(CHAT, body([{"role": "user", "content": [
                {"type": "video_url", "video_url": {"url": data_url("image/gif", plain((0, 0, 0)))}}] * 17}]))
            self.assertEqual((status, answer["error"]["param"]), (400, "messages[0].content[16]"), answer)
            self.assertIn("at most 16 videos", answer["error"]["message"])
            status, answer = server.post(CHAT, body(video(data_url("video/mp4", vp9), "What is it?")))
            self.assertEqual(status, 200, answer)
        with harness.Server("tiny-chat", *FLAGS) as server:
            status, answer = server.post(CHAT, {**body(video(data_url("video/mp4", vp9))), "model": "tiny-chat"})
            self.assertEqual((status // 100, answer["error"]["param"]), (4, AT), answer)

    def test_files_come_from_the_allowed_folder(self):
        with tempfile.TemporaryDirectory() as name:
            (pathlib.Path(name) / "film.mp4").write_bytes((FILMS / SHAPES[0]["file"]).read_bytes())
            with harness.Server("tiny-vlm", *FLAGS, "--media-folder", name) as server:
                text, _ = self.ask(server, video(f"file://{name}/film.mp4", SHAPES[0]["question"]))
                self.assertEqual(text, SHAPES[0]["expect"])


if __name__ == "__main__":
    harness.main()
