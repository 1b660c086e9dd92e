"""Handlers as workers of a cluster.

Threads: one asyncio loop runs every handler of a Runtime. The extension's own thread speaks with frontends and never waits for
Python, so that deadlines, cancellations and errors go on whatever a handler does with the loop or the interpreter's lock.
"""
import asyncio
import contextlib
import enum
import functools
import inspect
import os
import signal

import _pixii

from . import _endpoint_client, _errors

_BATCH_MAX = 64  # outputs that wait for the end of the loop's turn
_TURN_MAX = 32  # outputs of one handler that never waits, before others get their turn
_OF_CLIENTS_ALONE = "fleet_tls_"
_OF_CLIENTS = ("discovery", "discovery_backend", "request_plane", "log_level", "log_format", "log_jsonl")  # flags that clients of endpoints have, too
_CANCEL_GRACE_SECONDS = 1.0  # for a handler to end by itself, before it gets asyncio.CancelledError


class ModelInput(enum.Enum):
    Tokens = "tokens"
    Text = "text"
    Tensor = "tensor"


class ModelType(enum.Flag):
    Chat = enum.auto()
    Completions = enum.auto()
    Embedding = enum.auto()
    Prefill = enum.auto()


class WorkerType(enum.Enum):
    Aggregated = "agg"
    Prefill = "prefill"
    Decode = "decode"
    Encode = "encode"


class ModelRuntimeConfig:
    """Sizes as frontends and routers are told. 0: as the model's files say, or a usual value."""

    def __init__(self, *, total_kv_blocks=0, max_num_seqs=0, max_num_batched_tokens=0):
        self.total_kv_blocks = total_kv_blocks
        self.max_num_seqs = max_num_seqs
        self.max_num_batched_tokens = max_num_batched_tokens


class Context:
    """What a handler knows of its request besides the request itself."""

    def __init__(self, request_id, loop):
        self._id, self._loop, self._stopped = request_id, loop, False
        self._event = None
        self.metadata = {}

    def id(self):
        return self._id

    def is_stopped(self):
        return self._stopped

    is_killed = is_stopped

    def stop_generating(self):
        self._stopped = True
        if self._event is not None:
            self._event.set()

    async def async_killed_or_stopped(self):
        """Returns once nobody wants more."""
        if self._event is None:
            self._event = asyncio.Event()
            if self._stopped:
                self._event.set()
        await self._event.wait()
        return True


class _Model:
    def __init__(self, path, name, context_length, block_size, config):
        self.path, self.name, self.context_length, self.block_size = path, name, context_length, block_size
        self.config = config or ModelRuntimeConfig()


class KvEventPublisher:
    """Tells routers what a handler's KV cache holds. Hashes are the engine's own; those of tokens are made here."""

    def __init__(self, endpoint, *, dp_rank=0):
        self._endpoint, self._rank = endpoint, dp_rank

    def publish_stored(self, token_ids, block_hashes, parent_hash=None, lora_name="", cache_salt=""):
        """`token_ids`: all tokens of the blocks, in a row behind the block `parent_hash`."""
        self._endpoint._native_or_raise().tell_stored(list(block_hashes), list(token_ids), parent_hash, self._rank, lora_name or "",
                                                      cache_salt or "")

    def publish_removed(self, block_hashes):
        self._endpoint._native_or_raise().tell_removed(list(block_hashes), self._rank)

    def publish_cleared(self):
        self._endpoint._native_or_raise().tell_cleared(self._rank)


