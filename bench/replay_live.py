#!/usr/bin/env python3
"""How far the simulator's replay of a trace is from the same trace sent to live mock engines, at a low load: mean times to the first token.

One trace, equal step times, two workers behind a frontend that routes by cache. Writes JSON to stdout.
"""
import argparse
import json
import os
import pathlib
import random
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests/e2e"))
import cluster  # noqa: E402
import harness  # noqa: E402

BLOCK = 64  # tokens of a hash id
# Steps of half a second: what a machine that does other things adds is little of them.
TIMING = ("--mock-speedup", "0.05", "--max-batch", "256", "--max-batched-tokens", "8192", "--block-size", str(BLOCK))


def trace(count, rate, seed):
    """Poisson arrivals; prompts of 3 to 15 blocks, of which every second one begins as an earlier one did."""
    draw, now, rows = random.Random(seed), 0.0, []
    for number in range(count):
        now += draw.expovariate(rate)
        blocks = draw.randint(3, 15)
        front = [1000 + number % 4 * 8 + i for i in range(min(blocks, 3))] if number % 2 else []
        ids = front + [10_000 + number * 20 + i for i in range(blocks - len(front))]
        rows.append({"timestamp": round(now * 1000), "input_length": blocks * BLOCK, "output_length": draw.randint(4, 24), "hash_ids": ids})
    return "".join(json.dumps(row) + "\n" for row in rows)


def figures(*arguments):
    done = harness.run_pixii(*arguments, "--json", timeout=600)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return {row["name"]: row["value"] for row in json.loads(done.stdout)["results"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=60)
    parser.add_argument("--rate", type=float, default=0.4)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pixii-replay-") as folder:
        path = pathlib.Path(folder, "trace.jsonl")
        path.write_text(trace(options.requests, options.rate, options.seed))
        shared = ("--trace", str(path), "--trace-block-size", str(BLOCK))
        simulated = figures("simulate", "--scenario", "trace", *shared, "--workers", "2", "--router-mode", "kv", *TIMING)
        with cluster.Cluster(2, worker_flags=("--engine", "mock", "--mock-timing", "polynomial", *TIMING), frontend_flags=("--router-mode", "kv")) as live:
            flags = ("bench", "serve", "--port", str(live.frontend.port), *shared, "--repeats", "1", "--concurrency", "512")
            measured = figures(*flags, "--warmup", "4")
    out = {"benchmark": "replay_live", "cores": os.cpu_count(), "binary": os.path.basename(harness.BINARY), "requests": options.requests,
           "rate": options.rate, "simulated": {key: simulated[key] for key in ("ttft_mean", "ttft_p50", "itl_p50")},
           "live": {key: measured[key] for key in ("ttft_mean", "ttft_p50", "itl_p50", "send_delay_p99")},
           "ttft_mean_difference": measured["ttft_mean"] / simulated["ttft_mean"] - 1}
    json.dump(out, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
