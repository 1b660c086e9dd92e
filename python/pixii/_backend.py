"""The contract of an engine written in Python, and what runs one: from_args -> start -> generate/abort -> drain -> cleanup."""
import abc
import asyncio
import contextlib
import dataclasses
import inspect
import json
import sys
import time

from . import _errors, _runtime


@dataclasses.dataclass
class WorkerConfig:
    """Where the engine joins, as its `from_args` says it."""

    namespace: str = "dynamo"
    component: str = "backend"
    endpoint: str = "generate"
    discovery: str = "file:"
    model_path: str = "tiny-chat"
    model_name: str = ""
    flags: dict = dataclasses.field(default_factory=dict)  # further ones of pixii worker
    silence_timeout: float = 120.0
    drain_timeout: float = 30.0


@dataclasses.dataclass
class EngineConfig:
    """What the engine knows once it has started. 0: as the model's files say."""

    model: str = ""
    served_model_name: str = ""
    context_length: int = 0
    kv_cache_block_size: int = 0
    total_kv_blocks: int = 0
    max_num_seqs: int = 0
    max_num_batched_tokens: int = 0


@dataclasses.dataclass
class PushSource:
    """`run(publisher)` is awaited while the engine is served; it tells `publisher`, a KvEventPublisher, of each change."""

    run: object
    dp_rank: int = 0


@dataclasses.dataclass
class ZmqSource:
    """An address where the engine publishes its KV events itself. Such engines are attached: pixii worker --attach-kv-events."""

    endpoint: str
    topic: str = ""
    dp_rank: int = 0


class LLMEngine(abc.ABC):
    """Subclass it, then `pixii.run(MyEngine)`."""

    @classmethod
    @abc.abstractmethod
    async def from_args(cls, argv):
        """(engine, WorkerConfig); nothing heavy is loaded yet."""

    @abc.abstractmethod
    async def start(self):
        """Loads the model; an EngineConfig."""

    @abc.abstractmethod
    def generate(self, request, context):
        """An async generator of dictionaries, as of a handler."""

    async def abort(self, context):
        """Nobody wants more of the request of `context`; called once, beside context.is_stopped()."""

    async def drain(self):
        """Nothing new comes; called before cleanup, while what runs may still end."""

    async def cleanup(self):
        """Gives everything back. Called once, also if start failed."""

    def kv_event_sources(self):
        return []

    def health_check_payload(self):
        return None

    def register_prometheus(self, registry=None):
        """Kept for engines of Dynamo's; our metrics are the process's own (system_port)."""

    def component_metrics_dp_ranks(self):
        return [0]

    def attach_snapshot_publisher(self, publisher=None):
        """Kept for engines of Dynamo's."""


@dataclasses.dataclass
class Lifecycle:
    """Seconds of an engine's life, as logged at its end."""

    model_load_time_seconds: float = 0.0
    drain_time_seconds: float = 0.0
    cleanup_time_seconds: float = 0.0


async def serve_engine(engine_class, argv=None, *, runtime=None, on_ready=None):
    """Runs one engine from its arguments to its end; a Lifecycle."""
    if not (isinstance(engine_class, type) and issubclass(engine_class, LLMEngine)):
        raise _errors.InvalidArgument(f"run: {engine_class!r} is no subclass of LLMEngine")
    life = Lifecycle()
    engine, config = await engine_class.from_args(list(sys.argv[1:] if argv is None else argv))
    if not isinstance(config, WorkerConfig):
        raise _errors.InvalidArgument(f"from_args: gave a {type(config).__name__}, not a WorkerConfig")
    tasks = []
    try:
        begun = time.monotonic()
        started = await engine.start()
        life.model_load_time_seconds = time.monotonic() - begun
        if runtime is None:
            runtime = _runtime.Runtime(discovery=config.discovery, drain_timeout=f"{int(config.drain_timeout * 1000)}ms", **config.flags)
            with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
                runtime.handle_signals()
        started = started or EngineConfig()
        endpoint = runtime.endpoint(f"{config.namespace}.{config.component}.{config.endpoint}")
        await _runtime.register_model(
            endpoint=endpoint, model_path=started.model or config.model_path, model_name=started.served_model_name or config.model_name,
            context_length=started.context_length, kv_cache_block_size=started.kv_cache_block_size,
            runtime_config=_runtime.ModelRuntimeConfig(total_kv_blocks=started.total_kv_blocks, max_num_seqs=started.max_num_seqs,
                                                       max_num_batched_tokens=started.max_num_batched_tokens))
        sources = list(engine.kv_event_sources() or [])
        for source in sources:
            if not isinstance(source, PushSource):
                raise _errors.Unsupported("kv_event_sources: a ZmqSource is for pixii worker --attach-kv-events; give PushSource")

        def ready(served):
            for source in sources:
                tasks.append(asyncio.ensure_future(source.run(served.kv_publisher(source.dp_rank))))
            if on_ready is not None:
                on_ready(served)

        async def generate(request, context):
            aborting = asyncio.ensure_future(context.async_killed_or_stopped())
            ended = False

            def abort(done):
                if not done.cancelled() and not ended:
                    tasks.append(asyncio.ensure_future(_quietly(engine.abort(context))))
            aborting.add_done_callback(abort)
            try:
                answers = engine.generate(request, context)
                if inspect.isawaitable(answers):
                    answers = await answers
                async for answer in answers:
                    yield answer
            finally:
                # Stopped while it was under way: the engine hears of it, whatever ended first.
                if context.is_stopped() and not aborting.done():
                    aborting.cancel()
                    await _quietly(engine.abort(context))
                ended = True
                aborting.cancel()

        async def drain():
            await runtime.wait_for_shutdown()
            begun_drain = time.monotonic()
            await _quietly(engine.drain())
            life.drain_time_seconds = time.monotonic() - begun_drain

        draining = asyncio.ensure_future(drain())
        try:
            await endpoint.serve_endpoint(generate, health_check_payload=engine.health_check_payload(), on_ready=ready,
                                          silence_timeout=config.silence_timeout)
        finally:
            if not runtime._ending.is_set():
                draining.cancel()
            await asyncio.gather(draining, return_exceptions=True)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        begun = time.monotonic()
        await engine.cleanup()
        life.cleanup_time_seconds = time.monotonic() - begun
        print("event=engine.lifecycle " + json.dumps({name: round(seconds, 6) for name, seconds in dataclasses.asdict(life).items()}), file=sys.stderr, flush=True)
    return life


async def _quietly(awaitable):
    """What an engine raises where nobody can be told."""
    try:
        await awaitable
    except asyncio.CancelledError:
        raise
    except Exception as error:
        print(f"event=engine.fault why={json.dumps(f'{type(error).__name__}: {error}')}", file=sys.stderr, flush=True)


def run(engine_class, argv=None):
    """Serves `engine_class` until a signal ends the process."""
    return asyncio.run(serve_engine(engine_class, argv))
