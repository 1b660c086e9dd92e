"""Asks every instance of an endpoint the same, and then any two of them: python3 ask_instances.py DISCOVERY [NAMESPACE.COMPONENT.ENDPOINT]"""
import asyncio
import sys

import pixii

REQUEST = {"token_ids": [51, 52, 53], "stop_conditions": {"max_tokens": 6, "ignore_eos": True}, "sampling_options": {"temperature": 0}}


async def tokens_of(stream):
    return [token async for piece in stream for token in piece["token_ids"]]


async def main():
    runtime = pixii.Runtime(discovery=sys.argv[1], log_level="warn")
    endpoint = runtime.endpoint(sys.argv[2] if len(sys.argv) > 2 else "dynamo.backend.generate")
    async with await endpoint.client() as client:
        for instance in await client.wait_for_instances(timeout=30):
            print(f"{instance:x}", await tokens_of(await client.direct(REQUEST, instance)))
        pair = await asyncio.gather(*[tokens_of(await client.round_robin(REQUEST)) for _ in range(2)])
        print("any two:", "the same" if pair[0] == pair[1] else "not the same")


if __name__ == "__main__":
    asyncio.run(main())
