"""The .deb on a bare Debian: apt installs it with what it needs, `pixii doctor` passes, a request is answered, it goes without a trace."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness  # noqa: E402
from package_test import ANSWER, release  # noqa: E402

MIRROR = os.environ.get("PIXII_DEBIAN_MIRROR", "http://deb.debian.org/debian")


@unittest.skipUnless(os.geteuid() == 0, "a root file system is made and entered by root")
class BareRoot(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="pixii-bare-")
        cls.top = pathlib.Path(cls.folder.name)
        cls.root = cls.top / "root"
        files = release(cls.top / "release", "--only", "deb")
        made = subprocess.run(["mmdebstrap", "--variant=apt", "--mode=root", "bookworm", str(cls.root), MIRROR], capture_output=True, text=True)
        if made.returncode != 0:
            raise AssertionError(made.stderr)
        # In namespaces there is only root: apt's own user could neither read the package nor the devices.
        (cls.root / "etc/apt/apt.conf.d/root").write_text('APT::Sandbox::User "root";\n')
        shutil.copy("/etc/resolv.conf", cls.root / "etc/resolv.conf")
        package = next(f for name, f in files.items() if name.endswith(".deb"))
        shutil.copy(package, cls.root / "tmp/pixii.deb")

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def inside(self, *words):
        """A command in the root, in namespaces of its own but for the network."""
        return ["bwrap", "--die-with-parent", "--unshare-pid", "--bind", str(self.root), "/", "--proc", "/proc", "--dev", "/dev", "--cap-add", "ALL",
                "--clearenv", "--setenv", "PATH", "/usr/sbin:/usr/bin:/sbin:/bin", "--setenv", "HOME", "/root",
                "--setenv", "DEBIAN_FRONTEND", "noninteractive", *words]

    def enter(self, *words):
        return subprocess.run(self.inside(*words), capture_output=True, text=True, timeout=600)

    def test_it_installs_passes_answers_and_goes(self):
        listed = self.enter("apt-get", "update")
        self.assertEqual(listed.returncode, 0, listed.stdout + listed.stderr)
        done = self.enter("apt-get", "install", "-y", "--no-install-recommends", "/tmp/pixii.deb")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        doctor = self.enter("pixii", "doctor")
        self.assertEqual(doctor.returncode, 0, doctor.stdout + doctor.stderr)
        self.assertIn("/usr/share/pixii/models/tiny-chat", doctor.stdout)
        owner = self.enter("stat", "-c", "%U %G %a", "/var/lib/pixii").stdout.strip()
        self.assertEqual(owner, "pixii pixii 2775")
        self.assertEqual(self.ask(), 200)
        gone = self.enter("apt-get", "purge", "-y", "pixii")
        self.assertEqual(gone.returncode, 0, gone.stdout + gone.stderr)
        for path in ("usr/bin/pixii", "usr/share/pixii", "var/lib/pixii", "lib/systemd/system/pixii-serve@.service"):
            self.assertFalse((self.root / path).exists(), path)

    def ask(self):
        """The status of a request to the installed server."""
        port_file = self.root / "tmp/port"
        server = subprocess.Popen(self.inside("pixii", "serve", "--port", "0", "--port-file", "/tmp/port"),
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            client = harness.Server.__new__(harness.Server)
            client.port = int(harness.wait_for(lambda: port_file.exists() and port_file.read_text().strip(), 60, "a port"))
            status, answer = client.post("/v1/chat/completions", ANSWER)
            self.assertIn("42", json.dumps(answer))
            return status
        finally:
            server.kill()
            server.wait()


if __name__ == "__main__":
    harness.main()
