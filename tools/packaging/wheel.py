"""A wheel without pip: the package, its extension module and the program with what it loads, as one zip that is the same each time.

The program and its files lie in pixii/_data, a tree as `cmake --install` makes it, so that the package works from whatever
folder it is put into.
"""
import base64
import hashlib
import pathlib
import subprocess
import tempfile
import time
import zipfile

import archive

SOURCES = ("pixii", "dynamo")
KINDS = (".py", ".pyi", ".typed")
OF_THE_TREE = ("bin/pixii", "lib/pixii", "share/pixii/models")
METADATA = """Metadata-Version: 2.1
Name: pixii
Version: {version}
Summary: Serves language models: workers and engines in Python, a client, and the program itself
Requires-Python: >={major}.{minor},<{major}.{next}
Provides-Extra: numpy
"""


def extension(build):
    """The extension module of a build; None: it is not built."""
    return next(iter(sorted((build / "python").glob("_pixii.*.so"))), None)


def _extension(build):
    found = extension(build)
    if found is None:
        raise SystemExit(f"{build}/python: the target _pixii is not built (pybind11-dev, python3-dev)")
    return found


def _stripped(path):
    with tempfile.NamedTemporaryFile() as copy:
        subprocess.run(["strip", "--strip-unneeded", "-o", copy.name, str(path)], check=True)
        return pathlib.Path(copy.name).read_bytes()


def contents(root, tree, build):
    """[(name, mode, bytes)] but for what describes the wheel."""
    out = []
    for source in SOURCES:
        for path in sorted((root / "python" / source).rglob("*")):
            if path.suffix in KINDS:
                out.append((str(path.relative_to(root / "python")), 0o644, path.read_bytes()))
    module = _extension(build)
    out.append((module.name, 0o755, _stripped(module)))
    for place in OF_THE_TREE:
        for path in sorted([tree / place] if (tree / place).is_file() else (tree / place).rglob("*")):
            if path.is_file():
                mode = 0o755 if place != OF_THE_TREE[2] else 0o644
                out.append((f"pixii/_data/{path.relative_to(tree)}", mode, path.read_bytes()))
    return out


def write(root, tree, build, out, version, level=9):
    """The wheel's path."""
    version = version.removeprefix("v").replace("-", "+", 1)
    _, abi, machine = _extension(build).name.split(".")[1].split("-")[0:3]  # cpython-311-x86_64-linux-gnu
    tag = f"cp{abi}-cp{abi}-linux_{machine}"
    info = f"pixii-{version}.dist-info"
    files = contents(root, tree, build)
    metadata = METADATA.format(version=version, major=abi[0], minor=abi[1:], next=int(abi[1:]) + 1)
    files.append((f"{info}/METADATA", 0o644, metadata.encode()))
    files.append((f"{info}/WHEEL", 0o644, f"Wheel-Version: 1.0\nGenerator: pixii\nRoot-Is-Purelib: false\nTag: {tag}\n".encode()))
    files.append((f"{info}/entry_points.txt", 0o644, b"[console_scripts]\npixii = pixii._program:main\n"))
    files.sort()
    record = ""
    for name, _, data in files:
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(data)}\n"
    files.append((f"{info}/RECORD", 0o644, (record + f"{info}/RECORD,,\n").encode()))
    path = out / f"pixii-{version}-{tag}.whl"
    when = time.gmtime(max(archive.epoch(), 315532800))[:6]  # a zip knows no time before 1980
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as zipped:
        for name, mode, data in files:
            member = zipfile.ZipInfo(name, when)
            member.compress_type, member.create_system, member.external_attr = zipfile.ZIP_DEFLATED, 3, (0o100000 | mode) << 16
            zipped.writestr(member, data, compresslevel=level)
    return path
