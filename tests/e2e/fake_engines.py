"""Engines that speak as the published interfaces of vLLM, SGLang, trtllm-serve and OpenAI's completions say.

They compute nothing: the tokens of an answer are a function of its prompt and position, `answer()`. These are not the real
engines; docs/attached_engines.md says so.
"""
import itertools
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FIRST, COUNT = 300, 3000  # tokens of answers; whole words of tiny-chat's vocabulary lie there


def answer(prompt, count):
    """The tokens that follow a prompt."""
    state = sum((i + 1) * token for i, token in enumerate(prompt))
    return [FIRST + (state * 31 + i * 7919) % COUNT for i in range(count)]


class FakeEngine:
    """An HTTP server; `script` says what it does with the next requests: None for an answer, or one of
    "status NNN", "hang", "hang before", "cut N" (after N pieces), "json", "twice", "no end", "error".

    One with a `role`, "prefill" or "decode", hands prompts over to others of its kind, or takes them: `kept` is what it
    computed and nobody has taken, `fetched` which prompts it took from others."""

    meeting = threading.Condition()
    rooms = {}   # SGLang's: room -> prompt that its prefill engine has computed; None once it was taken
    said = {}    # what prefill engines said of what they keep, as JSON -> (engine, prompt)
    numbers = itertools.count(1)

    def __init__(self, kind, words="the river runs on and on".split(), block_size=16, role=None):
        self.kind, self.words, self.block_size, self.role = kind, words, block_size, role
        self.kept, self.fetched = [], []
        self.script, self.seen, self.cached = None, [], 0
        self.open, self.aborted, self.pause = 0, 0, 0.0
        self.adapters, self.kv_events = {}, []
        self.trials = 0
        engine = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments):
                pass

            def do_GET(self):
                engine.get(self)

            def do_POST(self):
                engine.post(self)

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, address):
                pass  # a peer that closed

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *arguments):
        self.close()

    @staticmethod
    def say(handler, body, status=200, kind="application/json"):
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    def get(self, handler):
        path = handler.path
        if path == "/v1/models":
            models = [{"id": "fake-model", "object": "model", "max_model_len": 4096}]
            models += [{"id": name, "root": root, "parent": "fake-model"} for name, root in self.adapters.items()]
            self.say(handler, {"object": "list", "data": models})
        elif path == "/metrics" and self.kind == "vllm":
            self.say(handler, f'vllm:num_requests_running{{engine="0"}} {self.open}\nvllm:num_requests_waiting 0\n'
                              f'vllm:cache_config_info{{block_size="{self.block_size}",num_gpu_blocks="500"}} 1\n', kind="text/plain")
        elif path == "/metrics" and self.kind == "sglang":
            self.say(handler, f"sglang:num_running_reqs {self.open}\nsglang:num_queue_reqs 0\n", kind="text/plain")
        elif path == "/metrics" and self.kind == "trtllm":
            self.say(handler, [{"numActiveRequests": self.open, "numQueuedRequests": 0,
                                "kvCacheStats": {"maxNumBlocks": 500, "usedNumBlocks": 0, "tokensPerBlock": self.block_size}}])
        elif path == "/get_server_info" and self.kind == "sglang":
            self.say(handler, {"page_size": self.block_size, "context_length": 4096, "max_total_num_tokens": 8000})
        else:
            self.say(handler, {"detail": "Not Found"}, 404)

    def post(self, handler):
        body = json.loads(handler.rfile.read(int(handler.headers.get("Content-Length", 0))) or b"{}")
        path = handler.path
        if path == "/v1/completions" and self.kind != "sglang":
            self.complete(handler, body, body["prompt"], body["max_tokens"])
        elif path == "/generate" and self.kind == "sglang":
            self.complete(handler, body, body["input_ids"], body["sampling_params"]["max_new_tokens"])
        elif path == "/kv_cache_events" and self.kind == "trtllm":
            events, self.kv_events = self.kv_events, []
            self.say(handler, events)
        elif path.endswith("load_lora_adapter") and self.kind in ("vllm", "sglang"):
            if "unload" in path:
                self.adapters.pop(body["lora_name"])
            else:
                self.adapters[body["lora_name"]] = body["lora_path"]
            self.say(handler, "Success", kind="text/plain")
        else:
            self.say(handler, {"detail": "Not Found"}, 404)

    def complete(self, handler, body, prompt, count):
        takes_tokens = self.kind != "openai"
        if takes_tokens != isinstance(prompt, list):
            self.say(handler, {"error": {"message": "this engine takes no such prompt", "code": 400}}, 400)
            return
        if self.role == "prefill" and prompt != [1] or self.role == "decode" and body.get("stream"):
            if self.script and self.script.startswith("status"):
                self.say(handler, {"error": {"message": "as the script says"}}, int(self.script.split()[1]))
                return
            self.seen.append(body)
            if self.role == "prefill":
                self.prefill(handler, body, prompt)
                return
            why = self.fetch(body, prompt)
            if why is not None:
                self.say(handler, {"error": {"message": why, "code": 400}}, 400)
                return
            self.seen.pop()
        if not body.get("stream"):
            choice = {"index": 0, "text": "x", "finish_reason": "length"}
            if self.kind == "vllm" and body.get("return_token_ids") or self.kind == "trtllm" and body.get("detokenize") is False:
                choice["token_ids"] = answer(prompt, count)
            self.say(handler, {"choices": [choice]})
            return
        if prompt != [0]:  # the frontend and the worker try it so
            self.seen.append(body)
        else:
            self.trials += 1
        self.open += 1
        try:
            self.stream(handler, body, prompt, count)
        except (BrokenPipeError, ConnectionResetError):
            self.aborted += 1
        finally:
            self.open -= 1

    def gone(self, handler):
        """Whether the client closes within a minute."""
        handler.connection.settimeout(60)
        try:
            return handler.connection.recv(1) == b""
        except OSError:
            return True

    def prefill(self, handler, body, prompt):
        """Computes a prompt for another engine and says where that finds it."""
        number = next(self.numbers)
        if self.kind == "sglang":
            self.meet(handler, body, prompt)
            return
        choice = {"index": 0, "text": "x", "finish_reason": "length"}
        if self.kind == "vllm":
            asked = {"do_remote_decode": True, "do_remote_prefill": False, "remote_engine_id": None, "remote_block_ids": None,
                     "remote_host": None, "remote_port": None}
            if body.get("kv_transfer_params") != asked or body["max_tokens"] != 1 or body.get("stream") or "min_tokens" in body:
                self.say(handler, {"error": {"message": f"not how a prompt is asked for: {body}", "code": 400}}, 400)
                return
            words = {"do_remote_prefill": True, "do_remote_decode": False, "remote_block_ids": [number, number + 1],
                     "remote_engine_id": f"engine {self.port}", "remote_host": "127.0.0.1", "remote_port": self.port, "tp_size": 1}
            answered = {"choices": [choice], "kv_transfer_params": words}
        else:
            if body.get("disaggregated_params") != {"request_type": "context_only"} or body["max_tokens"] != 1 or body.get("stream"):
                self.say(handler, {"error": {"message": f"not how a prompt is asked for: {body}", "code": 400}}, 400)
                return
            words = {"request_type": "context_only", "first_gen_tokens": answer(prompt, 1), "ctx_request_id": number,
                     "encoded_opaque_state": f"c3RhdGU{number}", "draft_tokens": None, "disagg_request_id": 2**50 + number}
            answered = {"choices": [{**choice, "disaggregated_params": words}]}
        self.kept.append(prompt)
        self.said[json.dumps({**words, "request_type": None}, sort_keys=True)] = (self, prompt)
        self.say(handler, answered)

    def meet(self, handler, body, prompt):
        """SGLang's prefill engine: it has ended when the other one has the prompt."""
        room = (body["bootstrap_host"], body["bootstrap_port"], body["bootstrap_room"])
        with self.meeting:
            self.rooms[room] = prompt
            self.kept.append(prompt)
            self.meeting.notify_all()
            taken = self.meeting.wait_for(lambda: self.rooms[room] is None, 20)
            self.kept.remove(prompt)
        self.say(handler, {"text": "x", "output_ids": answer(prompt, 1), "meta_info": {}}, 200 if taken else 500)

    def fetch(self, body, prompt):
        """Takes a prompt that another engine has computed; why it cannot, or nothing."""
        if self.kind == "sglang":
            if "bootstrap_room" not in body:
                return "Disaggregated request received without bootstrap room id"
            room = (body["bootstrap_host"], body["bootstrap_port"], body["bootstrap_room"])
            with self.meeting:
                if not self.meeting.wait_for(lambda: room in self.rooms, 20):
                    return "nobody came"
                if self.rooms[room] != prompt:
                    return "the prompt in the room is another one"
                self.rooms[room] = None
                self.meeting.notify_all()
            self.fetched.append(prompt)
            return None
        words = body.get("kv_transfer_params" if self.kind == "vllm" else "disaggregated_params")
        if words is None:
            return None  # it computes the prompt itself
        if self.kind == "trtllm" and words.get("request_type") != "generation_only":
            return "not how a prompt's answer is asked for"
        engine, known = self.said.pop(json.dumps({**words, "request_type": None}, sort_keys=True), (None, None))
        if known != prompt:
            return "no prefill engine said this of this prompt"
        engine.kept.remove(prompt)
        self.fetched.append(prompt)
        return None

    def stream(self, handler, body, prompt, count):
        script = self.script
        handler.close_connection = True
        if script and script.startswith("status"):
            self.say(handler, {"error": {"message": "as the script says"}}, int(script.split()[1]))
            return
        if script == "hang before":
            self.aborted += self.gone(handler)
            return
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Connection", "close")
        handler.end_headers()
        pieces = list(self.pieces(body, prompt, count))
        cut = int(script.split()[1]) if script and script.startswith("cut") else None
        for number, piece in enumerate(pieces):
            if number == cut:
                handler.connection.shutdown(socket.SHUT_RDWR)
                return
            if script == "hang" and number == 2:
                self.aborted += self.gone(handler)
                return
            if script == "json" and number == 2:
                handler.wfile.write(b"data: {\"choices\": [\n\n")
            if script == "error" and number == 2:
                handler.wfile.write(b'data: {"error": {"message": "CUDA error", "code": 500}}\n\n')
            if script == "no end" and number == count - 1:
                return
            handler.wfile.write(b"data: " + json.dumps(piece).encode() + b"\n\n")
            handler.wfile.flush()
            if self.pause:
                time.sleep(self.pause)  # as an engine that computes
        if script == "twice":
            handler.wfile.write(b"data: " + json.dumps(pieces[-1]).encode() + b"\n\n")
        handler.wfile.write(b"data: [DONE]\n\n")

    def pieces(self, body, prompt, count):
        if self.kind == "openai":
            said = [self.words[i % len(self.words)] + " " for i in range(count)]
            for i, word in enumerate(said):
                yield {"choices": [{"index": 0, "text": word, "finish_reason": "length" if i + 1 == count else None}]}
            return
        ids = answer(prompt, count)
        if self.kind == "sglang":
            for end in range(1, count + 1):
                meta = {"completion_tokens": end, "cached_tokens": self.cached,
                        "finish_reason": {"type": "length", "length": count} if end == count else None}
                if body.get("return_logprob"):
                    meta["output_token_logprobs"] = [[-0.5, token, None] for token in ids[:end]]
                    meta["output_top_logprobs"] = [[[-0.5, token, None]] for token in ids[:end]]
                yield {"text": "x" * end, "output_ids": ids[:end], "meta_info": meta}
            return
        for i, token in enumerate(ids):
            choice = {"index": 0, "text": "" if self.kind == "trtllm" else "x", "token_ids": [token],
                      "finish_reason": "length" if i + 1 == count else None}
            if body.get("logprobs") is not None:
                name = f"token_id:{token}"
                choice["logprobs"] = {"tokens": [name], "token_logprobs": [-0.5], "top_logprobs": [{name: -0.5}]}
            yield {"choices": [choice]}
        yield {"choices": [], "usage": {"prompt_tokens": len(prompt), "completion_tokens": count}}
