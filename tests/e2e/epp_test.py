"""The endpoint picker with a small gateway in front of it and, behind that, workers each with a frontend of its own."""
import importlib.util
import json
import os
import pathlib
import random
import socket
import sys
import tempfile
import threading
import unittest
from concurrent.futures import ThreadPoolExecutor

import cluster
import harness

SYSTEM_PYTHON = "/usr/bin/python3"  # the distribution's, which has its packages
if importlib.util.find_spec("grpc") is None and sys.executable != SYSTEM_PYTHON:
    os.execv(SYSTEM_PYTHON, [SYSTEM_PYTHON, *sys.argv])

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "epp"))
try:
    import grpc
    import gateway
    from gateway import MODES, Gateway, Refused, Request
except (ImportError, FileNotFoundError) as error:
    grpc, MISSING = None, str(error)

BLOCK = 16
WORKER = ("--engine", "mock", "--kv-tokens", "65536", "--max-context", "8192")
SLOW = (*WORKER, "--mock-step-time", "20ms")
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


def tokens(seed, count):
    draw = random.Random(seed)
    return [draw.randrange(100, 1000) for _ in range(count)]


def dump(body):
    return json.dumps(body).encode()


def prompt(ids, **more):
    return dump({"prompt": ids, "max_tokens": 4, "ignore_eos": True, "nvext": {"extra_fields": ["worker_id"]}, **more})


def free_port(hosts):
    """One that nobody has on any of the hosts."""
    draw = random.Random()
    while True:
        port = draw.randrange(15000, 30000)
        try:
            for host in hosts:
                with socket.socket() as probe:
                    probe.bind((host, port))
            return port
        except OSError:
            continue


class Pods:
    """So many pods: a worker and a frontend that only sends where it is told, on an address of its own; and a picker."""

    def __init__(self, count, *picker_flags, worker_flags=WORKER, router=None):
        self.folder = tempfile.TemporaryDirectory(prefix="pixii-epp-")
        self.hosts = [f"127.0.0.{number + 2}" for number in range(count)]
        self.endpoint_port = free_port(self.hosts)
        self.processes, self.workers, self.pods, self.worker_flags = [], {}, [], worker_flags
        where = f"{self.folder.name}/cluster"
        try:
            if router is not None:
                self.router = harness.Server.__new__(harness.Server)
                self.router.start(["router", "--port", "0", "--discovery", f"file:{where}", *router])
                self.processes.append(self.router)
            for host in self.hosts:
                self.add(host)
            port_file = pathlib.Path(self.folder.name) / "ext-proc"
            self.picker = harness.Server.__new__(harness.Server)
            self.picker.start(["epp", "--port", "0", "--discovery", f"file:{where}", "--ext-proc-port", "0", "--ext-proc-port-file",
                               str(port_file), "--endpoint-port", str(self.endpoint_port), *picker_flags])
            self.gateway = Gateway(int(port_file.read_text()))
            self.picker.wait_for(lambda: self.worker_count() == count, 30, f"{count} workers")
        except BaseException:
            for process in self.processes:
                process.kill()
            raise

    def add(self, host):
        worker = cluster.Worker(f"{self.folder.name}/cluster", "tiny-chat", "--worker-host", host, *self.worker_flags)
        self.processes.append(worker)
        harness.wait_for(lambda: "event=worker.ready " in worker.log_text(), 30, "the worker says its name", worker.log_text)
        self.workers[worker.instance()] = f"{host}:{self.endpoint_port}"
        beside = harness.Server.__new__(harness.Server)
        beside.start(["frontend", "--host", host, "--port", str(self.endpoint_port), "--router-mode", "direct",
                      "--discovery", f"file:{self.folder.name}/cluster", "--canary-interval", "0"])
        self.processes.append(beside)
        self.pods.append((worker, beside))

    def worker_count(self):
        return sum(v for k, v in self.picker.metrics().items() if k.startswith("dynamo_frontend_model_workers{"))

    def load(self):
        """Requests and blocks that the picker's router counts."""
        values = self.picker.metrics()
        return sum(v for k, v in values.items()
                   if k.startswith(("dynamo_frontend_worker_active_decode_blocks{", "dynamo_frontend_worker_active_prefill_tokens{")))

    def wait_for_blocks(self, history, worker, blocks):
        """Until the picker has heard that the worker holds so much of a prompt."""
        def there():
            _, answer = self.picker.post("/router/explain", {"token_ids": history, "max_tokens": 4})
            found = {one["worker_id"]: one for one in answer["candidates"]}
            return worker in found and found[worker]["input"]["device_blocks"] >= blocks
        harness.wait_for(there, 30, f"worker {worker} is known to have {blocks} blocks")

    def wait_for_no_load(self):
        self.picker.wait_for(lambda: self.load() == 0 and self.picker.metrics()["pixii_epp_streams"] == 0, 20, "nothing counts any more")

    def count(self, result):
        return self.picker.metrics()[f'pixii_epp_requests_total{{result="{result}"}}']

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.gateway.channel.close()
        for process in (self.picker, *reversed(self.processes)):
            process.__exit__(kind, value, trace)
        self.folder.cleanup()