class Endpoint:
    """Requests of one model, as a handler gets them. Made by Runtime.endpoint."""

    def __init__(self, runtime, namespace, component, name):
        self.runtime, self.namespace, self.component, self.name = runtime, namespace, component, name
        self._model = None
        self._native = None
        self._handler = None
        self._wants_context = False
        self._tasks = {}  # key -> (task, context)
        self._out = []
        self._flush_due = False
        self._health = None
        self._turning = None  # while it is served
        self.faults = 0  # handlers that raised

    def __str__(self):
        return f"{self.namespace}.{self.component}.{self.name}"

    def instance_id(self):
        """Its id in the cluster; None before it is served."""
        return self._native.card()["instance_id"] if self._native is not None else None

    def card(self):
        """The model as frontends know it."""
        return self._native_or_raise().card()

    def encode(self, text, special=False):
        """Tokens of `text` by the model's tokenizer. `special`: with what it puts around a text, and special tokens read as such."""
        return self._native_or_raise().encode(text, special)

    def decode(self, token_ids):
        return self._native_or_raise().decode(list(token_ids))

    async def client(self):
        """An EndpointClient of all instances of this endpoint, wherever they are. It ends with its `close`, or `async with`."""
        return await _endpoint_client.EndpointClient(self, self.runtime._client_arguments)._start()

    def kv_publisher(self, dp_rank=0):
        return KvEventPublisher(self, dp_rank=dp_rank)

    def _native_or_raise(self):
        if self._native is None:
            raise _errors.Unavailable(f"{self} is not served")
        return self._native

    async def serve_endpoint(self, handler, graceful_shutdown=True, metrics_labels=None, health_check_payload=None, *, on_ready=None,
                             silence_timeout=120.0, concurrency_max=4096):
        """Serves until the runtime ends. `handler(request[, context])` is an async generator of dictionaries.

        `health_check_payload`: a request of our own that proves, while nothing else does, that the handler answers; until it did
        there are no others. `silence_timeout`: seconds a handler may give nothing for a request. `metrics_labels`: kept for callers of
        Dynamo's package; our metrics have no free labels, so that any other than an empty list is refused.
        """
        if self._native is not None:
            raise _errors.InvalidArgument(f"{self} is served already")
        if metrics_labels:
            for label in metrics_labels:
                if not (isinstance(label, (tuple, list)) and len(label) == 2 and all(isinstance(part, str) for part in label)):
                    raise _errors.InvalidArgument(f"metrics_labels: {label!r} is no pair of texts", param="metrics_labels")
                if label[0] not in ("model", "model_name"):
                    raise _errors.Unsupported(f"metrics_labels: our metrics have no label {label[0]}", param="metrics_labels")
        if self._model is None:
            raise _errors.InvalidArgument(f"register_model was not called for {self}", param="endpoint")
        self._handler = handler
        self._wants_context = _takes_context(handler)
        self._health = dict(health_check_payload) if health_check_payload else None
        loop = asyncio.get_running_loop()
        wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        model = self._model
        arguments = [*self.runtime._arguments, "--namespace", self.namespace, "--component", self.component, "--endpoint", self.name]
        native = _pixii.Endpoint(
            wake=wake, arguments=arguments, model=model.path or "", name=model.name or "", context_tokens=model.context_length or 0,
            block_tokens=model.block_size or 0, block_count=model.config.total_kv_blocks or 0,
            batch_sequences=model.config.max_num_seqs or 0, batch_tokens=model.config.max_num_batched_tokens or 0,
            choices_max=concurrency_max, silence_s=float(silence_timeout), proves=self._health is not None,
            prove_interval_s=self.runtime._canary_interval, prove_timeout_s=self.runtime._canary_timeout)
        self._turning = loop
        ended = asyncio.Event()

        def on_wake():
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(wake)
            if not ended.is_set():
                self._take()
                if native.stopped:
                    ended.set()

        try:
            self._native = native
            loop.add_reader(wake, on_wake)
            await loop.run_in_executor(None, native.start)
            self.runtime._served.append(self)
            if on_ready is not None:
                on_ready(self)
            stop = asyncio.ensure_future(self.runtime._ending.wait())
            gone = asyncio.ensure_future(ended.wait())
            await asyncio.wait({stop, gone}, return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
            native.stop(graceful_shutdown)
            await gone
        finally:
            if not native.stopped:
                native.stop(False)
            ended.set()
            loop.remove_reader(wake)
            for task, context in list(self._tasks.values()):
                context.stop_generating()
                task.cancel()
            await loop.run_in_executor(None, native.join)
            self._native = None
            self.runtime._served = [one for one in self.runtime._served if one is not self]
            os.close(wake)

    def _take(self):
        for task in self._native.take():
            kind, key = task[0], task[1]
            if kind == "c":
                running = self._tasks.get(key)
                if running is not None:
                    running[1].stop_generating()
                    self._turning.call_later(_CANCEL_GRACE_SECONDS, self._cut, key)
                continue
            if kind == "b":
                request, request_id = task[2], f"{task[3]:x}-{key:x}"
            else:
                request, request_id = {**self._health, "_HEALTH_CHECK": True}, f"health-{key:x}"
            context = Context(request_id, self._turning)
            running = self._turning.create_task(self._run(key, request, context))
            self._tasks[key] = (running, context)

    def _cut(self, key):
        running = self._tasks.get(key)
        if running is not None:
            running[0].cancel()

    async def _run(self, key, request, context):
        fault = None
        answers = None
        turn = 0
        try:
            answers = self._handler(request, context) if self._wants_context else self._handler(request)
            if inspect.isawaitable(answers):
                answers = await answers
            if not hasattr(answers, "__aiter__"):
                raise _errors.ModelFault(f"the handler returned a {type(answers).__name__}, not an async generator")
            async for answer in answers:
                if context._stopped:
                    break
                self._give((key, answer))
                turn += 1
                if turn % _TURN_MAX == 0:
                    await asyncio.sleep(0)
        except (asyncio.CancelledError, GeneratorExit) as error:
            # Nobody wants more, or the process ends: then somebody else may go on.
            fault = (key, None, "Unavailable", f"the handler was stopped: {type(error).__name__}")
        except _errors.PixiiError as error:
            fault = (key, None, error.code, error.detail)
        except BaseException as error:  # whatever a handler raises is of its request alone
            fault = (key, None, "ModelFault", f"the handler raised {type(error).__name__}: {str(error)[:500]}")
        finally:
            self._tasks.pop(key, None)
            if fault is not None and not context._stopped:
                self.faults += 1
            context._stopped = True
            self._give(fault if fault is not None else (key, None))
            if answers is not None and hasattr(answers, "aclose"):
                with contextlib.suppress(BaseException):
                    await asyncio.wait_for(answers.aclose(), _CANCEL_GRACE_SECONDS)

    def _give(self, item):
        self._out.append(item)
        if len(self._out) >= _BATCH_MAX:
            self._flush()
        elif not self._flush_due:
            self._flush_due = True
            self._turning.call_soon(self._flush_turn)

    def _flush_turn(self):
        self._flush_due = False
        self._flush()

    def _flush(self):
        if self._out:
            out, self._out = self._out, []
            if self._native is not None:
                self._native.give(out)


def _takes_context(handler):
    try:
        parameters = inspect.signature(handler).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(positional) >= 2 or any(p.kind == p.VAR_POSITIONAL for p in parameters)


class Component:
    def __init__(self, runtime, namespace, name):
        self.runtime, self.namespace, self.name = runtime, namespace, name

    def endpoint(self, name):
        return self.runtime.endpoint(f"{self.namespace}.{self.name}.{name}")

    async def create_service(self):
        """Nothing is to be made; kept for callers of Dynamo's package."""


class Namespace:
    def __init__(self, runtime, name):
        self.runtime, self.name = runtime, name

    def component(self, name):
        return Component(self.runtime, self.name, name)


class Runtime:
    """This process as part of a cluster.

    `discovery` as `pixii worker --discovery`; `flags` are further flags of `pixii worker` by name, with underscores:
    Runtime(discovery="file:/tmp/cluster", stall_limit="10s", system_port=0). Clients of endpoints take those of `pixii frontend` that begin
    with fleet_tls_, too.
    """

    def __init__(self, loop=None, *, discovery=None, canary_interval=10.0, canary_timeout=10.0, **flags):
        self._loop = loop
        self._arguments, self._client_arguments = [], []
        if discovery is not None:
            flags["discovery"] = discovery
        for name, value in flags.items():
            flag = "--" + name.replace("_", "-")
            words = [flag if value else f"--no-{flag[2:]}"] if isinstance(value, bool) else [flag, str(value)]
            if not name.startswith(_OF_CLIENTS_ALONE):
                self._arguments += words
            if name in _OF_CLIENTS or name.startswith(_OF_CLIENTS_ALONE):
                self._client_arguments += words
        self._canary_interval, self._canary_timeout = float(canary_interval), float(canary_timeout)
        self._ending = asyncio.Event()
        self._served = []

    def endpoint(self, path):
        """`path`: namespace.component.endpoint, perhaps behind dyn://."""
        words = path.removeprefix("dyn://").split(".")
        if len(words) != 3 or not all(words):
            raise _errors.InvalidArgument(f"endpoint: {path!r} is not namespace.component.endpoint", param="endpoint")
        return Endpoint(self, *words)

    def namespace(self, name):
        return Namespace(self, name)

    def shutdown(self):
        """Everything that is served drains and ends."""
        self._ending.set()

    async def wait_for_shutdown(self):
        await self._ending.wait()

    def handle_signals(self):
        """SIGTERM and SIGINT: shutdown()."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.shutdown)


DistributedRuntime = Runtime


async def register_model(model_input=ModelInput.Tokens, model_type=ModelType.Chat | ModelType.Completions, endpoint=None, model_path=None,
                         model_name=None, *, worker_type=WorkerType.Aggregated, needs=None, context_length=None, kv_cache_block_size=None,
                         runtime_config=None, migration_limit=None, user_data=None, custom_template_path=None):
    """Says which model `endpoint` answers for: `model_path` is a folder, a bundled name or a hub's, whose texts frontends use."""
    if not isinstance(endpoint, Endpoint):
        raise _errors.InvalidArgument("endpoint: must be one of Runtime.endpoint", param="endpoint")
    if model_input not in (ModelInput.Tokens,):
        raise _errors.Unsupported(f"model_input: handlers get tokens, not {model_input.value}; they may yield text", param="model_input")
    if model_type & (ModelType.Embedding | ModelType.Prefill):
        raise _errors.Unsupported("model_type: handlers generate; embeddings and prefill are of pixii worker", param="model_type")
    if worker_type != WorkerType.Aggregated or needs:
        raise _errors.Unsupported("worker_type: handlers answer whole requests", param="worker_type")
    for name, value in (("migration_limit", migration_limit), ("user_data", user_data), ("custom_template_path", custom_template_path)):
        if value is not None:
            raise _errors.Unsupported(f"{name}: is the frontend's own flag here", param=name)
    endpoint._model = _Model(model_path, model_name, context_length, kv_cache_block_size, runtime_config)


register_llm = register_model


def dynamo_worker(**flags):
    """Decorator: `async def worker(runtime, ...)` runs with a Runtime, which ends with the signal that ends the process."""
    def decorate(function):
        @functools.wraps(function)
        async def run(*args, **kwargs):
            runtime = Runtime(**flags)
            with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
                runtime.handle_signals()
            return await function(runtime, *args, **kwargs)
        return run
    return decorate


def dynamo_endpoint(request_type=None, response_type=None):
    """Decorator of a handler; each answer that is no dictionary becomes one by its `model_dump` or `__dict__`."""
    def as_dict(answer):
        dump = getattr(answer, "model_dump", None)
        return dump() if dump is not None else answer

    def decorate(function):
        wants_context = _takes_context(function)

        @functools.wraps(function)
        async def run(request, context=None):
            given = request_type(**request) if request_type not in (None, dict) else request
            async for answer in (function(given, context) if wants_context else function(given)):
                yield as_dict(answer)
        return run
    return decorate
