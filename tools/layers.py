#!/usr/bin/env python3
"""Refuses an #include that the table in cmake/pixii_library.cmake does not allow.

CMake refuses wrong links; this refuses wrong includes, which would link all the same. Headers listed in a target's
FILE_SET are public, all others may only be included from their own folder.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')


def read_table():
    """folder -> set of folders it may use, from the CMake lines."""
    table = {}
    for line in (ROOT / "cmake/pixii_library.cmake").read_text().splitlines():
        match = re.match(r'set\(PX_MAY_USE_(\w+)\s*(.*)\)$', line)
        if not match:
            continue
        allowed = set()
        for word in match.group(2).replace('"', "").split():
            reference = re.match(r"\$\{PX_MAY_USE_(\w+)\}", word)
            allowed |= table[reference.group(1)] if reference else {word}
        table[match.group(1)] = allowed
    return table


def public_headers():
    """Every header named after HDRS in a CMakeLists.txt below src/, as it is included."""
    headers = set()
    for lists in SRC.rglob("CMakeLists.txt"):
        for block in re.findall(r"HDRS\s+([^)]*?)(?=\b(?:DEPS|PRIVATE_DEPS|SRCS|LAYER)\b|\))", lists.read_text()):
            headers |= {f"{lists.parent.relative_to(SRC)}/{name}" for name in block.split()}
    return headers


def main():
    table = read_table()
    public = public_headers()
    problems = []
    for path in sorted(p for p in SRC.rglob("*") if p.suffix in (".h", ".cc", ".cu", ".def")):
        layer = path.relative_to(SRC).parts[0]
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            name = match.group(1)
            place = f"{path.relative_to(ROOT)}:{number}"
            target = name.split("/")[0]
            if not (SRC / name).exists():
                # Generated headers live in the build folder under the including folder's own name.
                if target != layer:
                    problems.append(f'{place}: "{name}" is not a path below src/')
                continue
            if target != layer and target not in table[layer]:
                problems.append(f'{place}: {layer}/ may not use {target}/ ("{name}")')
            elif target != layer and name not in public:
                problems.append(f'{place}: "{name}" is private to {target}/ (not in its HDRS)')
    for problem in problems:
        print(problem)
    print(f"layers: {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
