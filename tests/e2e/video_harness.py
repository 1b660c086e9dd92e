"""A server that makes videos, and readers of what it makes."""
import contextlib
import os
import pathlib
import struct
import tempfile

import harness

SMALL = {"size": "64x64", "num_frames": 5, "num_inference_steps": 3, "seed": 7}
LONG = {**SMALL, "num_inference_steps": 1000}
ENDLESS = {**LONG, "size": "256x256", "num_frames": 33}  # minutes on any machine
PROMPT = "a red circle moving left"


def video_model():
    """The bundled model, or a golden one; None: there is neither."""
    for folder in (os.environ.get("PIXII_MODELS_DIR"), harness.ROOT / "models"):
        if folder and (pathlib.Path(folder) / "tiny-video/model_index.json").exists():
            return str(pathlib.Path(folder) / "tiny-video")
    golden = harness.GOLDEN / "models/wan-unipc"
    return str(golden) if (golden / "model_index.json").exists() else None


MODEL = video_model()


def boxes(data):
    """(type, content) of each MP4 box."""
    at = 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if size < 8 or at + size > len(data):
            raise AssertionError(f"box {kind} of {size} bytes at {at} of {len(data)}")
        yield kind.decode(), data[at + 8:at + size]
        at += size


def find(data, *path):
    for kind in path:
        data = next(content for name, content in boxes(data) if name == kind)
    return data


def mp4_figures(data):
    """Width, height, pictures and pictures a second of a file whose description comes before its pictures."""
    kinds = [kind for kind, _ in boxes(data)]
    assert kinds[0] == "ftyp" and kinds.index("moov") < kinds.index("mdat"), kinds
    header = find(data, "moov", "trak", "tkhd")
    width, height = (side >> 16 for side in struct.unpack(">II", header[-8:]))
    timescale = struct.unpack_from(">I", find(data, "moov", "trak", "mdia", "mdhd"), 12)[0]
    table = find(data, "moov", "trak", "mdia", "minf", "stbl")
    sizes = find(table, "stsz")
    count = struct.unpack_from(">I", sizes, 8)[0]
    entries = struct.unpack_from(f">{count}I", sizes, 12)
    assert sum(entries) == len(find(data, "mdat")), "the pictures fill mdat"
    duration = struct.unpack_from(">I", find(table, "stts"), 12)[0]
    return width, height, count, timescale / duration


def elements(data):
    """(id, content) of each EBML element."""
    at = 0
    while at < len(data):
        def length():
            return 9 - data[at].bit_length()
        ident = data[at:at + length()]
        at += len(ident)
        width = length()
        size = int.from_bytes(data[at:at + width], "big") & ((1 << 7 * width) - 1)
        at += width
        if at + size > len(data):
            raise AssertionError(f"element {ident.hex()} of {size} bytes at {at} of {len(data)}")
        yield ident.hex(), data[at:at + size]
        at += size


def webm_figures(data):
    """Width, height, pictures and seconds of a picture, of a file of one VP9 track."""
    (head, _), (segment, body) = elements(data)
    assert (head, segment) == ("1a45dfa3", "18538067"), (head, segment)
    parts = list(elements(body))
    kinds = [kind for kind, _ in parts]
    assert kinds[:3] == ["1549a966", "1654ae6b", "1c53bb6b"] and set(kinds[3:]) == {"1f43b675"}, kinds
    entry = dict(elements(dict(elements(parts[1][1]))["ae"]))
    assert entry["86"] == b"V_VP9"
    video = dict(elements(entry["e0"]))
    blocks = [block for _, cluster in parts[3:] for kind, block in elements(cluster) if kind == "a3"]
    assert blocks[0][3] & 0x80 and all(block[0] == 0x81 for block in blocks)
    period = int.from_bytes(entry["23e383"], "big") / 1e9
    return int.from_bytes(video["b0"], "big"), int.from_bytes(video["ba"], "big"), len(blocks), 1 / period


def avi_figures(data):
    """The same of a file of JPEG pictures."""
    def chunks(part):
        at = 0
        while at < len(part):
            kind, size = struct.unpack_from("<4sI", part, at)
            yield kind, part[at + 8:at + 8 + size]
            at += 8 + size + size % 2
    assert data[:4] == b"RIFF" and data[8:12] == b"AVI " and struct.unpack_from("<I", data, 4)[0] == len(data) - 8
    top = list(chunks(data[12:]))
    assert [kind for kind, _ in top] == [b"LIST", b"LIST", b"idx1"], top
    width, height = struct.unpack_from("<II", next(chunks(top[0][1][4:]))[1], 32)
    stream = next(chunks(list(chunks(top[0][1][4:]))[1][1][4:]))[1]
    scale, rate = struct.unpack_from("<II", stream, 20)
    pictures = list(chunks(top[1][1][4:]))
    assert all(kind == b"00dc" and picture[:3] == b"\xff\xd8\xff" for kind, picture in pictures)
    assert len(top[2][1]) == 16 * len(pictures)
    return width, height, len(pictures), rate / scale


class VideoCase:
    """What tests of such a server share."""

    name = "videos"  # as the server calls the model

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="pixii-media-")
        self.addCleanup(self.folder.cleanup)

    @contextlib.contextmanager
    def serving(self, *flags):
        with harness.Server(MODEL, "--served-model-name", self.name, *flags) as server:
            yield server

    def steps(self, server):
        return server.metrics().get(f'pixii_media_steps_total{{model="{self.name}"}}', 0)

    def of_each(self, server, name):
        """A field of every video, by id."""
        return {one["id"]: one[name] for one in server.request("GET", "/v1/videos?limit=100")[2]["data"]}

    def get(self, server, path, headers=None):
        """Status, headers and bytes."""
        with contextlib.closing(server.connection()) as connection:
            connection.request("GET", path, headers=headers or {})
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()

    def create(self, server, **fields):
        status, job = server.post("/v1/videos", {"prompt": PROMPT, **SMALL, **fields})
        self.assertEqual(status, 200, job)
        return job

    def job(self, server, ident):
        status, _, job = server.request("GET", f"/v1/videos/{ident}")
        return job if status == 200 else None

    def completed(self, server, ident):
        server.wait_for(lambda: self.job(server, ident)["status"] in ("completed", "failed"), 60, "the end of a job")
        job = self.job(server, ident)
        self.assertEqual(job["status"], "completed", job)
        return job

    def ended(self, server, status, kind="video"):
        return server.metrics().get(f'pixii_media_jobs_total{{model="{self.name}",kind="{kind}",status="{status}"}}', 0)
