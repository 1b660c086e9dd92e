"""KV blocks in a real Redis behind two servers: shared, sealed, lost, refused; an answer never changes."""
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import unittest

import harness
from kv_tiers_test import SMALL_CACHE, ask, metric, prompt_of, settle

PASSWORD = "a secret of the store"


class Redis:
    """redis-server on a Unix socket, or with TLS on a port, both of which it keeps over restarts."""

    def __init__(self, *flags, tls=None):
        self.folder = tempfile.TemporaryDirectory(prefix="pixii-redis-")
        self.path = pathlib.Path(self.folder.name)
        self.flags, self.tls, self.port, self.process = flags, tls, None, None

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.folder.cleanup()
            raise
        return self

    def __exit__(self, kind, value, trace):
        self.kill()
        self.folder.cleanup()

    def start(self):
        words = ["redis-server", "--port", "0", "--unixsocket", str(self.path / "socket"), "--save", "", "--appendonly", "no",
                 "--dir", str(self.path), "--requirepass", PASSWORD, "--daemonize", "no", *self.flags]
        if self.tls:
            if self.port is None:
                with socket.create_server(("127.0.0.1", 0)) as probe:
                    self.port = probe.getsockname()[1]
            words += ["--tls-port", str(self.port), "--bind", "127.0.0.1", "--tls-auth-clients", "no", "--tls-cert-file", str(self.tls / "own.pem"),
                      "--tls-key-file", str(self.tls / "own.key"), "--tls-ca-cert-file", str(self.tls / "own.pem")]
        self.log = open(self.path / "log", "ab")
        self.process = subprocess.Popen(words, stdout=self.log, stderr=self.log)
        harness.wait_for(lambda: self.process.poll() is not None or self.answers(), 20, "redis-server listens", self.log_text)
        assert self.process.poll() is None, self.log_text()

    def answers(self):
        try:
            return self.call("PING") == b"+PONG"
        except OSError:
            return False

    def log_text(self):
        return (self.path / "log").read_text()

    def call(self, *words):
        """The first line that Redis answers, or for a list or a string its whole."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(str(self.path / "socket"))
            reader = connection.makefile("rb")
            for command in (("AUTH", PASSWORD), words):
                parts = [word if isinstance(word, bytes) else str(word).encode() for word in command]
                connection.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
                answer = self.read(reader)
            return answer

    def read(self, reader):
        line = reader.readline().rstrip(b"\r\n")
        if not line:
            raise OSError("closed")
        if line[:1] == b"$":
            size = int(line[1:])
            return None if size < 0 else reader.read(size + 2)[:-2]
        if line[:1] == b"*":
            return [self.read(reader) for _ in range(int(line[1:]))]
        return line

    def keys(self):
        return sorted(self.call("KEYS", "pixii-kv/*"))

    def kill(self):
        if self.process:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.log.close()
            self.process = None
            (self.path / "socket").unlink(missing_ok=True)

    def flags_for(self, *more):
        return ("--kv-redis", f"unix:{self.path}/socket", "--kv-redis-password", PASSWORD, "--kv-list-time", "200ms", *more)


@unittest.skipUnless(shutil.which("redis-server"), "redis-server of tools/packages.txt is not installed")
class RedisTier(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.prompts = [prompt_of(i) for i in range(6)]
        with harness.Server("tiny-chat", *SMALL_CACHE, "--no-prefix-cache") as server:
            cls.expected = [ask(server, prompt) for prompt in cls.prompts]

    def ask_all(self, server):
        for prompt, answer in zip(self.prompts, self.expected):
            self.assertEqual(ask(server, prompt), answer)

    def stored(self, server):
        return metric(server, "pixii_kv_tier_blocks", tier="object")

    def test_what_one_server_computed_another_brings_from_the_store(self):
        with Redis() as redis:
            with harness.Server("tiny-chat", *SMALL_CACHE, *redis.flags_for("--kv-redis-expiry", "1h")) as one, \
                    harness.Server("tiny-chat", *SMALL_CACHE, *redis.flags_for()) as other:
                self.ask_all(one)
                settle(one)
                keys = redis.keys()
                self.assertGreater(len(keys), 20)
                self.assertGreater(int(redis.call("PTTL", keys[0])[1:]), 3_000_000)
                other.wait_for(lambda: self.stored(other) >= len(keys), 20, "the other's list")
                self.ask_all(other)
                self.assertGreater(metric(other, "kvbm_onboard_blocks_o2d"), 20)
                settle(other)
                self.assertEqual(metric(other, "kvbm_object_write_failures"), 0)
                self.assertEqual(metric(other, "pixii_kv_integrity_failures_total"), 0)
                self.assertEqual(redis.keys(), keys, "nobody writes a block twice or under another name")

    def test_a_store_that_is_killed_costs_misses_and_is_used_again_when_it_is_back(self):
        with Redis() as redis, harness.Server("tiny-chat", *SMALL_CACHE, *redis.flags_for("--kv-load-time", "10s")) as server:
            self.ask_all(server)
            settle(server)
            self.ask_all(server)
            brought = metric(server, "kvbm_onboard_blocks_o2d")
            self.assertGreater(brought, 0)
            # In the middle of requests, and of what is written.
            failed = []

            def work():
                try:
                    for _ in range(3):
                        self.ask_all(server)
                except AssertionError as error:
                    failed.append(error)

            threads = [threading.Thread(target=work) for _ in range(2)]
            for thread in threads:
                thread.start()
            server.wait_for(lambda: metric(server, "kvbm_onboard_blocks_o2d") > brought, 60, "blocks in the middle")
            redis.kill()
            for thread in threads:
                thread.join()
            self.assertEqual(failed, [])
            server.wait_for(lambda: ask(server, self.prompts[0]) and ask(server, self.prompts[3]) and
                            metric(server, "kvbm_object_read_failures") + metric(server, "kvbm_object_write_failures") >= 3, 60, "failures")
            server.wait_for(lambda: metric(server, "pixii_kv_tier_degraded", tier="object") == 1 or self.ask_all(server), 60, "a tier at rest")
            redis.start()  # empty: what is remembered is not there
            brought = metric(server, "kvbm_onboard_blocks_o2d")

            def comes_back():
                self.ask_all(server)
                return metric(server, "kvbm_onboard_blocks_o2d") > brought + 20

            server.wait_for(comes_back, 120, "blocks from the new store")
            self.assertEqual(metric(server, "pixii_kv_integrity_failures_total"), 0)

    def test_spoilt_swapped_and_foreign_values_are_computed_and_counted(self):
        with Redis() as redis, harness.Server("tiny-chat", *SMALL_CACHE, *redis.flags_for()) as server:
            self.ask_all(server)
            settle(server)
            values = {key: redis.call("GET", key) for key in redis.keys()}
            for i, key in enumerate(values):
                data = bytearray(values[key])
                data[i * 7919 % len(data)] ^= 1 << i % 8
                another = values[list(values)[i - 1]]
                value = (bytes(data), bytes(data[:-1]), another, b"", b"x" * 100_000_000)[i % 5 if i < 10 else i % 4]
                self.assertEqual(redis.call("SET", key, value), b"+OK")
            self.ask_all(server)
            self.assertGreater(metric(server, "pixii_kv_integrity_failures_total", tier="object"), 3)
            settle(server)

    def test_a_store_that_is_full_or_forgets_costs_misses(self):
        with Redis("--maxmemory", "6mb", "--maxmemory-policy", "noeviction") as redis:
            with harness.Server("tiny-chat", *SMALL_CACHE, *redis.flags_for()) as server:
                self.ask_all(server)
                self.ask_all(server)
                server.wait_for(lambda: metric(server, "kvbm_object_write_failures") > 0, 20, "a full store")
                redis.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
                redis.call("FLUSHALL")
                self.ask_all(server)
                self.ask_all(server)
                self.assertEqual(metric(server, "pixii_kv_integrity_failures_total"), 0)

    def test_blocks_are_sealed_for_each_tenant(self):
        with Redis() as redis, tempfile.TemporaryDirectory() as folder:
            key = pathlib.Path(folder) / "seal"
            key.write_bytes(b"0123456789abcdef0123456789abcdef")
            with harness.Server("tiny-chat", *SMALL_CACHE, *redis.flags_for("--kv-seal-key-file", str(key))) as server:
                self.ask_all(server)
                settle(server)
                self.assertTrue(all(redis.call("GET", name).startswith(b"PXKVSEAL") for name in redis.keys()))
                self.ask_all(server)
                self.assertGreater(metric(server, "kvbm_onboard_blocks_o2d"), 0)
                self.assertEqual(metric(server, "pixii_kv_integrity_failures_total"), 0)

    @unittest.skipUnless(shutil.which("openssl"), "no openssl to make certificates with")
    def test_over_tls_with_a_user_of_its_own(self):
        with tempfile.TemporaryDirectory() as folder:
            at = pathlib.Path(folder)
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
                            "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(at / "own.key"),
                            "-out", str(at / "own.pem")], check=True, capture_output=True)
            with Redis(tls=at) as redis:
                redis.call("ACL", "SETUSER", "blocks", "on", ">its password", "~pixii-kv/*", "+get", "+set", "+unlink", "+scan", "+select")
                flags = ("--kv-redis", f"rediss://127.0.0.1:{redis.port}/1", "--kv-redis-user", "blocks", "--kv-redis-password", "its password",
                         "--kv-redis-ca", str(at / "own.pem"))
                with harness.Server("tiny-chat", *SMALL_CACHE, *flags) as server:
                    self.ask_all(server)
                    settle(server)
                    self.ask_all(server)
                    self.assertGreater(metric(server, "kvbm_onboard_blocks_o2d"), 0)
                    self.assertEqual(redis.keys(), [], "they are in database 1")
                wrong = list(flags)
                wrong[5] = "another password"
                with harness.Server("tiny-chat", *SMALL_CACHE, *wrong) as server:
                    self.ask_all(server)
                    server.wait_for(lambda: metric(server, "kvbm_object_write_failures") > 0, 20, "refusals")
                    self.assertEqual(metric(server, "kvbm_onboard_blocks_o2d"), 0)

    def test_flags_that_fit_nothing_stop_the_start(self):
        for flags, named in ((("--kv-redis", "localhost"), "kv-redis"), (("--kv-redis", "rediss://h:1", "--kv-redis-password", "x"), "TLS"),
                             (("--kv-redis", "unix:/x"), "kv-redis-password"),
                             (("--kv-redis", "unix:/" + 107 * "x", "--kv-redis-password", "x"), "at most 107 bytes, this one 108"),
                             (("--kv-redis", "http://h:1"), "rediss://HOST"), (("--kv-redis-password", "x"), "--kv-redis too"),
                             (("--kv-redis", "redis://me:hunter2@h:1"), "--kv-redis-password"),
                             (("--kv-redis", "me:hunter2@h:1"), "--kv-redis-password"),
                             (("--kv-redis", "rediss://h:1", "--kv-redis-password", "x", "--kv-redis-ca", "/nope"), "kv-redis-ca: "),
                             (("--kv-host-bytes", "1MiB", "--kv-seal-key-file", "/nope"), "kv-seal-key-file: "),
                             (("--kv-redis", "unix:/x", "--kv-object", "--kv-object-bucket", "b"), "kv-object")):
            done = harness.run_pixii("serve", "tiny-chat", "--port", "0", *flags)
            self.assertNotEqual(done.returncode, 0, flags)
            self.assertIn(named, done.stderr + done.stdout, flags)
            self.assertNotIn("hunter2", done.stderr + done.stdout, flags)


if __name__ == "__main__":
    harness.main()
