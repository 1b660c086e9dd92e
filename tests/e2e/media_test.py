"""`pixii media`: images decoded in a process of their own, by what it prints and writes."""
import contextlib
import hashlib
import json
import os
import pathlib
import signal
import struct
import subprocess
import tempfile
import unittest
import zlib

import harness

IMAGES = harness.DATA / "images"
OWN = harness.ROOT / "tests/golden/media"
KINDS = {"truncated": "image is truncated: ", "corrupt": "image is corrupt: ", "too_large": "image is too large: ",
         "empty": "image is empty: ", "unsupported": "image is of an unsupported kind: "}


def png(width, height, bits=1, colour=0):
    """A black image; small, whatever its size."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    channels = {0: 1, 2: 3}[colour]
    packer = zlib.compressobj(9)
    row = bytes(1 + (width * bits * channels + 7) // 8)
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)) +
            chunk(b"IDAT", pixels) + chunk(b"IEND", b""))


def children(pid):
    """Processes that `pid` started."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue  # it ended
            if int(stat[stat.rindex(")") + 2:].split()[1]) == pid:
                found.append(int(entry.name))
    return found


def status_of(pid):
    """Lines of /proc/PID/status, by name; empty once it has ended."""
    try:
        text = pathlib.Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return {}
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


class Media(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.raw = self.folder / "out.rgb"

    def media(self, path, *flags):
        return harness.run_pixii("media", str(path), *flags)

    def decode(self, path, *flags):
        """(what was printed, SHA-256 of what was written)"""
        out = self.media(path, "--raw", str(self.raw), *flags)
        self.assertEqual(out.returncode, 0, out.stderr)
        said = json.loads(out.stdout)
        raw = self.raw.read_bytes()
        self.assertEqual(len(raw), said["width"] * said["height"] * 3)
        return said, hashlib.sha256(raw).hexdigest()

    def write(self, name, data):
        path = self.folder / name
        path.write_bytes(data)
        return path

    def refuse(self, path, *flags):
        out = self.media(path, "--raw", str(self.raw), *flags)
        self.assertEqual(out.returncode, 2, out.stdout)
        self.assertEqual(out.stdout, "")
        self.assertFalse(self.raw.exists())
        return out.stderr.removeprefix("pixii: ").strip()

    def test_shared_images_come_out_as_pillow_reads_them(self):
        if not (IMAGES / "golden.json").exists():
            self.skipTest("no shared images here")
        for file in json.loads((IMAGES / "golden.json").read_text())["files"]:
            path = IMAGES / file["file"]
            with self.subTest(file["file"]):
                if file["expected"] == "error":
                    self.assertTrue(self.refuse(path).startswith(KINDS[file["error_kind"]]))
                    continue
                for flags, golden in [([], "decoded_rgb"), (["--alpha", "white"], "over_white_rgb"),
                                      (["--deep-grey", "high"], "high_byte_rgb"), (["--exif"], "exif_transposed_rgb")]:
                    if golden in file:
                        said, digest = self.decode(path, *flags)
                        self.assertEqual(([said["width"], said["height"]], digest),
                                         (file[golden]["size"], file[golden]["sha256"]))
                        self.assertEqual((said["format"].upper(), said["frames"]), (file["format"], file["frames"]))
                for resized in file["resized"][::4]:
                    size = "{}x{}".format(*resized["size"])
                    said, digest = self.decode(path, "--resize", size, "--filter", resized["filter"].lower())
                    self.assertEqual((f"{said['width']}x{said['height']}", digest), (size, resized["sha256"]))
                self.raw.unlink()

    def test_own_images_keep_their_pixels(self):
        said, digest = self.decode(OWN / "turned_6.jpg", "--exif")
        self.assertEqual(said, {"width": 64, "height": 96, "format": "jpeg", "frames": 1, "stored_width": 96,
                                "stored_height": 64, "orientation": 6})
        self.assertTrue(digest.startswith("5fcb73315251"), digest)
        self.assertEqual(self.decode(OWN / "moving.gif")[0]["frames"], 3)

    def test_the_format_is_told_by_content(self):
        self.assertTrue(self.refuse(self.write("x.png", b"no image at all")).startswith(KINDS["unsupported"]))
        named_wrongly = self.write("x.gif", (OWN / "turned_6.jpg").read_bytes())
        self.assertEqual(self.decode(named_wrongly)[0]["format"], "jpeg")

    def test_limits_name_what_is_past_them(self):
        small = self.write("small.png", png(300, 20))
        for flags, words in [(["--side-max", "299"], "width 300 pixels, above the limit side_max of 299"),
                             (["--pixels-max", "5999"], "6000 pixels, above the limit pixels_max of 5999"),
                             (["--resize", "0x5"], "0x5"), (["--resize", "12"], '--resize "12"'),
                             (["--bytes-max", "20"], "20")]:
            self.assertIn(words, self.refuse(small, *flags))
        self.assertIn("frames_max of 2", self.refuse(OWN / "moving.gif", "--frames-max", "2"))

    def test_a_bomb_dies_of_its_memory_not_of_ours(self):
        bomb = self.write("bomb.png", png(8000, 8000))
        self.assertIn("image is too large", self.refuse(bomb, "--memory-max", "64MiB"))
        said, _ = self.decode(bomb, "--resize", "8x8")  # and with more it is an image
        self.assertEqual(said["stored_width"], 8000)

    def test_decoding_ends_in_time(self):
        self.assertIn("time_max", self.refuse(self.write("slow.png", png(8000, 8000)), "--time-max", "1ms"))

    def start(self, path):
        """`pixii media`, and its child as long as that decodes; a child that was too fast for us is None."""
        process = subprocess.Popen([harness.BINARY, "media", str(path), "--raw", str(self.raw)],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.kill)
        while process.poll() is None:
            for child in children(process.pid):
                if status_of(child).get("Seccomp", "").strip() == "2":
                    return process, child
        return process, None

    def until_seen(self, path, look):
        """Starts processes until look(process, child) has seen what it wants of a child at work."""
        for _ in range(50):
            process, child = self.start(path)
            done = child is not None and look(process, child)
            out, err = process.communicate()
            if done:
                return process.returncode, out, err
        self.fail("no child was ever seen at work")

    def kill_all_at_work(self, path):
        """Kills each child of one `pixii media` that decodes: (code, output, errors, how many)."""
        process = subprocess.Popen([harness.BINARY, "media", str(path), "--raw", str(self.raw)],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.kill)
        killed = set()
        while process.poll() is None:
            for child in set(children(process.pid)) - killed:
                if status_of(child).get("Seccomp", "").strip() == "2":
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(child, signal.SIGKILL)
                        killed.add(child)
        out, err = process.communicate()
        return process.returncode, out, err, len(killed)

    def test_a_child_that_is_killed_is_tried_afresh_once_and_leaves_nothing(self):
        slow = self.write("slow.png", png(8000, 8000))
        for _ in range(50):
            code, out, err, killed = self.kill_all_at_work(slow)
            if code != 0:  # else one had answered already
                break
            self.raw.unlink()
        self.assertEqual((code, out, killed), (2, "", 2))
        self.assertIn("the decoder of the image ended with status 137 before it answered", err)
        self.assertFalse(self.raw.exists())

    def test_the_child_is_shut_in(self):
        slow = self.write("slow.png", png(8000, 8000))
        seen = {}
        def look(process, child):
            seen.update(status_of(child))
            if os.geteuid() != 0:
                return "NoNewPrivs" in seen  # nobody else may look into it, not even who started it
            try:
                seen["fds"] = sorted(os.listdir(f"/proc/{child}/fd"))
                seen["environment"] = pathlib.Path(f"/proc/{child}/environ").read_bytes()
                seen["limits"] = pathlib.Path(f"/proc/{child}/limits").read_text()
            except OSError:
                return False  # it ended, or we may not look
            return "NoNewPrivs" in seen
        code, _, err = self.until_seen(slow, look)
        self.assertEqual(code, 0, err)
        self.assertEqual((seen["NoNewPrivs"].strip(), seen["Seccomp"].strip(), seen["Threads"].strip()), ("1", "2", "1"))
        if "limits" not in seen:
            return
        self.assertLessEqual(set(seen["fds"]), {"0", "1", "2", "3"})  # 3: the memory that it maps
        self.assertEqual(seen["environment"], b"")
        for line in seen["limits"].splitlines():
            if line.startswith(("Max core file size", "Max file size")):
                self.assertEqual(line.split()[-3:-1], ["0", "0"])
            if line.startswith("Max address space"):
                self.assertNotIn("unlimited", line)

    def test_frames_of_a_video_are_written_and_told_of(self):
        expected = json.loads((OWN / "film/expected.json").read_text())["vp9.webm"]
        raw, size = self.folder / "frames.rgb", 64 * 48 * 3
        done = subprocess.run([harness.BINARY, "media", OWN / "film/vp9.webm", "--frames", "5", "--raw", raw],
                              stdout=subprocess.PIPE, check=True)
        said = json.loads(done.stdout)
        self.assertEqual({key: said[key] for key in ("width", "height", "format", "codec", "frames", "seconds", "taken")},
                         {"width": 64, "height": 48, "format": "webm", "codec": "vp9", "frames": 20, "seconds": 2.0, "taken": [0, 4, 8, 12, 16]})
        data = raw.read_bytes()
        self.assertEqual([hashlib.sha256(data[at:at + size]).hexdigest() for at in range(0, len(data), size)],
                         [expected["sha256"][frame] for frame in said["taken"]])
        done = subprocess.run([harness.BINARY, "media", OWN / "film/vp9.webm", "--fps", "4", "--resize", "28x28"],
                              stdout=subprocess.PIPE, check=True)
        self.assertEqual(len(json.loads(done.stdout)["taken"]), 8)
        refused = subprocess.run([harness.BINARY, "media", OWN / "film/hevc.mp4"], stderr=subprocess.PIPE, text=True)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("video is of an unsupported kind: its codec is HEVC", refused.stderr)


if __name__ == "__main__":
    harness.main()