@unittest.skipIf(grpc is None, "python3-grpcio, python3-protobuf and protobuf-compiler are not installed")
class Picking(unittest.TestCase):
    def ask(self, pods, body, path=COMPLETIONS, **options):
        status, answer, request = pods.gateway.ask(path, body, **options)
        self.assertEqual(status, 200, answer)
        answer = json.loads(answer)
        worker = answer["nvext"]["worker_id"]["decode_worker_id"]
        self.assertEqual(request.endpoint, pods.workers[worker], "the worker is the one beside the frontend that was asked")
        return worker, answer, request

    def test_prompts_go_where_their_blocks_are(self):  # H9
        with Pods(3) as pods:
            homes = {}
            for turn in range(3):
                for session in range(9):
                    history = homes.get(session, (None, tokens(session, 20 * BLOCK)))[1]
                    if turn:
                        pods.wait_for_blocks(history, homes[session][0], 19)
                    worker, answer, request = self.ask(pods, prompt(history, return_token_ids=True))
                    if turn:
                        self.assertEqual(worker, homes[session][0])
                        self.assertGreaterEqual(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 19 * BLOCK)
                    self.assertEqual(json.loads(request.body)["nvext"]["token_data"], history)
                    history = history + answer["choices"][0]["token_ids"] + tokens(f"{turn} {session}", BLOCK)
                    homes[session] = worker, history
                pods.wait_for_no_load()
            self.assertGreater(len({worker for worker, _ in homes.values()}), 1)
            self.assertEqual(pods.count("routed"), 27)
            cached = pods.picker.metrics()
            self.assertEqual(cached['dynamo_epp_cached_tokens_count{model="tiny-chat"}'], 27)
            self.assertGreaterEqual(cached['dynamo_epp_cached_tokens_sum{model="tiny-chat"}'], 18 * 19 * BLOCK)

    def test_every_way_of_bodies_gives_the_same_answer(self):
        with Pods(2) as pods:
            chat = {"messages": [{"role": "user", "content": "tell me of the river " * 300}], "max_tokens": 8, "temperature": 0,
                    "nvext": {"extra_fields": ["worker_id"]}}
            said = set()
            for options in ({}, {"say_mode": False}, {"trailers": True}, {"mode": MODES.BUFFERED}, {"mode": MODES.BUFFERED_PARTIAL}):
                _, answer, request = self.ask(pods, dump(chat), CHAT, **options)
                said.add(answer["choices"][0]["message"]["content"])
                sent = json.loads(request.body)
                self.assertEqual(len(sent["nvext"]["token_data"]), answer["usage"]["prompt_tokens"])
                self.assertEqual({k: v for k, v in sent.items() if k != "nvext"}, {k: v for k, v in chat.items() if k != "nvext"})
            self.assertEqual(pods.count("routed"), 5)
            for mode in (MODES.STREAMED, MODES.NONE):  # nobody knows the prompt in time
                _, answer, _ = self.ask(pods, dump(chat), CHAT, mode=mode)
                said.add(answer["choices"][0]["message"]["content"])
            self.assertEqual(pods.count("spread"), 2)
            self.assertEqual(len(said), 1, said)
            pods.wait_for_no_load()

    def test_without_token_data_bodies_stay_as_they_are(self):
        with Pods(1, "--no-token-data") as pods:
            body = prompt(tokens("a", 40)) + b"  "
            for mode in (MODES.FULL_DUPLEX_STREAMED, MODES.BUFFERED):
                self.assertEqual(self.ask(pods, body, mode=mode)[2].body, body)

    def test_streams_are_relayed_and_counted_to_their_end(self):
        with Pods(2, worker_flags=SLOW) as pods:
            request = Request(pods.gateway, COMPLETIONS, prompt(tokens("s", 10 * BLOCK), stream=True, max_tokens=60)).route()
            self.assertGreater(pods.load(), 0)
            request.send()
            request.relay(200)
            prefill = lambda: sum(v for k, v in pods.picker.metrics().items() if k.startswith("dynamo_frontend_worker_active_prefill_tokens{"))
            pods.picker.wait_for(lambda: prefill() == 0, 10, "the first token says that the prompt is computed")
            self.assertGreater(pods.load(), 0)
            rest = request.relay()
            self.assertTrue(rest.endswith(b"data: [DONE]\n\n"))
            pods.picker.wait_for(lambda: pods.load() == 0, 10, "the answer's end is heard")
            self.assertEqual(request.close(), grpc.StatusCode.OK)
            values = pods.picker.metrics()
            output = sum(v for k, v in values.items() if k.startswith("dynamo_component_router_output_sequence_tokens_sum"))
            self.assertTrue(60 <= output <= 64, output)

    def test_nothing_is_left_of_streams_that_break(self):
        with Pods(2, worker_flags=SLOW) as pods:
            def broken(number):
                request = Request(pods.gateway, COMPLETIONS, prompt(tokens(number, 4 * BLOCK), stream=True, max_tokens=50))
                if number % 4 == 0:
                    request.break_off()  # perhaps before it was heard of
                    return
                request.route()
                if number % 4 > 1:
                    request.send().relay(100)
                if number % 4 == 3:
                    request.close()
                else:
                    request.break_off()
                if number % 4 > 1:
                    request.connection.close()

            with ThreadPoolExecutor(8) as pool:
                list(pool.map(broken, range(40)))
            pods.wait_for_no_load()
            self.ask(pods, prompt(tokens("after", 40)))

    def test_subsets_are_kept_to(self):
        with Pods(3) as pods:
            endpoints = sorted(pods.workers.values())
            for number, endpoint in enumerate(endpoints * 2):
                self.assertEqual(self.ask(pods, prompt(tokens(number, 30)), subset=[endpoint, "10.0.0.1:80"])[2].endpoint, endpoint)
                self.assertEqual(pods.gateway.ask("/v1/models", None, subset=[endpoint])[2].endpoint, endpoint)
            for subset in ([], ["10.0.0.1:80"]):
                for path, body in ((COMPLETIONS, prompt([1, 2, 3])), ("/v1/models", None)):
                    with self.assertRaises(Refused) as refused:
                        Request(pods.gateway, path, body, subset=subset).route()
                    self.assertEqual(refused.exception.status, 503)
            pods.wait_for_no_load()

    def test_what_has_no_prompt_goes_round(self):
        with Pods(2) as pods:
            seen = [pods.gateway.ask("/v1/models", None) for _ in range(4)]
            self.assertEqual({status for status, _, _ in seen}, {200})
            self.assertEqual({request.endpoint for _, _, request in seen}, set(pods.workers.values()))
            status, answer, _ = pods.gateway.ask("/tokenize", dump({"prompt": "the river"}))
            self.assertEqual(status, 200, answer)
            self.assertEqual((pods.count("spread"), pods.count("routed")), (5, 0))

    def test_errors_are_answers(self):
        with Pods(1, "--body-limit", "32768") as pods:
            for body, status, code in ((b"{", 400, None), (dump({"prompt": [1], "max_tokens": -1}), 400, "max_tokens"),
                                       (dump({"prompt": [1], "model": "other"}), 404, "model"), (b" " * 40000, 413, None)):
                for mode in (MODES.FULL_DUPLEX_STREAMED, MODES.BUFFERED):
                    with self.assertRaises(Refused) as refused:
                        Request(pods.gateway, COMPLETIONS, body, mode=mode).route()
                    self.assertEqual(refused.exception.status, status, refused.exception)
                    error = json.loads(refused.exception.body)["error"]
                    self.assertTrue(error["message"])
                    if code:
                        self.assertEqual(error["param"], code)
                    self.assertEqual(refused.exception.headers["content-type"], "application/json")
            with self.assertRaises(Refused) as refused:
                Request(pods.gateway, COMPLETIONS, prompt([1]), headers={"x-dynamo-worker-instance-id": "12345"}).route()
            self.assertEqual(refused.exception.status, 503)
            self.assertGreaterEqual(pods.count("refused"), 6)
            self.ask(pods, prompt([1, 2, 3]))
            pods.wait_for_no_load()

    def test_full_workers_are_429(self):
        with Pods(1, "--active-prefill-tokens-threshold", "100", worker_flags=SLOW) as pods:
            first = Request(pods.gateway, COMPLETIONS, prompt(tokens("a", 200))).route()
            with self.assertRaises(Refused) as refused:
                Request(pods.gateway, COMPLETIONS, prompt(tokens("b", 200))).route()
            self.assertEqual(refused.exception.status, 429, refused.exception)
            self.assertIn("retry-after", {name.lower() for name in refused.exception.headers})
            first.send().relay()
            first.close()
            pods.picker.wait_for(lambda: pods.load() == 0, 10, "it is over")
            self.ask(pods, prompt(tokens("b", 200)))

    def test_health_follows_the_workers(self):
        with Pods(1) as pods:
            gateway_ = pods.gateway
            self.assertEqual({gateway_.check(name) for name in ("", "readiness", "envoy.service.ext_proc.v3.ExternalProcessor")}, {"SERVING"})
            with self.assertRaises(grpc.RpcError) as unknown:
                gateway_.check("nobody")
            self.assertEqual(unknown.exception.code(), grpc.StatusCode.NOT_FOUND)
            watch = gateway_.watch("readiness")
            self.assertEqual(next(watch).status, 1)
            self.assertEqual(next(gateway_.watch("nobody")).status, 3)
            worker, _ = pods.pods[0]
            worker.stop()
            self.assertEqual(next(watch).status, 2)
            self.assertEqual((gateway_.check("readiness"), gateway_.check("liveness")), ("NOT_SERVING", "SERVING"))
            for path, body in ((COMPLETIONS, prompt([1, 2, 3])), ("/v1/models", None)):
                with self.assertRaises(Refused) as refused:
                    Request(gateway_, path, body).route()
                self.assertEqual(refused.exception.status, 503)
            pods.add("127.0.0.30")
            self.assertEqual(next(watch).status, 1)
            watch.cancel()

    def test_garbage_harms_nobody(self):
        with Pods(1) as pods:
            draw = random.Random(5)
            good = gateway.pb.ProcessingRequest(request_headers=gateway.pb.HttpHeaders(
                headers=gateway.header_map({":method": "POST", ":path": COMPLETIONS}))).SerializeToString()
            answer = gateway.pb.ProcessingRequest(response_headers=gateway.pb.HttpHeaders()).SerializeToString()
            self.assertEqual(pods.gateway.raw([answer]), grpc.StatusCode.INVALID_ARGUMENT)
            self.assertEqual(pods.gateway.raw([good, good]), grpc.StatusCode.INVALID_ARGUMENT)
            for _ in range(200):
                piece = bytearray(good * 2)
                for _ in range(draw.randrange(1, 6)):
                    piece[draw.randrange(len(piece))] = draw.randrange(256)
                status = pods.gateway.raw([bytes(piece[:draw.randrange(1, len(piece))]), answer])
                self.assertIn(status, (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OK))
            with self.assertRaises(grpc.RpcError) as unknown:
                pods.gateway.channel.unary_unary("/envoy.service.ext_proc.v3.ExternalProcessor/Other")(b"", timeout=60)
            self.assertEqual(unknown.exception.code(), grpc.StatusCode.UNIMPLEMENTED)
            self.ask(pods, prompt([1, 2, 3]))
            pods.wait_for_no_load()

    def test_a_picker_that_ends_hears_its_requests_out(self):
        with Pods(1, worker_flags=SLOW) as pods:
            request = Request(pods.gateway, COMPLETIONS, prompt(tokens("s", 40), stream=True, max_tokens=60)).route().send()
            request.relay(200)
            watch = pods.gateway.watch("readiness")
            self.assertEqual(next(watch).status, 1)
            status = []
            ending = threading.Thread(target=lambda: status.append(pods.picker.stop()))
            ending.start()
            self.assertEqual(next(watch).status, 2)
            self.assertTrue(request.relay().endswith(b"data: [DONE]\n\n"))
            self.assertEqual(request.close(), grpc.StatusCode.OK)
            ending.join(60)
            self.assertEqual(status, [0])

    def test_a_router_of_its_own_process_decides(self):
        with Pods(2, "--router-url", "discovery", router=()) as pods:
            history = tokens("r", 20 * BLOCK)
            self.ask(pods, prompt(history))
            request = Request(pods.gateway, COMPLETIONS, prompt(history)).route()

            def running():
                status, answer = pods.router.request("GET", "/loads")[::2]
                return status == 200 and '"active_requests": 1' in json.dumps(answer)
            harness.wait_for(running, 10, "the router counts it", lambda: json.dumps(pods.router.request("GET", "/loads")[2]))
            request.break_off()
            harness.wait_for(lambda: not running(), 10, "the router counts it no more")


if __name__ == "__main__":
    harness.main()
