"""`pixii top`: one picture for scripts, and live in a terminal."""
import fcntl
import os
import pty
import struct
import subprocess
import termios
import threading
import unittest

import cluster
import harness


class Top(unittest.TestCase):
    def once(self, server, *flags):
        return harness.run_pixii("top", "--once", "--url", f"http://127.0.0.1:{server.port}", *flags)

    def test_one_picture_shows_the_model_and_what_runs(self):
        with harness.Server("tiny-chat") as server:
            idle = self.once(server)
            self.assertEqual(idle.returncode, 0, idle.stderr)
            self.assertIn("requests in flight 0", idle.stdout)
            self.assertRegex(idle.stdout, r"(?m)^tiny-chat +ready +0 +0  \[[#= ]{20}\] 0/\d+$")
            self.assertNotIn("\x1b", idle.stdout)
            stream = server.stream("/v1/completions", {"prompt": "Once", "max_tokens": 2000, "ignore_eos": True})
            next(stream)
            busy = self.once(server)
            self.assertIn("requests in flight 1", busy.stdout)
            self.assertRegex(busy.stdout, r"(?m)^tiny-chat +ready +1 +0  \[#")
            stream.close()

    def test_workers_of_other_processes_have_their_lines(self):
        with cluster.Cluster(2) as three:
            out = self.once(three.frontend)
            self.assertEqual(out.returncode, 0, out.stderr)
            for worker in three.workers:
                self.assertRegex(out.stdout, rf"(?m)^{worker.instance():x} +aggregated +available +0 +0  \[")

    def test_what_is_not_there_is_said(self):
        out = harness.run_pixii("top", "--once", "--url", "http://127.0.0.1:1")
        self.assertEqual(out.returncode, 2)
        self.assertIn("127.0.0.1:1", out.stderr)
        with harness.Server("tiny-chat", "--disable-endpoints", "router,page") as server:
            self.assertEqual(server.request("GET", "/")[0], 404)
            self.assertEqual(self.once(server).returncode, 0)

    def test_live_in_a_terminal_until_q(self):
        with harness.Server("tiny-chat") as server:
            ours, theirs = pty.openpty()
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 60, 0, 0))
            before = termios.tcgetattr(theirs)
            process = subprocess.Popen([harness.BINARY, "top", "--interval", "100ms", "--url", f"http://127.0.0.1:{server.port}"],
                                       stdin=theirs, stdout=theirs, stderr=theirs)
            seen = []

            def read():
                try:
                    while data := os.read(ours, 65536):
                        seen.append(data)
                except OSError:
                    pass

            reader = threading.Thread(target=read, daemon=True)
            reader.start()
            text = lambda: b"".join(seen).decode(errors="replace")
            harness.wait_for(lambda: text().count("pixii top") >= 2, 20, "two pictures", text)
            rows = [row for row in text().split("\r\n") if "tiny-chat" in row]
            self.assertTrue(rows)
            plain = rows[0].replace("\x1b[K", "").replace("\x1b[0m", "")
            self.assertLessEqual(len(plain.rsplit("\x1b", 1)[-1]), 60 + 4)
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 2, 60, 0, 0))
            harness.wait_for(lambda: "lines more" in text(), 20, "a smaller picture", text)
            os.write(ours, b"q")
            self.assertEqual(process.wait(timeout=60), 0)
            self.assertEqual(termios.tcgetattr(theirs), before)
            os.close(theirs)
            reader.join(10)
            os.close(ours)
            self.assertIn("\x1b[?1049l", text())


if __name__ == "__main__":
    harness.main()
