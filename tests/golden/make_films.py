#!/usr/bin/env python3
"""Makes tests/golden/media/film: small videos, and what their frames are.

usage: make_films.py FFMPEG FOLDER

FFMPEG: the ffmpeg 5.1 program with libx264, libvpx, libx265 and libaom. What it decodes is bit exact by the standards of
the codecs; the colours are made here by the formula of src/media/film/yuv.h. expected.json has for each file
its size, frames, frames of a second and the SHA-256 of each frame's RGB bytes.

shapes.json: questions that the model tiny-vlm is asked on pictures, here about videos of them that stand still.
"""
import hashlib
import json
import math
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "models/tiny-vlm/train"))
import conversations  # noqa: E402  (of the model's own folder)
import draw  # noqa: E402

SOURCE = "testsrc2=size={}:rate=10:duration={}"
BT601 = (0.299, 0.114)
BT709 = (0.2126, 0.0722)
H264 = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-threads", "1"]
VP9 = ["-c:v", "libvpx-vp9", "-b:v", "200k"]
FULL709 = ["-color_range", "pc", "-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"]
# name: size, seconds, options, luma factors, full range, pixel format
FILMS = {
    "h264_b.mp4": ("64x48", 2, [*H264, "-bf", "3", "-g", "10"], BT601, False, "yuv420p"),
    "h264_709_full.mp4": ("64x48", 1, [*H264, "-profile:v", "baseline", *FULL709], BT709, True, "yuvj420p"),
    "h264_fragments.mp4": ("64x48", 2, [*H264, "-bf", "2", "-g", "5", "-movflags",
                                        "frag_keyframe+empty_moov+default_base_moof"], BT601, False, "yuv420p"),
    "h264_odd.mkv": ("62x46", 1, [*H264, "-bf", "2", "-g", "4"], BT601, False, "yuv420p"),
    "vp8.webm": ("64x48", 2, ["-c:v", "libvpx", "-g", "7", "-auto-alt-ref", "1", "-lag-in-frames", "10", "-b:v", "200k"],
                 BT601, False, "yuv420p"),
    "vp9.webm": ("64x48", 2, [*VP9, "-g", "7"], BT601, False, "yuv420p"),
    "vp9_709.mp4": ("63x47", 1, [*VP9, "-colorspace", "bt709", "-vf", "scale=63:47", "-pix_fmt", "yuv420p"], BT709, False, "yuv420p"),
    "vp9_444.webm": ("64x48", 1, [*VP9, "-pix_fmt", "yuv444p"], BT601, False, "yuv444p"),
}
REFUSED = {
    "hevc.mp4": ["-c:v", "libx265", "-x265-params", "log-level=none", "-pix_fmt", "yuv420p"],
    "av1.mp4": ["-c:v", "libaom-av1", "-cpu-used", "8", "-pix_fmt", "yuv420p"],
    "av1.mkv": ["-c:v", "libaom-av1", "-cpu-used", "8", "-pix_fmt", "yuv420p"],
    "h264_10_bits.mp4": ["-c:v", "libx264", "-pix_fmt", "yuv420p10le"],
    "h264_422.mp4": ["-c:v", "libx264", "-pix_fmt", "yuv422p"],
    "vp9_10_bits.webm": [*VP9, "-pix_fmt", "yuv420p10le", "-profile:v", "2"],
}


def rounded(value):
    """C's lround of value * 2^16."""
    scaled = value * 65536
    return int(math.floor(abs(scaled) + 0.5)) * (1 if scaled >= 0 else -1)


def rgb_of(frame, width, height, factors, full, chroma):
    red, blue = factors
    green = 1 - red - blue
    luma_scale, chroma_scale = (1, 1) if full else (255 / 219, 255 / 224)
    cr_red, cb_blue = 2 * (1 - red) * chroma_scale, 2 * (1 - blue) * chroma_scale
    luma = [rounded((i - (0 if full else 16)) * luma_scale) + 32768 for i in range(256)]
    terms = [[rounded((i - 128) * f) for i in range(256)]
             for f in (cr_red, -cr_red * red / green, -cb_blue * blue / green, cb_blue)]
    shift = 0 if chroma == "yuv444p" else 1
    chroma_width, chroma_height = (width + shift) >> shift, (height + shift) >> shift
    cb_at, cr_at = width * height, width * height + chroma_width * chroma_height
    out = bytearray()
    for y in range(height):
        for x in range(width):
            at = (y >> shift) * chroma_width + (x >> shift)
            level, cb, cr = luma[frame[y * width + x]], frame[cb_at + at], frame[cr_at + at]
            for value in (terms[0][cr], terms[1][cr] + terms[2][cb], terms[3][cb]):
                out.append(min(max((level + value) >> 16, 0), 255))
    return bytes(out)


