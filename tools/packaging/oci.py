"""An OCI image without a container engine: a layer of Debian's files, a layer of ours, and the layout around them."""
import hashlib
import io
import json
import pathlib
import re
import subprocess
import tarfile
import time

import archive

# Needed only while packages are configured, which an image that is written whole never does.
WITHOUT = {"adduser", "awk", "cdebconf", "debconf", "debconf-2.0", "dpkg", "init-system-helpers", "install-info", "passwd", "perl", "perl-base",
           "sensible-utils", "ucf"}
BASE = ("base-files", "ca-certificates", "libc6", "netbase", "tzdata")
MERGED = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")  # links into /usr
DROPPED = re.compile(r"usr/share/(man|locale|info|lintian|bug|doc-base|zoneinfo/right|doc/[^/]+/(?!copyright))|usr/(include|games)/")
USER, GROUP = 1000, 0  # group 0: clusters that choose a user id of their own keep it

# How it is run; the Containerfile says the same.
CONFIG = {"User": f"{USER}:{GROUP}", "Entrypoint": ["/usr/bin/pixii"], "Cmd": ["serve", "--host", "0.0.0.0", "--port", "8000"],
          "WorkingDir": "/var/lib/pixii", "Env": ["PATH=/usr/bin:/usr/sbin", "HOME=/var/lib/pixii", "XDG_CACHE_HOME=/var/lib/pixii/cache"],
          "ExposedPorts": {"8000/tcp": {}}, "Volumes": {"/var/lib/pixii": {}}}


def merged(path):
    path = re.sub(r"^\./?", "", path).rstrip("/")
    first = path.split("/")[0]
    return "usr/" + path if first in MERGED and path != first else path


def take(entries, deb):
    """Adds the files of a .deb; without maintainer scripts, which nothing here needs."""
    data = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(deb)], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as files:
        for member in files:
            path = merged(member.name)
            if not path or path in MERGED or DROPPED.match(path + ("/" if member.isdir() else "")):
                continue
            if member.isdir():
                entries.add(path, member.mode)
            elif member.issym():
                entries.add(path, 0o777, link=member.linkname)
            elif member.islnk():
                entries.add(path, member.mode, link=merged(member.linkname), hard=True)
            elif member.isfile():
                entries.add(path, member.mode, files.extractfile(member).read())


def authorities(entries):
    """/etc/ssl/certs/ca-certificates.crt, which ca-certificates writes when it is configured."""
    certificates = [data for path, (_, data) in sorted(entries.members.items())
                    if path.startswith("usr/share/ca-certificates/") and path.endswith(".crt")]
    entries.add("etc/ssl/certs/ca-certificates.crt", 0o644, b"".join(c.rstrip(b"\n") + b"\n" for c in certificates))


def base_layer(debs):
    entries = archive.Entries()
    for name in MERGED[:2] + MERGED[3:4] + MERGED[5:]:
        entries.add(name, 0o777, link=f"usr/{name}")
        entries.add(f"usr/{name}", 0o755)
    for deb in debs:
        take(entries, deb)
    authorities(entries)
    entries.add("etc/passwd", 0o644, f"root:x:0:0:root:/root:/sbin/nologin\npixii:x:{USER}:{GROUP}::/var/lib/pixii:/sbin/nologin\n".encode())
    entries.add("etc/group", 0o644, b"root:x:0:pixii\n")
    entries.add("etc/nsswitch.conf", 0o644, b"passwd: files\ngroup: files\nhosts: files dns\n")
    for folder, mode in (("tmp", 0o1777), ("proc", 0o555), ("sys", 0o555), ("dev", 0o755)):
        entries.add(folder, mode)
    return entries


def own_layer(deb):
    entries = archive.Entries()
    take(entries, deb)
    # The only places of the image that are written to.
    entries.add("var/lib/pixii", 0o2775, uid=USER, gid=GROUP)
    return entries


def write(out, layers, facts, level):
    """The layout in the folder `out`. `layers`: (what it is, Entries). Returns the manifest's digest."""
    out = pathlib.Path(out)
    blobs = out / "blobs/sha256"
    blobs.mkdir(parents=True)

    def blob(data, media, **more):
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(data), **more}

    def document(value):
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()

    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(archive.epoch()))
    diffs, descriptors, history = [], [], []
    for what, entries in layers:
        tar = entries.tar()
        diffs.append("sha256:" + hashlib.sha256(tar).hexdigest())
        descriptors.append(blob(archive.gzipped(tar, level), "application/vnd.oci.image.layer.v1.tar+gzip"))
        history.append({"created": when, "created_by": what})
    labels = {"org.opencontainers.image.title": "pixii", "org.opencontainers.image.version": facts["version"],
              "org.opencontainers.image.revision": facts["commit"]}
    config = {"created": when, "architecture": facts["architecture"], "os": "linux", "rootfs": {"type": "layers", "diff_ids": diffs}, "history": history,
              "config": {**CONFIG, "Labels": labels}}
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": blob(document(config), "application/vnd.oci.image.config.v1+json"), "layers": descriptors,
                "annotations": labels}
    platform = {"architecture": facts["architecture"], "os": "linux"}
    top = blob(document(manifest), manifest["mediaType"], platform=platform,
               annotations={"org.opencontainers.image.ref.name": facts["version"]})
    (out / "index.json").write_bytes(document({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [top]}))
    (out / "oci-layout").write_bytes(document({"imageLayoutVersion": "1.0.0"}))
    return top["digest"]


def documents(layout):
    """(manifest, configuration, what reads a blob) of the one image of a layout."""
    layout = pathlib.Path(layout)
    load = lambda descriptor: (layout / "blobs" / descriptor["digest"].replace(":", "/")).read_bytes()
    index = json.loads((layout / "index.json").read_bytes())
    manifest = json.loads(load(index["manifests"][0]))
    return manifest, json.loads(load(manifest["config"])), load


def configuration(layout):
    """What the image says of how it is run."""
    return documents(layout)[1]["config"]


def unpack(layout, root):
    """The files of an image in a folder. Our layers remove nothing."""
    manifest, _, load = documents(layout)
    folders = {}
    for layer in manifest["layers"]:
        with tarfile.open(fileobj=io.BytesIO(load(layer)), mode="r:gz") as files:
            for member in files:
                member.uid = member.gid = -1  # those of whoever unpacks
                files.extract(member, root, set_attrs=not member.isdir(), filter="tar") if hasattr(tarfile, "tar_filter") \
                    else files.extract(member, root, set_attrs=not member.isdir())
                if member.isdir():
                    folders[pathlib.Path(root) / member.name] = member.mode
    for folder, mode in folders.items():  # last, as some may not be written to
        folder.chmod(mode)
