"""`pixii video`, `pixii image` and `pixii check` of diffusers folders: the file that comes out is read back by a reader of its own."""
import pathlib
import shutil
import struct
import tempfile
import unittest

import diffusion_files
import harness

GOLDENS = [harness.GOLDEN / "models" / name for name in ("wan-unipc", "wan-euler")]
HOLDERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf"}
SIZE, FRAMES, STEPS, FPS = (48, 32), 9, 2, 12


def boxes(data, begin=0, end=None):
    """[(type, content or list of boxes)] of an MP4 file."""
    out, end = [], len(data) if end is None else end
    while begin < end:
        size, kind = struct.unpack_from(">I4s", data, begin)
        if size < 8 or begin + size > end:
            raise ValueError(f"box {kind} of {size} bytes at {begin}")
        inside = {b"stsd": 16, b"dref": 16, b"vp09": 86}.get(kind, 8 if kind in HOLDERS else 0)
        out.append((kind, boxes(data, begin + inside, begin + size) if inside else data[begin + 8:begin + size],
                    data[begin + 8:begin + size]))
        begin += size
    return out


def find(tree, *path):
    """Content of the box at `path`, of which there must be one."""
    found = [box for box in tree if box[0] == path[0]]
    if len(found) != 1:
        raise KeyError(path)
    return find(found[0][1], *path[1:]) if path[1:] else found[0][2]


def numbers(content, at=0):
    return list(struct.unpack(f">{(len(content) - at) // 4}I", content[at:]))


class Bits:
    """The head of a VP9 frame."""

    def __init__(self, data):
        self.bits = "".join(f"{byte:08b}" for byte in data[:16])

    def take(self, count):
        out, self.bits = int(self.bits[:count], 2), self.bits[count:]
        return out


class Video:
    """What a player would know of a file of one VP9 track."""

    def __init__(self, data):
        tree = boxes(data)
        self.order = [kind for kind, *_ in tree]
        media, table = (b"moov", b"trak", b"mdia"), (b"moov", b"trak", b"mdia", b"minf", b"stbl")
        self.timescale, self.duration = numbers(find(tree, *media, b"mdhd"), 12)[:2]
        entry = find(tree, *table, b"stsd", b"vp09")
        self.size = struct.unpack_from(">HH", entry, 24)
        self.color = find(tree, *table, b"stsd", b"vp09", b"colr")
        self.codec = find(tree, *table, b"stsd", b"vp09", b"vpcC")
        count, self.step = numbers(find(tree, *table, b"stts"), 8)
        sizes = numbers(find(tree, *table, b"stsz"), 12)
        assert count == len(sizes), (count, len(sizes))
        at = numbers(find(tree, *table, b"stco"), 8)[0]
        self.samples = []
        for size in sizes:
            self.samples.append(data[at:at + size])
            at += size
        assert at == len(data), "samples end where the file does"
        self.keys = numbers(find(tree, *table, b"stss"), 8)


