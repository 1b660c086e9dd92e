"""A newcomer's path: the commands of the pages, as they stand there, in order, in a clean folder with a network of its own.

A ```sh block is run line by line. One whose first line is `# not run by ./test: REASON` is not; readers see the reason, too. A command that
serves and does not end in `&` stays until another one wants its port, as in a second terminal. A ```yaml block that begins with
`# NAME.yaml` is that file.
"""
import pathlib
import re
import subprocess
import tempfile
import unittest

import harness

PAGE_SECONDS_MAX = 600
MARKER = re.compile(r"# not run by \./test: \S+.*")
SERVES = re.compile(r"^(\./run(?=\s*(#|$))|pixii (serve|frontend|router|up)\b(?!.*--(check|print-config|help))|pixii worker\b)(?!.*&\s*(#.*)?$)")
TOOLS = r"""
declare -A server_at
port_of() { local port=${1##*--port }; [[ $1 == *"--port "* ]] && echo "${port%% *}" || echo 8000; }
listening() { awk '$4 == "0A"' /proc/net/tcp /proc/net/tcp6 | wc -l; }
serve() {  # until somebody else wants its port
  if [[ $1 == "pixii worker"* ]]; then
    local before; before=$(listening)
    bash -c "exec $1" &
    until (($(listening) > before)); do kill -0 $! || { echo "ended at once: $1"; exit 1; }; done
    return
  fi
  local port; port=$(port_of "$1")
  if [[ -n ${server_at[$port]:-} ]]; then kill "${server_at[$port]}"; wait "${server_at[$port]}" || true; fi
  bash -c "exec $1" & server_at[$port]=$!
  until curl -fsS "http://127.0.0.1:$port/health" >/dev/null 2>&1; do
    kill -0 "${server_at[$port]}" || { echo "ended at once: $1"; exit 1; }
    read -rt 0.1 <> <(:) || true
  done
}
"""


def blocks(text):
    """(language, lines) of each fenced block."""
    found = re.findall(r"^```(\w*)[^\n]*\n(.*?)^```", text, re.M | re.S)
    return [(language, body.splitlines()) for language, body in found]


def commands(lines):
    """Lines that end in a backslash go on in the next."""
    whole = ""
    for line in lines:
        whole += line + "\n"
        if not line.endswith("\\") and whole.strip() and not whole.lstrip().startswith("#"):
            yield whole.rstrip("\n")
            whole = ""
        elif not line.endswith("\\"):
            whole = ""


def script_of(text):
    """(bash, how many commands, reasons of blocks left out)."""
    out, count, reasons = ["set -euo pipefail", TOOLS], 0, []
    for language, lines in blocks(text):
        if language == "yaml" and lines and (name := re.fullmatch(r"# (\w[\w.-]*\.ya?ml)", lines[0])):
            out.append(f"cat >{name[1]} <<'END_OF_FILE'\n" + "\n".join(lines) + "\nEND_OF_FILE")
        if language not in ("sh", "bash", "shell", "console"):
            continue
        if MARKER.fullmatch(lines[0].strip()):
            reasons.append(lines[0].strip())
            continue
        for command in commands(lines):
            count += 1
            shown = "'" + command.replace("'", "'\\''") + "'"
            out.append(f"echo '$' {shown}")
            if SERVES.match(command):
                plain = re.sub(r"\s+#.*$", "", command)
                out.append("serve '" + plain.replace("'", "'\\''") + "'")
            else:
                out.append(command)
    return "\n".join(out) + "\n", count, reasons


class Pages(unittest.TestCase):
    def run_page(self, name, in_tree=False):
        script, count, reasons = script_of((harness.ROOT / name).read_text())
        self.assertGreater(count + len(reasons), 0)
        with tempfile.TemporaryDirectory(prefix="pixii-page-") as folder:
            top = pathlib.Path(folder)
            (top / "bin").mkdir()
            (top / "bin/pixii").symlink_to(pathlib.Path(harness.BINARY).resolve())
            (top / "clean").mkdir()
            (top / "script").write_text(script)
            where = harness.ROOT if in_tree else top / "clean"
            done = subprocess.run(
                ["bwrap", "--die-with-parent", "--unshare-net", "--unshare-pid", "--dev-bind", "/", "/", "--proc", "/proc", "--tmpfs", "/tmp",
                 "--bind", folder, folder, *[word for path in (harness.ROOT, pathlib.Path(harness.BINARY).resolve().parent)
                                             if str(path).startswith("/tmp/") for word in ("--bind", str(path), str(path))],
                 "--setenv", "HOME", str(top), "--setenv", "PATH", f"{top}/bin:/usr/local/bin:/usr/bin:/bin",
                 "--setenv", "PIXII_BINARY", str(pathlib.Path(harness.BINARY).resolve()),
                 "--chdir", str(where), "bash", str(top / "script")],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=PAGE_SECONDS_MAX)
        self.assertEqual(done.returncode, 0, f"{name}:\n{done.stdout[-6000:]}")
        return done.stdout

    def test_readme(self):
        self.assertIn("42", self.run_page("README.md", in_tree=True))

    def test_quickstart(self):
        said = self.run_page("docs/quickstart.md")
        self.assertIn("42", said)
        self.assertIn("data: [DONE]", said)
        self.assertIn("dynamo_frontend_requests_total", said)

    def test_every_other_page_with_commands(self):
        for path in sorted([*(harness.ROOT / "docs").rglob("*.md"), harness.ROOT / "CONTRIBUTING.md"]):
            name = str(path.relative_to(harness.ROOT))
            if name != "docs/quickstart.md" and re.search(r"^```(sh|bash|shell|console)", path.read_text(), re.M):
                with self.subTest(name):
                    self.run_page(name)


class Reading(unittest.TestCase):
    """What the test itself reads of a page."""

    def test_a_block_with_a_reason_is_left_out_and_only_such_a_one(self):
        page = "```sh\n# not run by ./test: needs root\nfalse\n```\n```sh\ntrue \\\n  && true\n# a word\n```\n```json\n{}\n```\n"
        script, count, reasons = script_of(page)
        self.assertEqual((count, reasons), (1, ["# not run by ./test: needs root"]))
        self.assertIn("true \\\n  && true", script)
        self.assertNotIn("\nfalse", script)
        self.assertEqual(script_of("```sh\n# not run by ./test:\nfalse\n```\n")[1], 1)

    def test_a_command_that_fails_is_seen(self):
        script, _, _ = script_of("```sh\nfalse\n```\n")
        self.assertNotEqual(subprocess.run(["bash", "-c", script], capture_output=True).returncode, 0)

    def test_servers_are_known_by_their_words(self):
        for words in ("./run", "pixii serve", "pixii serve tiny-chat --workers 2 # two", "pixii up graph.yaml"):
            self.assertTrue(SERVES.match(words), words)
        for words in ("pixii worker x &", "pixii up --check graph.yaml", "pixii doctor", "./run chat x"):
            self.assertFalse(SERVES.match(words), words)


if __name__ == "__main__":
    harness.main()
