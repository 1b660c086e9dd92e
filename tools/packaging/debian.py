"""What Debian knows: which package owns a library, what a package needs, and its file."""
import pathlib
import re
import subprocess


def output(*command, **kwargs):
    return subprocess.run(command, check=True, capture_output=True, text=True, **kwargs).stdout


def libraries(*binaries):
    """name -> path of every shared object that `binaries` need."""
    found = {}
    for binary in binaries:
        for name, path in re.findall(r"^\s*(\S+) => (/\S+)", output("ldd", str(binary)), re.M):
            found[name] = pathlib.Path(path)
    return found


def owner(path):
    """(package, version, source) that installed a file; None if none did."""
    for name in (str(path), str(path.resolve()), re.sub(r"^/usr(?=/lib)", "", str(path.resolve()))):
        done = subprocess.run(["dpkg-query", "-S", name], capture_output=True, text=True)
        if done.returncode == 0:
            package = done.stdout.split(": ")[0].split(",")[0]
            return installed(package)
    return None


def installed(package):
    """(package, version, source) of an installed package; None if it is not."""
    done = subprocess.run(["dpkg-query", "-W", "-f", "${binary:Package}\t${Version}\t${source:Package}\t${db:Status-Status}", package],
                          capture_output=True, text=True)
    fields = done.stdout.split("\t")
    return (fields[0].split(":")[0], fields[1], fields[2]) if done.returncode == 0 and fields[3] == "installed" else None


def fields_of(text):
    """The fields of a control paragraph."""
    fields = {}
    for line in text.split("\n\n")[0].splitlines():
        if line[:1].isspace():
            continue
        name, _, value = line.partition(": ")
        fields[name] = value
    return fields


def needs(fields):
    """First alternatives of Depends and Pre-Depends, without versions."""
    text = ", ".join(filter(None, (fields.get("Pre-Depends"), fields.get("Depends"))))
    return [re.sub(r"[\s(:].*", "", clause.split("|")[0].strip()) for clause in text.split(",") if clause.strip()]


class Cache:
    """A folder of .deb files, filled by apt where it lacks one; `offline` says that it must not lack any."""

    def __init__(self, folder, offline=False):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.offline = offline
        self.known = {}  # package -> (fields, file)
        for file in sorted(self.folder.glob("*.deb")):
            fields = fields_of(output("dpkg-deb", "-f", str(file)))
            self.known[fields["Package"]] = (fields, file)

    def get(self, package):
        """(fields, file) of a package, or of the one that provides it."""
        if package not in self.known:
            if self.offline:
                raise SystemExit(f"release: {self.folder} has no package {package}, and --offline forbids to ask for it")
            done = subprocess.run(["apt-get", "download", package], cwd=self.folder, capture_output=True, text=True)
            if done.returncode != 0:
                raise SystemExit(f"release: apt-get download {package}: {done.stderr.strip()}")
            for file in self.folder.glob("*.deb"):
                if file not in [f for _, f in self.known.values()]:
                    fields = fields_of(output("dpkg-deb", "-f", str(file)))
                    self.known[fields["Package"]] = (fields, file)
        return self.known[package]

    def closure(self, packages, without):
        """Files of `packages` and of all that they need, but for the names in `without`."""
        chosen, waiting = {}, list(packages)
        while waiting:
            package = waiting.pop()
            if package in chosen or package in without:
                continue
            fields, chosen[package] = self.get(package)
            waiting += needs(fields)
        return [chosen[package] for package in sorted(chosen)]
