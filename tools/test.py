#!/usr/bin/env python3
"""Builds and runs every test; the last line is `N passed, N failed, N skipped`.

Steps: house checks, unit and compare programs (GoogleTest, preset dev), end-to-end scripts and simulation seeds against
the binary of the same preset, whose assertions are on, fuzz targets (preset fuzz, ASan + UBSan). --long runs what takes
minutes or hours instead, against the release binary.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
FUZZ_SECONDS = 8
SIM_SEEDS = 1000
CLUSTER_SEEDS = 300  # of the cluster scenario
PROGRAM_SECONDS_MAX = 900
OPERATOR_SEEDS = 20
OPERATOR_SEEDS_LONG = 500
DAY_SECONDS_MAX = 1200  # of a simulated day


class Tally:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.failures = []
        self.unsteady = []  # failed once and passed when tried again
        self.skips = {}

    def add(self, name, ok, output=""):
        if ok:
            self.passed += 1
        else:
            self.failed += 1
            self.failures.append(name)
            print(f"FAILED {name}\n{output}", flush=True)

    def skip(self, name, reason):
        self.skipped += 1
        self.skips.setdefault(reason, []).append(name)

    def take(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.failures += other.failures
        for reason, names in other.skips.items():
            self.skips.setdefault(reason, []).extend(names)


def run(command, seconds=PROGRAM_SECONDS_MAX, **kwargs):
    """(ok, output); a program past its time counts as failed."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", timeout=seconds,
                              stdin=subprocess.DEVNULL, **kwargs)
        return done.returncode == 0, done.stdout + done.stderr
    except subprocess.TimeoutExpired as late:
        text = (late.stdout or b"") + (late.stderr or b"")
        return False, f"not done after {seconds} s\n" + text.decode(errors="replace")[-4000:]


