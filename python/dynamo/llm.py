"""What workers written for Dynamo take from `dynamo.llm`."""
from pixii import (KvEventPublisher, ModelInput, ModelRuntimeConfig, ModelType, WorkerType, register_llm, register_model)  # noqa: F401
