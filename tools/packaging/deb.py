"""The .deb: the installed tree, units, pages, a user, and what it needs as dpkg-shlibdeps finds it."""
import gzip
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import archive
import debian

POSTINST = """#!/bin/sh
set -e
if [ "$1" = configure ]; then
  getent group pixii >/dev/null || groupadd --system pixii
  getent passwd pixii >/dev/null || useradd --system --gid pixii --home-dir /var/lib/pixii --no-create-home --shell /usr/sbin/nologin pixii
  install -d -o pixii -g pixii -m 2775 /var/lib/pixii
  install -d -o root -g pixii -m 0750 /etc/pixii
  if [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi
fi
"""
POSTRM = """#!/bin/sh
set -e
if [ "$1" = purge ]; then
  rm -rf /var/lib/pixii
  rmdir --ignore-fail-on-non-empty /etc/pixii 2>/dev/null || true
fi
if [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi
"""
DESCRIPTION = """serves language, vision and video models
 One program with an OpenAI-compatible API, a router that knows KV caches, prefill
 and decode workers with KV transfer, and an inference engine of its own for the CPU."""


def depends(tree, program, plugins):
    """Depends and Recommends: what the program and most plug-ins need, and what only those of fabrics need."""
    fabrics = [p for p in plugins if p.name in ("libpixii_ucx.so", "libpixii_libfabric.so")]
    always = [program, *[p for p in plugins if p not in fabrics]]
    with tempfile.TemporaryDirectory() as folder:
        control = pathlib.Path(folder) / "debian/control"
        control.parent.mkdir()
        control.write_text("Source: pixii\n\nPackage: pixii\nArchitecture: any\n")
        command = ["dpkg-shlibdeps", "-O", "--ignore-missing-info", "-dDepends", *[f"-e{p}" for p in always],
                   "-dRecommends", *[f"-e{p}" for p in fabrics]]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"release: dpkg-shlibdeps: {done.stderr}")
    fields = dict(re.findall(r"^shlibs:(\w+)=(.*)$", done.stdout, re.M))
    return fields.get("Depends", ""), fields.get("Recommends", "")


def debian_version(tag):
    """A tag as a version that sorts: v1.2.0-rc.1 comes before 1.2.0."""
    version = tag.removeprefix("v").replace("-", "~", 1).replace("-", ".")
    return version if version[:1].isdigit() else f"0~{version}"


def build(stage, source, out, tag, architecture, compression):
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        shutil.copytree(stage, root / "usr", symlinks=True)
        units = root / "lib/systemd/system"
        units.mkdir(parents=True)
        for unit in sorted((source / "deploy/systemd").glob("*.service")):
            shutil.copy(unit, units)
        (root / "etc/pixii").mkdir(parents=True)
        document = root / "usr/share/doc/pixii"
        document.mkdir(parents=True)
        shutil.copy(source / "README.md", document)
        with gzip.GzipFile(document / "changelog.gz", "wb", mtime=0) as file:
            file.write(f"pixii ({debian_version(tag)}) stable; urgency=medium\n\n  * Release {tag}.\n".encode())
        plugins = sorted((root / "usr/lib/pixii").glob("*.so"))
        needed, recommended = depends(root, root / "usr/bin/pixii", plugins)
        size = sum(p.stat().st_size for p in root.rglob("*") if p.is_file()) // 1024
        control = root / "DEBIAN"
        control.mkdir()
        text = (f"Package: pixii\nVersion: {debian_version(tag)}\nArchitecture: {architecture}\nMaintainer: The Pixii authors <pixii@localhost>\n"
                f"Section: science\nPriority: optional\nInstalled-Size: {size}\nDepends: {needed}, ca-certificates, passwd\n"
                + (f"Recommends: {recommended}\n" if recommended else "") + f"Description: {DESCRIPTION}\n")
        (control / "control").write_text(text)
        for name, script in (("postinst", POSTINST), ("postrm", POSTRM)):
            (control / name).write_text(script)
            (control / name).chmod(0o755)
        for path in [root, *root.rglob("*")]:
            if not path.is_symlink() and (path.is_dir() or control not in path.parents):
                path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) and path.suffix != ".so" else 0o644)
            os.utime(path, (archive.epoch(), archive.epoch()), follow_symlinks=False)
        file = out / f"pixii_{debian_version(tag)}_{architecture}.deb"
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(archive.epoch())}
        subprocess.run(["dpkg-deb", "--root-owner-group", *compression, "--build", str(root), str(file)], check=True, capture_output=True,
                       env=environment)
    return file