def build(preset, *targets):
    started = time.monotonic()
    done = subprocess.run([str(ROOT / "dev"), "build", preset, *targets], cwd=ROOT, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    print(f"build {preset} {' '.join(targets)}: {time.monotonic() - started:.0f} s", flush=True)
    if done.returncode != 0:
        print("\n".join(done.stdout.splitlines()[-60:]), flush=True)
    return done.returncode == 0


def house_checks(tally):
    files = subprocess.run(["git", "ls-files", "src/*.cc", "src/*.h", "tests/*.cc", "tests/*.h", "bench/*.cc"], cwd=ROOT,
                           capture_output=True, text=True).stdout.split()
    tally.add("format", *run(["clang-format-19", "--dry-run", "--Werror", *files]))
    tally.add("layers", *run(["python3", "tools/layers.py"]))
    tally.add("tidy", *run(["python3", "tools/tidy.py"]))
    tally.add("mutations apply", *run(["python3", "tools/mutate", "--check"]))
    for disjoint in sorted(ROOT.glob("models/*/train/test_disjoint.py")):
        tally.add(f"{disjoint.parts[-3]} held-out data", *run(["python3", str(disjoint)]))


def skip_reason(output, name):
    """What a test said when it skipped: GoogleTest 1.12 writes it to the output only."""
    said = re.search(rf"\[ RUN      \] {re.escape(name)}\n(.*?)\[  SKIPPED \] ", output, re.S)
    lines = [line for line in said.group(1).splitlines() if line.strip() and not line.endswith(": Skipped")] if said else []
    return lines[0].strip() if lines else "no reason given"


def googletest(path, tally):
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        ok, output = run([str(path), f"--gtest_output=json:{report.name}"])
        try:
            suites = json.load(open(report.name))["testsuites"]
        except (ValueError, KeyError):
            tally.add(path.name, False, output[-6000:])
            return
    failed_here = 0
    for suite in suites:
        for case in suite["testsuite"]:
            name = f"{path.name}: {suite['name']}.{case['name']}"
            if case.get("result") == "SKIPPED" or case.get("status") == "NOTRUN":
                tally.skip(name, skip_reason(output, f"{suite['name']}.{case['name']}"))
            else:
                bad = "\n".join(f["failure"] for f in case.get("failures", []))
                failed_here += bool(bad)
                tally.add(name, not bad, bad)
    if not ok and not failed_here:
        tally.add(path.name, False, output[-6000:])


def unit_programs(tally, only):
    if not build("dev", "pixii_tests"):
        tally.add("build dev", False)
        return
    programs = [p for p in (ROOT / "build/dev/test-bin").glob("*_test") if only in p.name]
    programs.sort(key=lambda p: -p.stat().st_size)  # the long ones first

    def one(program):
        started = time.monotonic()
        own = Tally()
        googletest(program, own)
        print(f"{program.name}: {time.monotonic() - started:.1f} s", flush=True)
        return own

    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for own in pool.map(one, programs):
            tally.take(own)


def pixii_binary(tally, long):
    """The program that is tested as a whole, None if it does not build."""
    preset = "release" if long else "dev"
    if not build(preset, "pixii", "_pixii"):
        tally.add(f"build {preset}", False)
        return None
    return ROOT / "build" / preset / "pixii"


def end_to_end(tally, only, long):
    binary = pixii_binary(tally, long)
    if binary is None:
        return
    folder = ROOT / ("tests/e2e/long" if long else "tests/e2e")
    scripts = sorted(p for p in folder.glob("*_test.py") if only in p.name)

    def cases_of(script, *names):
        """(ok, what each case came to, output)."""
        with tempfile.NamedTemporaryFile(suffix=".json") as report:
            environment = dict(os.environ, PIXII_TEST_REPORT=report.name, PIXII_BINARY=str(binary))
            ok, output = run(["python3", str(script), *names], seconds=14400 if long else PROGRAM_SECONDS_MAX, env=environment)
            try:
                return ok, json.load(open(report.name)), output
            except ValueError:
                return ok, [], output

    def whole(script):
        started = time.monotonic()
        own = Tally()
        ok, cases, output = cases_of(script)
        again = []  # (script, case): what failed in company
        for case in cases:
            name = f"{script.name}: {case['name']}"
            if case["result"] == "skipped":
                own.skip(name, case["detail"])
            elif case["result"] == "passed" or long:
                own.add(name, case["result"] == "passed", case["detail"])
            else:
                again.append((script, case))
        if not cases or (not ok and all(c["result"] != "failed" for c in cases)):
            own.add(script.name, False, output[-6000:])
        print(f"{script.name}: {time.monotonic() - started:.1f} s", flush=True)
        return own, again

    # A soak measures its own servers: it has the host to itself.
    with concurrent.futures.ThreadPoolExecutor(max_workers=1 if long else os.cpu_count() or 1) as pool:
        outcomes = list(pool.map(whole, scripts))
    for own, again in outcomes:
        tally.take(own)
        for script, case in again:
            # Many processes on few cores: what passes when nothing else runs is told, with how it failed, and counts.
            name = f"{script.name}: {case['name']}"
            passed = cases_of(script, case["name"])[0]
            if passed:
                tally.unsteady.append(name)
                print(f"UNSTEADY {name}\n{case['detail']}", flush=True)
            tally.add(name, passed, case["detail"])


def simulation(tally, factor, long):
    binary = pixii_binary(tally, long)
    if binary is None:
        return
    for scenario, seeds in (("server", factor * SIM_SEEDS), ("cluster", factor * CLUSTER_SEEDS),
                            ("disaggregated", factor * CLUSTER_SEEDS),
                            ("operator", OPERATOR_SEEDS_LONG if long else OPERATOR_SEEDS)):
        ok, output = run([str(binary), "simulate", "--scenario", scenario, "--seeds", str(seeds), "--jobs",
                          str(os.cpu_count() or 1)], seconds=14400)
        print(next((line for line in output.splitlines() if " runs, " in line), "simulate: no output"), flush=True)
        what = [line for line in output.splitlines() if line.startswith(("seed ", "repeat "))]
        tally.add(f"simulate {scenario} {seeds} seeds", ok, "\n".join(what)[-6000:] or output[-6000:])


def long_day(tally):
    """A day of a large cluster with faults, in less than twenty minutes: nothing may be left at its end."""
    binary = pixii_binary(tally, True)
    if binary is None:
        return
    ok, output = run([str(binary), "simulate", "--scenario", "disaggregated", "--workers", "200", "--hours", "24", "--rate", "20"],
                     seconds=DAY_SECONDS_MAX)
    print(output, flush=True)
    tally.add("a day of 200 workers", ok, output[-6000:])


def fuzz(tally, only, seconds):
    if not build("fuzz", "pixii_fuzzers"):
        tally.add("build fuzz", False)
        return
    targets = sorted(p for p in (ROOT / "build/fuzz/fuzz-bin").glob("*_fuzz") if only in p.name)

    def one(target):
        return target, *run([str(ROOT / "tools/fuzz"), target.name, str(seconds)], seconds=seconds + 120)

    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for target, ok, output in pool.map(one, targets):
            tally.add(f"fuzz {target.name} {seconds} s", ok, output[-6000:])


def main():
    parser = argparse.ArgumentParser(prog="./test")
    parser.add_argument("--long", action="store_true", help="soaks, many seeds: minutes to hours")
    parser.add_argument("--only", default="", help="only steps and programs whose name contains this word")
    options = parser.parse_args()
    started = time.monotonic()
    tally = Tally()
    steps = {
        "checks": lambda only: house_checks(tally),
        "unit": lambda only: unit_programs(tally, only),
        "e2e": lambda only: end_to_end(tally, only, False),
        "simulation": lambda only: simulation(tally, 1, False),
        "fuzz": lambda only: fuzz(tally, only, FUZZ_SECONDS),
    }
    if options.long:
        steps = {
            "e2e": lambda only: end_to_end(tally, only, True),
            "day": lambda only: long_day(tally),
            "simulation": lambda only: simulation(tally, 20, True),
            "fuzz": lambda only: fuzz(tally, only, 150 * FUZZ_SECONDS),
        }
    if options.only in steps:
        steps = {options.only: steps[options.only]}
        options.only = ""
    for name, step in steps.items():
        print(f"== {name}", flush=True)
        step(options.only)
    if options.long:
        write_long_report(tally, time.monotonic() - started)
    for reason, names in tally.skips.items():
        print(f"skipped {len(names)}: {reason}" + (f" ({names[0]})" if len(names) == 1 else ""))
    for name in tally.unsteady:
        print(f"passed the second time only: {name}")
    for name in tally.failures:
        print(f"failed: {name}")
    print(f"all in {time.monotonic() - started:.0f} s")
    print(f"{tally.passed} passed, {tally.failed} failed, {tally.skipped} skipped")
    return 1 if tally.failed else 0


def write_long_report(tally, seconds):
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    folder = ROOT / "bench/results/long"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{commit}.json").write_text(json.dumps({
        "commit": commit, "seconds": round(seconds), "passed": tally.passed, "failed": tally.failed,
        "skipped": tally.skipped, "failures": tally.failures}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
