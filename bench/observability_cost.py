#!/usr/bin/env python3
"""What being watched costs: CPU seconds per token of frontend and worker, on and off, in interleaved pairs.

On: events of severity info, an access log, a system port, /metrics of both asked as OpenMetrics each second that the worker computes. Off: none of these.
Counting itself is always on and in both. Two processes of one program differ by percents for as long as they live (where their memory lies), so
each block of pairs has processes of its own, and the interval is that of blocks. Writes JSON to stdout.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import platform
import statistics
import sys
import tempfile
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests/e2e"))
import cluster  # noqa: E402
import harness  # noqa: E402
from metrics_cluster import CHAT, chat, scrape  # noqa: E402

T_95 = {4: 2.776, 9: 2.262, 19: 2.093, 39: 2.023}  # Student's, by degrees of freedom


def spent(process):
    """Seconds on a processor of all threads of a process."""
    total = 0
    for task in pathlib.Path(f"/proc/{process.process.pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except FileNotFoundError:
            pass  # it has ended
    return total / 1e9


class Side:
    def __init__(self, watched):
        self.folder = tempfile.TemporaryDirectory(prefix="pixii-cost-")
        root = pathlib.Path(self.folder.name)
        flags = ("--threads", "1", "--max-batch", "8", "--log-level", "info" if watched else "off")
        if watched:
            self.system_file = root / "system"
            flags += ("--system-port", "0", "--system-port-file", str(self.system_file))
        self.worker = cluster.Worker(root / "c", "tiny-chat", *flags)
        front = ("--access-log", str(root / "access")) if watched else ()
        self.frontend = cluster.Frontend(root / "c", "--router-mode", "kv", "--log-level", "info" if watched else "off", *front)
        self.frontend.wait_for(lambda: self.frontend.post(CHAT, chat("ready?", 1))[0] == 200, 30, "an answer")
        self.scraped = [self.frontend]
        if watched:
            port = type("Port", (), {"port": int(self.system_file.read_text())})
            self.scraped.append(port)
        self.watched = watched

    def run(self, requests, tokens):
        """CPU seconds per token."""
        done = threading.Event()

        def scraping():
            # Each second of a machine that does nothing else: of the worker's own time, since beside other work
            # the same tokens take more seconds, and would be charged with more scrapes.
            last = spent(self.worker)
            while not done.wait(0.02):
                if spent(self.worker) - last < 1:
                    continue
                last += 1
                for process in self.scraped:
                    scrape(process, "application/openmetrics-text")

        scraper = threading.Thread(target=scraping)
        before = spent(self.frontend) + spent(self.worker)
        if self.watched:
            scraper.start()
        got = 0
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for status, answer in pool.map(lambda n: self.frontend.post(CHAT, chat(f"Tell me of {n}. ", tokens)), range(requests)):
                assert status == 200, answer
                got += answer["usage"]["completion_tokens"]
        done.set()
        if self.watched:
            scraper.join()
        return (spent(self.frontend) + spent(self.worker) - before) / got

    def close(self):
        for process in (self.frontend, self.worker):
            process.stop()
            process.folder.cleanup()
        self.folder.cleanup()


def block(options, number):
    """Mean CPU seconds per token of fresh processes on either side, which take turns."""
    sides = [Side(True), Side(False)]
    if number % 2:
        sides.reverse()
    try:
        for side in sides:
            side.run(options.requests, options.tokens)  # caches warm
        figures = {True: [], False: []}
        for pair in range(options.pairs):
            for side in sides if pair % 2 else sides[::-1]:
                figures[side.watched].append(side.run(options.requests, options.tokens))
    finally:
        for side in sides:
            side.close()
    return {"on": statistics.mean(figures[True]), "off": statistics.mean(figures[False])}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=4, help="of a block")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64)
    options = parser.parse_args()
    blocks = [block(options, number) for number in range(options.blocks)]
    ratios = [one["on"] / one["off"] - 1 for one in blocks]
    half = T_95.get(len(ratios) - 1, 2.0) * statistics.stdev(ratios) / len(ratios) ** 0.5
    mean = statistics.mean(ratios)
    json.dump({"benchmark": "observability", "machine": platform.processor() or platform.machine(), "cores": os.cpu_count(),
               "binary": os.path.basename(harness.BINARY), "requests": options.requests, "tokens": options.tokens, "pairs_of_block": options.pairs,
               "cpu_microseconds_per_token": {key: statistics.mean(one[key] for one in blocks) * 1e6 for key in ("on", "off")},
               "cost": mean, "interval_95": [mean - half, mean + half], "blocks": blocks}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
