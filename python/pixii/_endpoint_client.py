"""A client of an endpoint: its instances are asked one by one, without a frontend."""
import asyncio
import contextlib

import _pixii

from . import _errors, _stream

_POLL_SECONDS = 0.02


class EndpointClient:
    """Made by `await endpoint.client()`. A request is a dictionary as handlers get it; answers are streams of dictionaries as they yield them.

    Nothing is tried again: an instance that goes ends the stream with `Disconnected`, and its caller may ask another.
    """

    def __init__(self, endpoint, arguments):
        self.endpoint = endpoint
        self._native = _pixii.Client(arguments=arguments, namespace=endpoint.namespace, component=endpoint.component, endpoint=endpoint.name)

    async def _start(self):
        await asyncio.get_running_loop().run_in_executor(None, self._native.start)
        return self

    def instance_ids(self):
        """Those that take requests now."""
        return self._native.instances()

    async def wait_for_instances(self, timeout=None):
        """Until there is one; their ids."""
        async def wait():
            while not (found := self.instance_ids()):
                await asyncio.sleep(_POLL_SECONDS)
            return found
        try:
            return await asyncio.wait_for(wait(), timeout)
        except (asyncio.TimeoutError, TimeoutError) as error:
            raise _errors.DeadlineExceeded(f"{self.endpoint} has no instance that takes requests after {timeout} s") from error

    async def generate(self, request):
        """As `round_robin`."""
        return await self.round_robin(request)

    async def round_robin(self, request):
        """Each instance in its turn."""
        return self._ask(request, "round_robin", 0)

    async def random(self, request):
        return self._ask(request, "random", 0)

    async def direct(self, request, instance_id):
        """That one and no other."""
        return self._ask(request, "direct", instance_id)

    def _ask(self, request, pick, instance_id):
        if not isinstance(request, dict):
            raise _errors.InvalidArgument(f"request: a {type(request).__name__} is no dictionary", param="request")
        if not isinstance(instance_id, int) or not 0 <= instance_id < 1 << 64:
            raise _errors.InvalidArgument(f"instance_id: {instance_id!r} is none", param="instance_id")
        native = self._native
        return _stream.Stream(lambda wake: native.generate(request, pick, instance_id, wake), native.take, lambda key, prompt: native.cancel(key))

    def close(self):
        """What runs is cancelled."""
        self._native.close()

    async def __aenter__(self):
        return self

    async def __aexit__(self, kind, value, trace):
        with contextlib.suppress(RuntimeError):
            await asyncio.get_running_loop().run_in_executor(None, self.close)
