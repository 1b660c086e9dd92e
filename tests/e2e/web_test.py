"""The web page at "/" in a real Chromium, at the widths of a desktop and of a phone, against real servers."""
import base64
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

import cluster
import harness
from video_harness import MODEL as VIDEO_MODEL

sys.path.insert(0, str(harness.ROOT / "models/tiny-vlm/train"))
import draw  # noqa: E402  (of the model's own folder)

CHROMIUM = shutil.which("chromium")
TOOL = {"name": "create_note", "description": "Save a note.",
        "parameters": {"type": "object", "properties": {"text": {"type": "string", "description": "The note"}}, "required": ["text"]}}


@unittest.skipIf(CHROMIUM is None, "Debian's package chromium is not here")
class Page(unittest.TestCase):
    """PIXII_PICTURES names a folder for screenshots."""

    def run_case(self, server, name, **given):
        work = harness.install_npm_client("web")
        given = {"chromium": CHROMIUM, "pictures": os.environ.get("PIXII_PICTURES", ""), **given}
        done = subprocess.run(["node", "page.mjs", f"http://127.0.0.1:{server.port}", name, json.dumps(given)], cwd=work,
                              capture_output=True, text=True, timeout=600)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout


class Texts(Page):
    @classmethod
    def setUpClass(cls):
        cls.server = harness.Server("tiny-chat")

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        cls.server.folder.cleanup()

    def test_first_paint_is_small_and_from_here_alone(self):
        print(self.run_case(self.server, "paint"), file=sys.stderr)

    def test_chat(self):
        self.run_case(self.server, "chat")

    def test_markdown_is_shown_and_never_run(self):
        self.run_case(self.server, "markdown")

    def test_tools(self):
        self.run_case(self.server, "tools", tool=TOOL, question="Another one: Make a note with the text husask.",
                      arguments={"text": "husask"}, result='{"saved": true}')

    def test_playground(self):
        self.run_case(self.server, "playground")

    def test_cluster_of_one_process(self):
        self.run_case(self.server, "cluster", model="tiny-chat")

    def test_timeline(self):
        self.run_case(self.server, "timeline")

    def test_timeline_of_a_request_that_was_answered(self):
        status, _, _ = self.server.request("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4},
                                           {"x-request-id": "shown-1"})
        self.assertEqual(status, 200)
        self.server.wait_for(lambda: self.server.request("GET", "/v1/traces/shown-1")[0] == 200, 10, "its spans")
        self.run_case(self.server, "traced", id="shown-1", spans=2)

    def test_keyboard(self):
        self.run_case(self.server, "keyboard")


class Others(Page):
    def test_keys_and_errors(self):
        with tempfile.TemporaryDirectory() as folder:
            keys = pathlib.Path(folder) / "keys.json"
            keys.write_text(json.dumps({"keys": [{"key": "page-key-1"}]}))
            with harness.Server("tiny-chat", "--api-key-file", str(keys)) as server:
                self.run_case(server, "errors", key="page-key-1")

    def test_stop(self):
        with harness.Server("tiny-chat", "--engine", "mock", "--mock-step-time", "20ms") as server:
            self.run_case(server, "stop", endless="Hello")
            server.wait_for(lambda: server.running() == 0, 10, "no running sequence")

    def test_cluster_of_several_processes(self):
        with cluster.Cluster(2, frontend_flags=("--router-mode", "kv")) as three:
            self.run_case(three.frontend, "cluster", model="tiny-chat", workers=2)

    @unittest.skipIf(VIDEO_MODEL is None, "neither models/tiny-video nor a golden model of videos is here")
    def test_pictures_and_videos(self):
        picture = base64.b64encode(draw.png(112, 112, bytes((220, 20, 20)) * (112 * 112))).decode()
        with harness.Server("tiny-vlm", "--video-model", VIDEO_MODEL) as server:
            self.run_case(server, "pictures", picture=picture, question="What colour is it?", answer="red")
            self.run_case(server, "gallery")


if __name__ == "__main__":
    harness.main()
