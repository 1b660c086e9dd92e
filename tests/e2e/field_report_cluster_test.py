"""Adversarial cases 31 to 36 and 40 of the field report, by number, as far as a fleet without prefill workers has them.

docs/adversarial_cases.md lists all cases.
"""
import contextlib
import itertools
import json
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import tempfile
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

import cluster
import harness
from fault_proxy import FaultProxy

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
FLAGS = ("--threads", "1", "--max-batch", "8", "--kv-memory", "64MiB")
DEAD_AFTER = ("--worker-dead-after", "1s")
COMPILER = next(filter(None, map(shutil.which, ("clang-19", "cc", "gcc"))), None)
# The calendar, so many seconds ahead as a file says; other clocks as they are.
CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec* out) {
  static int (*real)(clockid_t, struct timespec*);
  static volatile long long* shift;
  if (real == 0) {
    const int file = open(getenv("PIXII_TEST_CLOCK"), O_RDONLY);
    shift = mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
    real = (int (*)(clockid_t, struct timespec*))dlsym(RTLD_NEXT, "clock_gettime");
  }
  const int result = real(id, out);
  if (result == 0 && id == CLOCK_REALTIME) out->tv_sec += *shift;
  return result;
}
"""


def ids(length, salt):
    """A prompt of token ids."""
    return [200 + (salt * 7919 + i * 31) % 700 for i in range(length)]


def text_of(server, prompt, max_tokens=12):
    status, answer = server.post(TEXT, {"prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "ignore_eos": True})
    assert status == 200, answer
    return answer["choices"][0]["text"]


def ask(frontend, body, after=None):
    return cluster.joined(frontend.stream(CHAT, {**body, "stream_options": {"include_usage": True}}), after)


def lay_back(old, store):
    """Copies a store's files over a living one's, which may change and remove them meanwhile."""
    for path in old.rglob("*"):
        if path.is_file():
            with contextlib.suppress(FileNotFoundError):
                target = store / path.relative_to(old)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target)


@contextlib.contextmanager
def behind_proxies(workers, frontend_flags=DEAD_AFTER):
    """A fleet whose workers are reached through proxies: (cluster, proxy of each worker)."""
    folder = tempfile.TemporaryDirectory(prefix="pixii-lines-")
    proxies = {}

    class Lines(cluster.Cluster):
        def add_worker(self):
            path = f"{folder.name}/{len(proxies)}.sock"
            worker = cluster.Worker(self.folder.name, self.model, *self.worker_flags, "--worker-listen", f"unix:{path}")
            self.workers.append(worker)
            proxies[worker] = FaultProxy(path)
            return worker

    try:
        with Lines(workers, worker_flags=FLAGS, frontend_flags=frontend_flags) as fleet:
            yield fleet, proxies
            for proxy in proxies.values():
                proxy.heal()
    finally:
        for proxy in proxies.values():
            proxy.close()
        folder.cleanup()


class FieldReportCluster(unittest.TestCase):
    def test_case_31_cancel_races_leave_every_answer_as_without_a_cache(self):
        lengths = (63, 64, 65, 128)
        prompts = {length: ids(length, length) for length in lengths}
        suffixes = [ids(5, 1000 + i) for i in range(3)]
        flags = (*FLAGS, "--block-size", "64")
        with harness.Server("tiny-chat", *flags, "--no-prefix-cache") as server:
            truth = {(length, i): text_of(server, prompts[length] + suffix)
                     for length in lengths for i, suffix in enumerate(suffixes)}
        with cluster.Cluster(2, worker_flags=flags) as fleet:
            done = threading.Event()

            def unrelated(number):
                while not done.is_set():
                    text_of(fleet.frontend, ids(40, 5000 + number), 4)

            with ThreadPoolExecutor(2) as pool:
                others = [pool.submit(unrelated, number) for number in range(2)]
                try:
                    for delay_ms, length in zip(range(0, 51), itertools.cycle(lengths)):
                        with contextlib.closing(fleet.frontend.connection()) as connection:
                            connection.request("POST", TEXT, body='{"prompt": %s, "max_tokens": 400, "ignore_eos": true, "stream": true}'
                                               % (prompts[length] + suffixes[0]), headers={"Content-Type": "application/json"})
                            threading.Event().wait(delay_ms / 1000)  # the race is the case
                        for i, suffix in enumerate(suffixes):
                            self.assertEqual(text_of(fleet.frontend, prompts[length] + suffix), truth[length, i],
                                             f"cancelled after {delay_ms} ms, prefix of {length}")
                finally:
                    done.set()
                for other in others:
                    other.result()
            cluster.wait_until_idle(fleet.workers)

    def test_case_32_a_storm_of_cancels_leaves_the_blocks_as_before(self):
        flags = ("--engine", "mock", "--mock-step-time", "2ms", "--mock-prefill-time", "20us", "--max-batch", "64", "--queue-length", "1024")
        with cluster.Cluster(2, worker_flags=flags) as fleet:
            for number in range(4):  # each knows its cache once it made a step
                text_of(fleet.frontend, ids(50, number), 1)
            before = [cluster.dump(worker) for worker in fleet.workers]
            idle = min(self.probe(fleet.frontend, i) for i in range(5))
            for storm in range(4):
                held = []
                for number in range(300):
                    connection = fleet.frontend.connection()
                    connection.request("POST", TEXT, body='{"prompt": %s, "max_tokens": 4000, "ignore_eos": true, "stream": true}'
                                       % ids(2000, 300 * storm + number), headers={"Content-Type": "application/json"})
                    held.append(connection)
                for refused in ({"model": "unknown"}, {"chat_template_kwargs": 7}):
                    status, answer = fleet.frontend.post(CHAT, {"messages": [{"role": "user", "content": "x"}], **refused})
                    self.assertIn(status, (400, 404), answer)
                harness.wait_for(lambda: sum(cluster.dump(worker)["running"] for worker in fleet.workers) >= 64, 20, "the storm runs")
                for connection in held:
                    connection.close()
                cluster.wait_until_idle(fleet.workers, 5)
                self.assertLess(min(self.probe(fleet.frontend, 10 * storm + i) for i in range(6, 11)), 2 * idle + 0.02 * harness.BUSY)
            cluster.wait_until_idle(fleet.workers, 5)  # the last probe hung up, too
            for worker, then in zip(fleet.workers, before):
                now = cluster.dump(worker)
                self.assertEqual((now["blocks_pinned"], now["blocks_total"]), (0, then["blocks_total"]))

    def probe(self, frontend, salt):
        """Seconds to the first token."""
        began = time.monotonic()
        stream = frontend.stream(TEXT, {"prompt": ids(50, 7000 + salt), "max_tokens": 2, "ignore_eos": True})
        next(stream)
        took = time.monotonic() - began
        stream.close()
        return took

    def test_case_33_a_worker_killed_at_the_first_the_17th_and_the_last_token(self):
        body = {"messages": [{"role": "user", "content": "Count from 1 to 30."}], "max_tokens": 40, "temperature": 0, "ignore_eos": True}
        with cluster.Cluster(2, worker_flags=FLAGS) as fleet:
            events = []
            expected = ask(fleet.frontend, body, events.append)
            self.assertEqual(expected["usage"]["completion_tokens"], 40)
            for at in (0, 1, 17, len(events) - 2):

                def after(event, at=at):
                    if event == at:
                        fleet.kill(fleet.serving())

                self.assertEqual(ask(fleet.frontend, body, after), expected, f"killed after event {at}")
                fleet.add_worker()
                fleet.wait_for_workers(2)

    def test_case_34_what_stands_still_comes_back_and_changes_nothing(self):
        body = {"messages": [{"role": "user", "content": "Tell me of a river."}], "max_tokens": 120, "temperature": 0, "ignore_eos": True}
        with cluster.Cluster(2, worker_flags=FLAGS, frontend_flags=DEAD_AFTER) as fleet:
            expected = ask(fleet.frontend, body)
            for grey in list(fleet.workers):
                cluster.pause(grey)
                try:
                    fleet.wait_for_workers(1)  # it is no longer routed to
                    for _ in range(3):
                        self.assertEqual(ask(fleet.frontend, body), expected)
                finally:
                    cluster.resume(grey)
                fleet.wait_for_workers(2)
                self.assertEqual(ask(fleet.frontend, body), expected)
            cluster.wait_until_idle(fleet.workers)
            # The frontend itself: its streams go on where they were.
            stream = fleet.frontend.stream(CHAT, {**body, "stream_options": {"include_usage": True}})
            first = [next(stream) for _ in range(5)]
            os.kill(fleet.frontend.process.pid, signal.SIGSTOP)
            threading.Event().wait(2)  # longer than its workers are silent to it
            os.kill(fleet.frontend.process.pid, signal.SIGCONT)
            self.assertEqual(cluster.joined(itertools.chain(first, stream)), expected)

    def test_case_35_lines_that_are_late_slow_silent_one_way_or_garble(self):
        bodies = list(cluster.requests(6, 35))

        def faults(proxy):
            return {"late and lossy": lambda: (setattr(proxy, "delay", 0.2), setattr(proxy, "loss", 0.05)),
                    "slow": lambda: setattr(proxy, "bytes_per_second", 1 << 20),
                    "half open": lambda: (setattr(proxy, "to_server", "drop"), setattr(proxy, "to_client", "drop")),
                    "deaf": lambda: setattr(proxy, "to_server", "drop"),
                    "mute": lambda: setattr(proxy, "to_client", "drop"),
                    "garbled": lambda: setattr(proxy, "to_client", "garble"),
                    "garbled back": lambda: setattr(proxy, "to_server", "garble"),
                    "reset": proxy.reset}

        with behind_proxies(2) as (fleet, proxies):
            expected = [ask(fleet.frontend, body) for body in bodies]
            for number, name in enumerate(("late and lossy", "slow", "half open", "deaf", "mute", "garbled", "garbled back", "reset")):
                body, truth = bodies[number % len(bodies)], expected[number % len(bodies)]

                def after(event, name=name):
                    if event == 4:
                        faults(proxies[fleet.serving()])[name]()

                self.assertEqual(ask(fleet.frontend, body, after), truth, name)
                for proxy in proxies.values():
                    proxy.heal()
                fleet.wait_for_workers(2)
            cluster.wait_until_idle(fleet.workers)

    def test_case_35_a_port_that_another_worker_has_now_is_not_believed(self):
        bodies = list(cluster.requests(3, 350))
        with cluster.Cluster(2, worker_flags=FLAGS) as fleet:
            expected = [ask(fleet.frontend, body) for body in bodies]
            old = fleet.workers[0]
            port = str(old.port)
            fleet.kill(old)
            # The same again; blocks of another size; another model: all at the port that the dead one had.
            for flags, name, count in (((), "tiny-chat", 2), (("--block-size", "8"), "tiny-chat", 1),
                                       (("--served-model-name", "other"), "other", 1)):
                successor = cluster.Worker(fleet.folder.name, "tiny-chat", *FLAGS, *flags, "--worker-port", port)
                fleet.workers.append(successor)
                if count == 2:
                    fleet.wait_for_workers(2)
                elif name == "other":
                    fleet.frontend.wait_for(lambda: len(fleet.frontend.request("GET", "/v1/models")[2]["data"]) == 2, 20, "both models")
                for _ in range(3):
                    for body, truth in zip(bodies, expected):
                        self.assertEqual(ask(fleet.frontend, {**body, "model": "tiny-chat"}), truth, flags)
                fleet.kill(successor)
                fleet.wait_for_workers(1)

    def test_case_36_all_workers_are_replaced_under_200_streams(self):
        body = {"prompt": ids(20, 36), "max_tokens": 80, "ignore_eos": True, "return_token_ids": True, "stream": True}
        flags = ("--engine", "mock", "--mock-step-time", "40ms", "--max-batch", "256", "--kv-tokens", "131072", "--drain-timeout", "500ms")

        def read(connection):
            lines = connection.getresponse().read().decode().splitlines()
            events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
            self.assertEqual(lines[-2], "data: [DONE]")
            return [token for event in events for choice in event["choices"] for token in choice.get("token_ids") or []]

        def begin(number):
            connection = fleet.frontend.connection()
            connection.request("POST", TEXT, body=json.dumps({**body, "seed": number % 5, "temperature": 1.0}),
                               headers={"Content-Type": "application/json"})
            return connection

        with cluster.Cluster(2, worker_flags=flags) as fleet:
            expected = [read(begin(number)) for number in range(5)]
            with ThreadPoolExecutor(200) as pool:
                answers = [pool.submit(read, begin(number)) for number in range(200)]
                for old in list(fleet.workers):
                    fleet.add_worker()
                    fleet.wait_for_workers(3)
                    fleet.workers.remove(old)
                    self.assertEqual(old.stop(), 0, old.log_text())
                    old.folder.cleanup()
                self.assertEqual([answer.result() for answer in answers], [expected[number % 5] for number in range(200)])
            moves = sum(fleet.migrations().values())
            print(f"200 streams, {moves:.0f} moves")
            self.assertGreater(moves, 50)

    def test_case_36_a_store_that_is_away_wiped_or_old_stops_nothing(self):
        body = {"messages": [{"role": "user", "content": "What is 12 + 30?"}], "max_tokens": 6, "temperature": 0, "ignore_eos": True}
        with cluster.Cluster(2, worker_flags=FLAGS) as fleet:
            expected = ask(fleet.frontend, body)
            store = pathlib.Path(fleet.folder.name)
            old = store.with_name(store.name + "-old")
            away = store.with_name(store.name + "-away")
            shutil.copytree(store, old)
            self.addCleanup(shutil.rmtree, old, True)
            self.addCleanup(shutil.rmtree, away, True)
            done = threading.Event()

            def drive():
                answers = 0
                while not done.is_set():
                    self.assertEqual(ask(fleet.frontend, body), expected)
                    answers += 1
                return answers

            def served(driver, count):
                reached = fleet.frontend.metrics
                start = sum(v for k, v in reached().items() if k.startswith("dynamo_frontend_requests_total"))
                harness.wait_for(lambda: driver.running() and sum(
                    v for k, v in reached().items() if k.startswith("dynamo_frontend_requests_total")) >= start + count, 60, "requests go on")

            with ThreadPoolExecutor(1) as pool:
                driver = pool.submit(drive)
                try:
                    store.rename(away)  # gone for a while
                    served(driver, 20)
                    lay_back(away, store)
                    served(driver, 20)
                    for path in store.rglob("*"):  # wiped
                        if path.is_file():
                            path.unlink(missing_ok=True)
                    served(driver, 20)
                    late = fleet.add_worker()
                    fleet.wait_for_workers(3)
                    lay_back(old, store)  # set back: it knows nothing of the third
                    served(driver, 20)
                    self.assertEqual(fleet.worker_count(), 3, late.log_text())
                finally:
                    done.set()
                self.assertGreater(driver.result(), 60)


    @unittest.skipIf(COMPILER is None, "no C compiler to make a clock that jumps with")
    def test_case_40_a_calendar_that_jumps_changes_nothing(self):
        body = {"messages": [{"role": "user", "content": "Tell me of a river."}], "max_tokens": 60, "temperature": 0, "ignore_eos": True}
        day, hour = 24 * 3600, 3600
        with tempfile.TemporaryDirectory(prefix="pixii-clock-") as folder:
            shift, shim = pathlib.Path(folder) / "shift", pathlib.Path(folder) / "clock.so"
            shift.write_bytes(bytes(8))
            (pathlib.Path(folder) / "clock.c").write_text(CLOCK)
            subprocess.run([COMPILER, "-shared", "-fPIC", "-O1", "-o", shim, pathlib.Path(folder) / "clock.c", "-ldl"], check=True)
            os.environ.update(LD_PRELOAD=str(shim), PIXII_TEST_CLOCK=str(shift))
            try:
                with cluster.Cluster(2, worker_flags=FLAGS, frontend_flags=(*DEAD_AFTER, "--router-mode", "kv",
                                                                           "--router-session-affinity-ttl-secs", "60s")) as fleet:
                    expected = ask(fleet.frontend, body)
                    before = fleet.migrations()
                    for jump in (hour, -hour, day, -day, -int(time.time()), 2147558400 - int(time.time()), 0):  # 1970, 2038-01-20
                        stream = fleet.frontend.stream(CHAT, {**body, "stream_options": {"include_usage": True}})
                        first = [next(stream) for _ in range(5)]
                        with open(shift, "r+b") as file:
                            file.write(struct.pack("<q", jump))
                        self.assertEqual(cluster.joined(itertools.chain(first, stream)), expected, jump)
                        self.assertEqual(ask(fleet.frontend, body), expected, jump)
                        self.assertEqual(fleet.worker_count(), 2)
                        if jump > 10 * 365 * day:
                            cluster.dump(fleet.workers[0])
                            self.assertIn("time=2038-01-2", fleet.workers[0].log_text())  # it does read that clock
                    self.assertEqual(fleet.migrations(), before)
                    late = fleet.add_worker()
                    fleet.wait_for_workers(3)
                    values = fleet.frontend.metrics()
                    self.assertFalse([k for k, v in values.items() if v < 0], "a negative duration")
                    self.assertFalse([k for k, v in values.items() if "seconds_sum" in k and v > 3600], "a duration of an hour")
                    self.assertNotIn("severity=error", fleet.frontend.log_text() + late.log_text())
            finally:
                for name in ("LD_PRELOAD", "PIXII_TEST_CLOCK"):
                    os.environ.pop(name)


if __name__ == "__main__":
    harness.main()
