"""Pixii from Python: handlers as workers of a cluster, a client, an engine in this process."""
from . import _program

_program.use_models()
from _pixii import version as __version__  # noqa: E402

from ._backend import EngineConfig, LLMEngine, Lifecycle, PushSource, WorkerConfig, ZmqSource, run, serve_engine
from ._client import Answer, AsyncClient, Client
from ._endpoint_client import EndpointClient
from ._engine import Engine, Generation
from ._errors import (Cancelled, DeadlineExceeded, Disconnected, Forbidden, InvalidArgument, ModelFault, NotFound, PixiiError,
                      QuotaExceeded, ResourceExhausted, ShuttingDown, TooLarge, Unauthenticated, Unavailable, Unsupported)
from ._stream import Piece, Stream
from ._runtime import (Component, Context, DistributedRuntime, Endpoint, KvEventPublisher, ModelInput, ModelRuntimeConfig, ModelType,
                       Namespace, Runtime, WorkerType, dynamo_endpoint, dynamo_worker, register_llm, register_model)

__all__ = [name for name in dir() if not name.startswith("_")]