# codec options, frames, frames of a second
SHAPE_FILMS = {
    "vp9.mp4": ([*VP9, "-crf", "20", "-colorspace", "bt709"], 2, 2),
    "vp9_long.mp4": ([*VP9, "-crf", "20", "-colorspace", "bt709"], 24, 12),
    "h264.mp4": ([*H264, "-crf", "16", "-bf", "2", "-colorspace", "bt709"], 3, 3),
    "vp8.webm": (["-c:v", "libvpx", "-crf", "10", "-b:v", "1M"], 2, 2),
    "mjpeg.avi": (["-c:v", "mjpeg", "-q:v", "2"], 2, 2),
}
SHAPE_TASKS = ("name shape and colour", "count", "place", "read digits", "left, right, above, below")


def make_shapes(run, folder):
    questions = []
    for task in SHAPE_TASKS:
        case = conversations.cases(task, 1, 11)[0]
        scene = next(part["scene"] for part in case["messages"][0]["content"] if part["type"] == "image")
        width, height = scene.width, scene.height
        raw = folder / "frame.rgb"
        raw.write_bytes(draw.draw(width, height, scene.back_colour, scene.items))
        name = f"shapes_{len(questions)}_{list(SHAPE_FILMS)[len(questions)]}"
        options, frames, rate = list(SHAPE_FILMS.values())[len(questions)]
        run("-stream_loop", frames - 1, "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", rate, "-i", raw,
            "-fflags", "+bitexact", "-flags", "+bitexact", "-vf",
            ("crop=trunc(iw/2)*2:trunc(ih/2)*2," if "libx264" in options else "") +
            ("scale=out_color_matrix=bt709" if "bt709" in options else "scale=out_color_matrix=bt601"),
            "-pix_fmt", "yuvj420p" if "mjpeg" in options else "yuv420p", *options, folder / name)
        raw.unlink()
        texts = [part["text"] for part in case["messages"][0]["content"] if part["type"] == "text"]
        questions.append({"file": name, "task": task, "frames": frames, "rate": rate, "question": " ".join(texts),
                          "expect": case["expect"]})
    (folder / "shapes.json").write_text(json.dumps(questions, indent=1) + "\n")


def main():
    ffmpeg, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    folder.mkdir(exist_ok=True)

    def run(*arguments):
        return subprocess.run([ffmpeg, "-hide_banner", "-loglevel", "error", "-y", *map(str, arguments)], check=True,
                              stdout=subprocess.PIPE).stdout

    def source(size, seconds):
        return ["-f", "lavfi", "-i", SOURCE.format(size, seconds), "-fflags", "+bitexact", "-flags", "+bitexact"]

    expected = {}
    for name, (size, seconds, options, factors, full, chroma) in FILMS.items():
        run(*source(size, seconds), *options, folder / name)
        expected[name] = (size, factors, full, chroma)
    # The edit begins in the middle of a group: what is before it is decoded and not shown.
    run("-ss", "0.55", "-i", folder / "h264_b.mp4", "-c", "copy", "-fflags", "+bitexact", folder / "h264_edit.mp4")
    expected["h264_edit.mp4"] = ("64x48", BT601, False, "yuv420p")
    table = {}
    for name, (size, factors, full, chroma) in expected.items():
        width, height = map(int, size.split("x"))
        raw = run("-i", folder / name, "-f", "rawvideo", "-pix_fmt", chroma, "-vsync", "passthrough", "-")
        count = 3 * width * height if chroma == "yuv444p" else \
            width * height + 2 * ((width + 1) // 2) * ((height + 1) // 2)
        assert len(raw) % count == 0
        table[name] = {"width": width, "height": height, "fps": 10.0,
                       "sha256": [hashlib.sha256(rgb_of(raw[at:at + count], width, height, factors, full, chroma)).hexdigest()
                                  for at in range(0, len(raw), count)]}
    run(*source("50x38", 1), "-vf", "split[a][b];[a]palettegen[p];[b][p]paletteuse", folder / "moving.gif")
    raw = run("-i", folder / "moving.gif", "-f", "rawvideo", "-pix_fmt", "rgb24", "-vsync", "passthrough", "-")
    table["moving.gif"] = {"width": 50, "height": 38, "fps": 10.0,
                           "sha256": [hashlib.sha256(raw[at:at + 5700]).hexdigest() for at in range(0, len(raw), 5700)]}
    for name, options in REFUSED.items():
        run(*source("32x32", 0.3), *options, folder / name)
    for name in ("mjpeg.avi", "mjpeg.mp4", "mjpeg.mov", "mjpeg.mkv"):
        run(*source("48x32", 0.3), "-c:v", "mjpeg", "-q:v", "5", "-pix_fmt", "yuvj420p", folder / name)
    make_shapes(run, folder)
    (folder / "expected.json").write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
