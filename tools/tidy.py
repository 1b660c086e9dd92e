#!/usr/bin/env python3
"""House rules that a compiler does not know: banned words, untested files, documents that lie about files.

A line that must break a rule ends in a comment `tidy: <rule> <reason>`.
"""
import fnmatch
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# (rule, pattern, folders it does not apply to, what to do instead)
BANNED = [
    ("async", re.compile(r"std::async\b"), (), "own the thread: rt/thread.h"),
    ("detach", re.compile(r"\.detach\("), (), "own the thread: rt/thread.h"),
    ("sleep", re.compile(r"\bsleep_for\b|\bsleep_until\b|\busleep\("), (), "wait for a condition with a deadline"),
    ("getenv", re.compile(r"\bgetenv\("), ("src/config", "src/apps", "tests/support"), "config/ reads the environment"),
    ("regex", re.compile(r"std::regex\b"), (), "a parser or PCRE2"),
    ("throw", re.compile(r"\bthrow\s"), ("tests",), "return a Result"),
    ("new", re.compile(r"(?<![\w_])new\s+[A-Za-z_:]+[\s({\[<]"), ("src/base", "src/rt", "tests"), "make_unique or a value"),
    ("delete", re.compile(r"(?<![\w_=] )(?<!= )\bdelete\s+\w"), ("src/base", "src/rt", "tests"), "an owner"),
    ("fixme", re.compile(r"\b(FIXME|XXX|HACK)\b"), (), "mend it or write it into docs"),
    ("clock", re.compile(r"steady_clock::now|system_clock::now|\bclock_gettime\("), ("src/rt", "bench", "tests"), "rt::Loop::Now"),
]


def tracked(*patterns):
    out = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns], cwd=ROOT,
                         capture_output=True, text=True, check=True).stdout
    return [ROOT / line for line in out.splitlines() if (ROOT / line).is_file()]


def code_only(line):
    """The line without string literals and line comments: words in prose are no offence."""
    line = re.sub(r'"(?:[^"\\]|\\.)*"', '""', line)
    return line.split("//")[0]


def check_words(problems):
    for path in tracked("src/*.cc", "src/*.h", "tests/*.cc", "tests/*.h"):
        name = str(path.relative_to(ROOT))
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            code = code_only(line)
            for rule, pattern, exempt, instead in BANNED:
                if pattern.search(code) and not name.startswith(tuple(exempt)) and f"tidy: {rule}" not in line:
                    problems.append(f"{name}:{number}: {rule}: {instead}")


def check_tested(problems):
    """src/a/b.cc has tests/unit/a/b_test.cc, or a test includes a/b.h, or a line (globs allowed) gives a reason."""
    included = set()
    for path in tracked("tests/*.cc", "tests/*.h"):
        included |= set(re.findall(r'#include "([\w/]+)\.h"', path.read_text(errors="replace")))
    listed = {}
    untested = ROOT / "tests/untested.txt"
    for line in untested.read_text().splitlines() if untested.exists() else []:
        if line.strip() and not line.startswith("#"):
            name, _, reason = line.partition(" ")
            listed[name] = reason.strip()
    for path in tracked("src/*.cc"):
        name = str(path.relative_to(ROOT))
        inner = path.relative_to(ROOT / "src")
        candidates = [ROOT / "tests/unit" / inner.parent / f"{inner.stem}_test.cc",
                      ROOT / "tests/unit" / inner.parts[0] / f"{inner.stem}_test.cc"]
        reason = any(fnmatch.fnmatch(name, pattern) and text for pattern, text in listed.items())
        if not any(c.exists() for c in candidates) and str(inner.with_suffix("")) not in included and not reason:
            problems.append(f"{name}: no {candidates[0].relative_to(ROOT)} and no reason in tests/untested.txt")
    for name in listed:
        if not any(ROOT.glob(name)):
            problems.append(f"tests/untested.txt: {name} does not exist")


def check_documents(problems):
    for path in tracked("*.md", "docs/*.md", "docs/**/*.md", "models/**/*.md"):
        name = str(path.relative_to(ROOT))
        text = path.read_text()
        prose = re.sub(r"```.*?```", "", text, flags=re.S)
        if len(re.findall(r"^# ", prose, flags=re.M)) != 1:
            problems.append(f"{name}: needs exactly one H1")
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", prose):
            if re.match(r"[a-z]+:", target):
                continue
            if not (path.parent / target).exists():
                problems.append(f"{name}: link to {target} leads nowhere")
        # Paths in backticks below src/ or tests/ must exist: pages walk people through the code.
        for target in re.findall(r"`((?:src|tests|tools|bench|docs|models)/[\w./-]+\.\w+)`", prose):
            if not (ROOT / target).exists():
                problems.append(f"{name}: names {target}, which does not exist")


def check_life_of_a_request(problems):
    """Every `Class::Function` that the page names is in the code: a stranger must find each."""
    page = ROOT / "docs/life_of_a_request.md"
    code = {path: path.read_text(errors="replace") for path in tracked("src/*.h", "src/*.cc")}
    for owner, function in set(re.findall(r"`(\w+)::(\w+)`", page.read_text())):
        declared = re.compile(rf"\bclass {owner}\b")
        if not any((f"{owner}::{function}" in text) or (declared.search(text) and re.search(rf"\b{function}\(", text))
                   for text in code.values()):
            problems.append(f"docs/life_of_a_request.md: names {owner}::{function}, which does not exist")


def main():
    problems = []
    check_words(problems)
    check_tested(problems)
    check_documents(problems)
    check_life_of_a_request(problems)
    for problem in problems:
        print(problem)
    print(f"tidy: {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
