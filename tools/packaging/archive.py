"""Archives whose bytes depend on their content alone: sorted names, one time, given owners."""
import gzip
import hashlib
import io
import os
import pathlib
import stat
import tarfile


def epoch():
    """SOURCE_DATE_EPOCH, which every archive of a release has as its time."""
    return int(os.environ.get("SOURCE_DATE_EPOCH", "0"))


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class Entries:
    """Files of an archive by path, without a leading slash; later ones replace earlier ones."""

    def __init__(self):
        self.members = {}

    def add(self, path, mode, data=None, link=None, uid=0, gid=0, hard=False):
        member = tarfile.TarInfo(path)
        member.mode, member.uid, member.gid, member.mtime = mode, uid, gid, epoch()
        if link is not None:
            member.type, member.linkname = (tarfile.LNKTYPE if hard else tarfile.SYMTYPE), link
        elif data is None:
            member.type = tarfile.DIRTYPE
        else:
            member.size = len(data)
        self.members[path] = (member, data)

    def add_folder(self, folder, prefix=""):
        """What lies below `folder`; modes become 755 or 644."""
        for path in sorted(pathlib.Path(folder).rglob("*")):
            name = prefix + str(path.relative_to(folder))
            if path.is_symlink():
                self.add(name, 0o777, link=os.readlink(path))
            elif path.is_dir():
                self.add(name, 0o755)
            else:
                executable = path.stat().st_mode & stat.S_IXUSR
                self.add(name, 0o755 if executable else 0o644, path.read_bytes())

    def tar(self):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
            # A hard link comes after what it names.
            for path in sorted(self.members, key=lambda p: (self.members[p][0].islnk(), p)):
                member, data = self.members[path]
                archive.addfile(member, io.BytesIO(data) if data is not None else None)
        return out.getvalue()


def gzipped(data, level=9):
    out = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=out, mode="wb", mtime=0, compresslevel=level) as file:
        file.write(data)
    return out.getvalue()
