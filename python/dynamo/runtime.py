"""What workers written for Dynamo take from `dynamo.runtime`."""
from pixii import (Component, Context, DistributedRuntime, Endpoint, Namespace, Runtime, dynamo_endpoint,  # noqa: F401
                   dynamo_worker)
