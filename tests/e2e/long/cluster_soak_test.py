"""Half an hour of 200 requests/s through a frontend and a router, with cancels, deaths and new workers: memory is flat."""
import asyncio
import json
import os
import pathlib
import random
import statistics
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import cluster  # noqa: E402
import harness  # noqa: E402
from router_service_test import Router, loads  # noqa: E402

MINUTES = float(os.environ.get("PIXII_SOAK_MINUTES", "30"))
WARM_SHARE = 1 / 3
RATE = 200
WORKERS = 4
DEATH_EVERY_S = 15
SAMPLE_EVERY_S = 5
GROWTH_KIB_PER_HOUR_MAX = 1024
FLAGS = ("--engine", "mock", "--kv-tokens", "65536", "--block-size", "16", "--max-batch", "64", "--mock-step-time", "2ms")


def growth_per_hour(samples):
    """Of (second, KiB): median of the slopes between the lowest samples of all pairs of minutes. What a burst takes for a
    moment is no growth."""
    lowest = {}
    for second, kib in samples:
        lowest[second // 60] = min(kib, lowest.get(second // 60, kib))
    minutes = sorted(lowest)
    slopes = [(lowest[b] - lowest[a]) / (b - a) for i, a in enumerate(minutes) for b in minutes[i + 1:]]
    return statistics.median(slopes) * 60


class Load:
    """Requests that begin RATE a second, whatever those before them do."""

    def __init__(self, port, end):
        self.port, self.end = port, end
        self.draw = random.Random(1)
        self.begun = self.completed = self.cancelled = 0
        self.failures = []

    async def run(self):
        running = set()
        due = time.monotonic()
        while due < self.end:
            await asyncio.sleep(max(0, due - time.monotonic()))
            task = asyncio.create_task(self.ask(self.begun))
            running.add(task)
            task.add_done_callback(running.discard)
            self.begun += 1
            due += 1 / RATE
        await asyncio.gather(*running)

    async def ask(self, number):
        shared = self.draw.randrange(200)  # conversations that come back
        prompt = [1000 + shared] * 40 + [self.draw.randrange(5, 300) for _ in range(self.draw.choice([5, 50, 300]))]
        body = json.dumps({"model": "tiny-chat", "prompt": prompt, "max_tokens": self.draw.choice([1, 8, 40]),
                           "ignore_eos": True, "stream": True, "seed": number}).encode()
        leave = self.draw.random() < 0.1
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                             b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
                if b" 200 " not in head.split(b"\r\n", 1)[0]:
                    self.failures.append((head + await asyncio.wait_for(reader.read(), 60))[-400:])
                elif leave:
                    await asyncio.wait_for(reader.readline(), 60)
                    self.cancelled += 1
                elif b"data: [DONE]" in (text := await asyncio.wait_for(reader.read(), 60)):
                    self.completed += 1
                else:
                    self.failures.append(text[-400:])
            finally:
                writer.close()
        except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError) as failure:
            self.failures.append(repr(failure))


class ClusterSoak(unittest.TestCase):
    def test_memory_of_frontend_and_router_is_flat(self):
        with cluster.Cluster(WORKERS, worker_flags=FLAGS) as fleet, Router(fleet.folder.name) as router, \
                fleet.frontend_of("--router-url", "discovery") as frontend:
            router.wait_for(lambda: len(loads(router)) == WORKERS, 30, "workers")
            begin = time.monotonic()
            load = Load(frontend.port, begin + MINUTES * 60)
            watched = {"frontend": frontend, "router": router}
            samples = {name: [] for name in watched}
            deaths = 0

            async def watch():
                nonlocal deaths
                death = begin + DEATH_EVERY_S
                while (now := time.monotonic()) < load.end:
                    for name, server in watched.items():
                        samples[name].append((now - begin, server.process_figures()["rss_kib"]))
                    if now > death:
                        death += DEATH_EVERY_S
                        deaths += 1
                        fleet.kill(fleet.workers[0])
                        await asyncio.to_thread(fleet.add_worker)
                    await asyncio.sleep(SAMPLE_EVERY_S)

            async def both():
                await asyncio.gather(load.run(), watch())

            asyncio.run(both())
            figures = {"minutes": MINUTES, "requests": load.begun, "completed": load.completed, "cancelled": load.cancelled,
                       "failed": len(load.failures), "deaths": deaths}
            for name, series in samples.items():
                late = [one for one in series if one[0] > MINUTES * 60 * WARM_SHARE]
                figures[name] = {"kib_at_the_end": late[-1][1], "kib_after_warm_up": late[0][1],
                                 "growth_kib_per_hour": round(growth_per_hour(late))}
            print(json.dumps(figures), flush=True)
            if folder := os.environ.get("PIXII_SOAK_SAMPLES"):
                pathlib.Path(folder).write_text(json.dumps(samples))
            self.assertEqual(load.failures[:3], [])
            self.assertGreaterEqual(load.completed + load.cancelled, 0.99 * RATE * MINUTES * 60)
            for name in watched:
                self.assertLess(figures[name]["growth_kib_per_hour"], GROWTH_KIB_PER_HOUR_MAX, (name, figures))


if __name__ == "__main__":
    harness.main()