class Videos(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not GOLDENS[0].is_dir():
            raise unittest.SkipTest(f"{GOLDENS[0]} is not here")
        cls.folder = tempfile.TemporaryDirectory(prefix="pixii-video-")

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def make(self, name, *flags, model=None, prompt="a red circle moves left"):
        path = pathlib.Path(self.folder.name) / name
        done = harness.run_pixii("video", prompt, "--model", str(model or GOLDENS[0]), "--out", str(path),
                                 "--size", f"{SIZE[0]}x{SIZE[1]}", "--frames", str(FRAMES), "--steps", str(STEPS),
                                 "--fps", str(FPS), *flags)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return path.read_bytes()

    def refused(self, *flags, prompt="x"):
        path = pathlib.Path(self.folder.name) / "refused.mp4"
        done = harness.run_pixii("video", prompt, "--model", str(GOLDENS[0]), "--out", str(path), *flags)
        self.assertEqual(done.returncode, 2, done.stdout)
        self.assertFalse(path.exists())
        return done.stderr

    def test_a_place_that_cannot_be_written_is_refused_before_the_work(self):
        endless = ("--steps", "1000", "--size", "512x512", "--frames", "81")
        for command, out in (("video", "x.gif"), ("video", "x"), ("video", "none/x.mp4"), ("image", "none/x.png"), ("video", "")):
            done = harness.run_pixii(command, "x", "--model", str(GOLDENS[0]), "--out",
                                     str(pathlib.Path(self.folder.name) / out), *endless[:4 if command == "image" else 6])
            self.assertEqual(done.returncode, 2, done.stdout)
            self.assertIn("--out", done.stderr)

    def test_what_no_model_could_do_is_refused_before_the_work(self):
        endless = ("--steps", "1000", "--size", "512x512", "--frames", "81")
        self.assertIn("fps is 0.001", self.refused("--fps", "0.001", *endless))
        self.assertIn("--step-cache-model", self.refused("--step-cache-model", "wan2.1-1.3b", *endless))
        self.assertIn("PROMPT", self.refused(*endless, prompt=""))

    def test_writes_a_file_that_a_player_can_begin_at_once(self):
        video = Video(self.make("one.mp4", "--seed", "7"))
        self.assertEqual(video.order, [b"ftyp", b"moov", b"mdat"])
        self.assertEqual(video.size, SIZE)
        self.assertEqual(len(video.samples), FRAMES)
        self.assertEqual(video.timescale / video.step, FPS)
        self.assertEqual(video.duration, FRAMES * video.step)
        self.assertEqual(video.color, b"nclx" + struct.pack(">HHHB", 1, 1, 1, 0))  # BT.709, limited range
        self.assertEqual(video.codec[4:5] + video.codec[6:10], bytes([0, 0x82, 1, 1, 1]))

    def test_samples_are_vp9_frames_and_the_first_stands_alone(self):
        video = Video(self.make("two.mp4", "--seed", "7"))
        self.assertEqual(video.keys[0], 1)
        for number, sample in enumerate(video.samples, 1):
            bits = Bits(sample)
            self.assertEqual(bits.take(2), 2)  # frame marker
            self.assertEqual(bits.take(2), 0)  # profile 0
            self.assertEqual(bits.take(1), 0)  # no frame shown again
            self.assertEqual(bits.take(1) == 0, number in video.keys)
            bits.take(2)
            if number in video.keys:
                self.assertEqual(bits.take(24), 0x498342)
                self.assertEqual(bits.take(3), 2)  # BT.709
                self.assertEqual(bits.take(1), 0)  # limited range
                self.assertEqual((bits.take(16) + 1, bits.take(16) + 1), SIZE)

    def test_equal_seeds_give_equal_files_on_any_number_of_threads(self):
        first = self.make("first.mp4", "--seed", "7", "--threads", "1")
        self.assertEqual(self.make("again.mp4", "--seed", "7", "--threads", "2"), first)
        self.assertNotEqual(self.make("other.mp4", "--seed", "8"), first)
        self.assertNotEqual(self.make("words.mp4", "--seed", "7", prompt="a blue square"), first)
        self.assertNotEqual(self.make("negative.mp4", "--seed", "7", "--negative", "blurry"), first)

    def test_ranks_make_the_file_of_one(self):
        alone = self.make("alone.mp4", "--seed", "7", "--threads", "1")
        for number, flags in enumerate((["--dit-cfg-size", "2"], ["--dit-ulysses-size", "4"], ["--tensor-parallel-size", "2"],
                                        ["--dit-cfg-size", "2", "--dit-ulysses-size", "2", "--tensor-parallel-size", "2"])):
            self.assertEqual(self.make(f"ranks{number}.mp4", "--seed", "7", "--threads", "2", *flags), alone, flags)
        self.assertIn("dit-ulysses-size is 3, must divide the 4 heads", self.refused("--dit-ulysses-size", "3"))
        self.assertIn("tensor-parallel-size is 8", self.refused("--tensor-parallel-size", "8"))
        self.assertIn("dit-cfg-size", self.refused("--dit-cfg-size", "3"))

    def test_refusals_name_what_is_wrong(self):
        size = ["--size", "48x32"]
        self.assertIn("WIDTHxHEIGHT", self.refused("--size", "48"))
        self.assertIn("width is 50", self.refused("--size", "50x32", "--frames", "9"))
        self.assertIn("num_frames is 8", self.refused(*size, "--frames", "8"))
        self.assertIn("step-cache-model", self.refused(*size, "--frames", "9", "--step-cache-model", "flux"))
        self.assertIn("tokens", self.refused("--size", "8192x8192", "--frames", "997"))
        self.assertIn("no folder", harness.run_pixii("video", "x", "--model", "/nowhere").stderr)

    def test_check_passes_on_wan_folders(self):
        for folder in GOLDENS:
            with self.subTest(folder.name):
                done = harness.run_pixii("check", str(folder))
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                for line in ("text.hidden", "dit.out", "pipeline.sigmas", "pipeline.latents.3", "pipeline.frames",
                             "vae.decoded", "vae.encoded_mean.0", "latents beside others"):
                    self.assertIn(line, done.stdout)

    def test_check_fails_on_a_changed_weight(self):
        for part, lines in (("transformer", ("dit.out", "pipeline.frames")), ("vae", ("vae.decoded", "pipeline.frames"))):
            with self.subTest(part), tempfile.TemporaryDirectory() as copy:
                folder = pathlib.Path(copy) / "wan"
                shutil.copytree(GOLDENS[1], folder, copy_function=shutil.copyfile)
                path = folder / part / "diffusion_pytorch_model.safetensors"
                weights = bytearray(path.read_bytes())
                name = b'"proj_out.bias"' if part == "transformer" else b'"decoder.conv_out.bias"'
                begin = 8 + struct.unpack_from("<Q", weights)[0]
                entry = bytes(weights[weights.index(name):])
                offset = int(entry[entry.index(b"data_offsets") + 15:].split(b",")[0])
                weights[begin + offset:begin + offset + 4] = struct.pack("<f", 0.75)
                path.write_bytes(weights)
                done = harness.run_pixii("check", str(folder))
                self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
                for line in done.stdout.splitlines():
                    if line.strip().startswith(lines):
                        self.assertIn("FAILED", line)


class OwnFolders(unittest.TestCase):
    """Folders that the tree has: video from a picture, FLUX."""

    FOLDER = harness.ROOT / "tests/golden/diffusion"

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="pixii-video-")
        self.addCleanup(self.folder.cleanup)
        self.path = pathlib.Path(self.folder.name)

    def run_made(self, command, name, model, *flags, prompt="a red circle"):
        path = self.path / name
        done = harness.run_pixii(command, prompt, "--model", str(self.FOLDER / model), "--out", str(path), "--steps", "2",
                                 "--size", "32x32", *flags)
        return done, path

    def made(self, *arguments, **more):
        done, path = self.run_made(*arguments, **more)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return path.read_bytes()

    def refused(self, *arguments, **more):
        done, path = self.run_made(*arguments, **more)
        self.assertEqual(done.returncode, 2, done.stdout)
        self.assertFalse(path.exists())
        return done.stderr

    def test_check_passes(self):
        for name in ("wan-i2v", "flux"):
            with self.subTest(name):
                done = harness.run_pixii("check", str(self.FOLDER / name))
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                self.assertIn("pipeline.latents.2", done.stdout)

    def test_a_video_begins_with_the_picture_given(self):
        for name, colour in (("red", (230, 20, 20)), ("blue", (20, 20, 230))):
            (self.path / f"{name}.bmp").write_bytes(diffusion_files.bmp(colour))
        frames = ("--frames", "5")
        red = self.made("video", "a.mp4", "wan-i2v", "--image", str(self.path / "red.bmp"), *frames)
        self.assertEqual(len(Video(red).samples), 5)
        self.assertEqual(self.made("video", "b.mp4", "wan-i2v", "--image", str(self.path / "red.bmp"), *frames), red)
        self.assertNotEqual(self.made("video", "c.mp4", "wan-i2v", "--image", str(self.path / "blue.bmp"), *frames), red)
        self.assertIn("image is missing", self.refused("video", "d.mp4", "wan-i2v", *frames))
        (self.path / "no.bmp").write_bytes(b"BM, but no picture")
        self.assertIn("image", self.refused("video", "e.mp4", "wan-i2v", "--image", str(self.path / "no.bmp"), *frames))

    def test_pictures_come_in_the_format_of_their_name(self):
        png = self.made("image", "a.png", "flux")
        self.assertEqual(png[:8], b"\x89PNG\r\n\x1a\n")
        self.assertEqual(struct.unpack(">II", png[16:24]), (32, 32))
        self.assertEqual(self.made("image", "b.png", "flux"), png)
        self.assertNotEqual(self.made("image", "c.png", "flux", "--seed", "1"), png)
        self.assertNotEqual(self.made("image", "d.png", "flux", prompt="a blue square"), png)
        self.assertEqual(self.made("image", "e.jpg", "flux")[:3], b"\xff\xd8\xff")
        self.assertEqual(self.made("image", "f.webp", "flux")[8:12], b"WEBP")
        self.assertIn(".png", self.refused("image", "g.mp4", "flux"))
        self.assertIn("negative_prompt", self.refused("image", "h.png", "flux", "--negative", "blurry"))
        self.assertIn("num_frames is 5", self.refused("video", "i.mp4", "flux", "--frames", "5"))

    def test_adapters_change_pictures_by_their_scale(self):
        adapter = self.path / "a.safetensors"
        adapter.write_bytes(diffusion_files.adapter("transformer.single_transformer_blocks.0.attn.to_v", 24, 24))
        plain = self.made("image", "a.png", "flux")
        changed = self.made("image", "b.png", "flux", "--lora", str(adapter))
        self.assertNotEqual(changed, plain)
        self.assertEqual(self.made("image", "c.png", "flux", "--lora", f"{adapter}=0"), plain)
        halves = self.made("image", "d.png", "flux", "--lora", f"{adapter}=0.5", "--lora", f"{adapter}=0.5")
        self.assertNotEqual(halves, plain)
        (self.path / "far.safetensors").write_bytes(diffusion_files.adapter("transformer.single_transformer_blocks.9.attn.to_v", 24, 24))
        said = self.refused("image", "e.png", "flux", "--lora", str(self.path / "far.safetensors"))
        self.assertIn("single_transformer_blocks.9.attn.to_v", said)
        (self.path / "wide.safetensors").write_bytes(diffusion_files.adapter("transformer.x_embedder", 24, 24))
        self.assertIn("transformer.x_embedder.lora_A", self.refused("image", "f.png", "flux", "--lora",
                                                                    str(self.path / "wide.safetensors")))

    def test_unknown_pipelines_are_refused_with_those_that_are_built(self):
        (self.path / "model").mkdir()
        (self.path / "model/model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
        done = harness.run_pixii("video", "x", "--model", str(self.path / "model"), "--out", str(self.path / "x.mp4"))
        self.assertEqual(done.returncode, 2)
        for word in ("_class_name", "StableDiffusionPipeline", "WanPipeline", "WanImageToVideoPipeline", "FluxPipeline"):
            self.assertIn(word, done.stderr)


if __name__ == "__main__":
    harness.main()
