#!/usr/bin/env python3
"""Builds the web page of web/ and writes its files, plain and compressed, as a C++ source.

  tools/embed_page.py --work FOLDER --output page_assets.cc [--none]

FOLDER keeps the npm packages between builds; several builds may share it. With --none the table is empty: no npm here.
Packages that cannot be had (no network) leave it empty, too, with a warning; a page that does not compile ends the build.
"""
import argparse
import fcntl
import gzip
import hashlib
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
KINDS = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
         ".svg": "image/svg+xml"}


def run(words, folder):
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}")


def build(work):
    """{path: bytes} of the page."""
    work.mkdir(parents=True, exist_ok=True)
    with open(work / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(work / "src", ignore_errors=True)
        shutil.copytree(ROOT / "web", work, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules", "dist"))
        wanted = (work / "package-lock.json").read_bytes()
        stamp = work / "node_modules/.installed"
        if not stamp.exists() or stamp.read_bytes() != wanted:
            got = subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=work, capture_output=True, text=True)
            if got.returncode != 0:
                print(f"warning: the web page is left out, its packages cannot be had\n{got.stderr[-2000:]}", file=sys.stderr)
                return {}
            stamp.write_bytes(wanted)
        run(["npm", "run", "--silent", "check"], work)
        run(["npm", "run", "--silent", "build"], work)
        dist = work / "dist"
        return {"/" if path.name == "index.html" else "/" + path.relative_to(dist).as_posix(): path.read_bytes()
                for path in sorted(dist.rglob("*")) if path.is_file()}


def array(name, data):
    rows = "\n".join("    " + ", ".join(str(byte) for byte in data[at:at + 24]) + "," for at in range(0, len(data), 24))
    return f"constexpr unsigned char {name}[] = {{\n{rows}\n}};\n"


def source(files):
    arrays, rows = [], []
    for number, (path, data) in enumerate(files.items()):
        kind = KINDS["." + path.rsplit(".", 1)[1] if path != "/" else ".html"]
        arrays.append(array(f"kPlain{number}", data))
        arrays.append(array(f"kGzip{number}", gzip.compress(data, 9, mtime=0)))
        etag = hashlib.sha256(data).hexdigest()[:16]
        rows.append(f'    {{"{path}", "{kind}", "\\"{etag}\\"", View(kPlain{number}), View(kGzip{number})}},')
    table = "\n".join(rows)
    body = f"""template <std::size_t kSize>
std::string_view View(const unsigned char (&bytes)[kSize]) {{
  return {{reinterpret_cast<const char*>(bytes), kSize}};
}}

{"".join(arrays)}
""" if files else ""
    answer = f"""  static const frontend::PageAsset kAssets[] = {{
{table}
  }};
  return kAssets;""" if files else "  return {};"
    return f"""// Written by tools/embed_page.py.
#include "apps/page_assets.h"

#include <cstddef>
#include <string_view>

namespace pixii::apps {{

namespace {{

{body}
}}  // namespace

std::span<const frontend::PageAsset> PageAssets() {{
{answer}
}}

}}  // namespace pixii::apps
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--none", action="store_true")
    options = parser.parse_args()
    options.output.write_text(source({} if options.none else build(options.work)))


if __name__ == "__main__":
    main()
