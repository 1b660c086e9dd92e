"""A systemd unit without systemd: its file read, and its process run as the file says, in a root of its own."""
import os
import pathlib
import resource
import shlex
import signal
import subprocess

import harness

IGNORED = {"Restart", "TimeoutStopSec"}  # what the manager does, not what the process sees


def read_unit(path, instance):
    """{section: {key: [values]}}, %i replaced."""
    sections, section = {}, None
    for line in pathlib.Path(path).read_text().splitlines():
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), {})
        elif line and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            section.setdefault(key, []).append(value.replace("%i", instance))
    return sections


class Unit(harness.Server):
    """ExecStart of a unit in `root`, with `etc` as /etc/pixii and `state` as its StateDirectory; ready when the port in `port_file` answers.

    Every key of [Service] is obeyed or named above: a key that is new in a unit fails here until somebody says what it means.
    """

    def __init__(self, root, name, instance, etc, state, port_file):
        service = read_unit(root / f"usr/lib/systemd/system/{name}@.service", instance)["Service"]
        one = {key: values[-1] for key, values in service.items() if key not in IGNORED}
        if (user := (one.pop("User"), one.pop("Group"))) != ("pixii", "pixii"):
            raise AssertionError(f"{name} runs as {user}")
        if (guards := [one.pop(key) for key in ("ProtectSystem", "ProtectHome", "PrivateTmp", "NoNewPrivileges")]) != ["strict", "true", "true", "true"]:
            raise AssertionError(f"{name} is guarded by {guards}")
        environment = dict(pair.split("=", 1) for pair in shlex.split(one.pop("Environment")))
        file = one.pop("EnvironmentFile")
        extra = pathlib.Path(etc) / pathlib.Path(file.lstrip("-")).name
        if extra.exists():
            environment.update(line.split("=", 1) for line in extra.read_text().splitlines() if "=" in line)
        elif not file.startswith("-"):
            raise AssertionError(f"{name}: no {file}")
        writable = f"/var/lib/{one.pop('StateDirectory')}"
        # More than this machine lets us have only root may ask for.
        files_max = min(int(one.pop("LimitNOFILE")), resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        # A word that is a variable becomes its words; without a value, none.
        words = [part for word in shlex.split(one.pop("ExecStart"))
                 for part in (environment.get(word[1:], "").split() if word.startswith("$") else [word])]
        folder = one.pop("WorkingDirectory")
        if one:
            raise AssertionError(f"{name}: this test does not know {sorted(one)}")
        self.log_path = pathlib.Path(state) / f"{name}.log"
        self.log = open(self.log_path, "wb")
        self.port_file = port_file
        self.process = subprocess.Popen(
            ["prlimit", f"--nofile={files_max}", "bwrap", "--unshare-user", "--uid", "1000", "--gid", "1000", "--die-with-parent",
             "--ro-bind", str(root), "/", "--ro-bind", str(etc), "/etc/pixii", "--bind", str(state), writable, "--tmpfs", "/home", "--tmpfs", "/root",
             "--tmpfs", "/tmp", "--proc", "/proc", "--dev", "/dev", "--clearenv", "--setenv", "PATH", "/usr/local/bin:/usr/bin:/bin",
             *[word for pair in environment.items() for word in ("--setenv", *pair)], "--chdir", folder, *words],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        harness.wait_for(self.ready, harness.START_SECONDS, f"{name}'s port", self.log_text)

    def ready(self):
        if self.process.poll() is not None:
            raise AssertionError(f"it ended\n{self.log_text()}")
        if not self.port_file.exists() or not self.port_file.read_text().strip():
            return False
        self.port = int(self.port_file.read_text())
        try:
            return self.request("GET", "/live")[0] == 200
        except OSError:
            return False

    def main_pid(self):
        """Of the unit's process: bubblewrap is its parent and passes no signals on."""
        return int(pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()[0])

    def stop(self):
        if self.process.poll() is None:
            os.kill(self.main_pid(), signal.SIGTERM)
        status = self.process.wait(timeout=120)
        self.log.close()
        return status

    def __exit__(self, kind, value, trace):
        if kind is not None:
            self.kill()
        elif (status := self.stop()) != 0:
            raise AssertionError(f"exit status {status} after SIGTERM\n{self.log_text()}")
