"""The Containerfile by a container engine: buildah, without a daemon, on a Debian base made here. The stage that builds the program for half an
hour is given the package of the build at hand; with PIXII_CONTAINER_BUILD_ALL=1 it runs as it stands."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness  # noqa: E402
from long.bare_root_test import MIRROR  # noqa: E402
from package_test import ANSWER, Confined, release  # noqa: E402
import oci  # noqa: E402  tools/packaging, which package_test adds to the path

FILE = harness.ROOT / "deploy/container/Containerfile"
ALL = os.environ.get("PIXII_CONTAINER_BUILD_ALL") == "1"


@unittest.skipUnless(os.geteuid() == 0 and shutil.which("buildah") and shutil.which("mmdebstrap"), "root, buildah and mmdebstrap")
class BuiltByAnEngine(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="pixii-engine-")
        cls.top = pathlib.Path(cls.folder.name)
        cls.call("mmdebstrap", "--variant=minbase", "bookworm", str(cls.top / "base.tar"), MIRROR)
        base = cls.engine("from", "scratch").strip()
        cls.engine("add", "-q", base, str(cls.top / "base.tar"), "/")
        cls.engine("commit", "-q", base, "localhost/base:12")
        cls.engine("rm", base)

    @classmethod
    def tearDownClass(cls):
        cls.engine("umount", "--all")
        cls.engine("rmi", "--all", "--force")
        cls.folder.cleanup()

    @staticmethod
    def call(*words):
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode != 0:
            raise AssertionError(f"{' '.join(words)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        return done.stdout

    @classmethod
    def engine(cls, *words):
        return cls.call("buildah", "--root", f"{cls.top}/storage", "--runroot", f"{cls.top}/run", "--storage-driver", "vfs", *words)

    def stages(self):
        """(file, context): the Containerfile with a first stage that has the package already, or as it stands."""
        if ALL:
            return FILE, harness.ROOT
        head, builder, *others = re.split(r"^(?=FROM )", FILE.read_text(), flags=re.M)
        self.assertRegex(builder, r" AS builder\n")
        context = self.top / "context"
        package = next(f for name, f in release(context, "--only", "deb").items() if name.endswith(".deb"))
        file = self.top / "Containerfile"
        file.write_text("".join([head, builder.splitlines()[0], f"\nCOPY {package.name} /packages/\n", *others]))
        return file, context

    def test_the_image_that_it_makes_is_the_one_that_we_make(self):
        file, context = self.stages()
        self.engine("bud", "--isolation", "chroot", "--build-arg", "BASE_IMAGE=localhost/base", "--build-arg", "BASE_TAG=12", "--target", "runtime",
                    "-t", "localhost/pixii", "-f", str(file), str(context))
        container = self.engine("from", "localhost/pixii").strip()
        root = pathlib.Path(self.engine("mount", container).strip())
        made = json.loads(self.engine("inspect", "--type", "image", "localhost/pixii"))["OCIv1"]["config"]
        for key in ("User", "Entrypoint", "Cmd", "WorkingDir", "ExposedPorts"):
            self.assertEqual(made[key], oci.CONFIG[key], key)
        self.assertLessEqual({e for e in oci.CONFIG["Env"] if not e.startswith("PATH=")}, set(made["Env"]))
        with Confined(root, made["Entrypoint"][0], group=0) as server:
            status, answer = server.post("/v1/chat/completions", ANSWER)
            self.assertEqual(status, 200, answer)
            self.assertIn("42", answer["choices"][0]["message"]["content"])


if __name__ == "__main__":
    harness.main()
