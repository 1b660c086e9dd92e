"""A worker whose handler does, by the model's name alone, what handlers should not: hostile_worker.py DISCOVERY NAME [FLAG=VALUE ...].

What it does stands in the prompt's last token, which the test chose: the numbers below are token ids.
"""
import asyncio
import os
import sys
import time

import pixii

RAISES, HANGS, GARBAGE, WRONG_TYPE, NO_END, LATE, DIES, BLOCKS, WRONG_TOKEN, ENDLESS, EXITS, RAISES_LATE, BAD_FINISH, GIVES_UP = range(
    100, 114)
GOOD = 50  # any other token: as many tokens as asked for, each the number of its position + 60


async def generate(request, context):
    what = request["token_ids"][len(request["token_ids"]) - request["generated_count"] - 1]
    first = request["generated_count"]
    wanted = request["stop_conditions"]["max_tokens"]
    if what == RAISES:
        raise ValueError("no")
    if what == HANGS:
        await asyncio.Event().wait()
    if what == GARBAGE:
        yield "garbage"
    if what == WRONG_TYPE:
        yield {"token_ids": [60]}
        yield {"token_ids": "sixty"}
    if what == NO_END:
        yield {"token_ids": [60]}
        return
    if what == WRONG_TOKEN:
        yield {"token_ids": [60, 10 ** 9]}
    if what == BAD_FINISH:
        yield {"token_ids": [60], "finish_reason": "because"}
    if what == EXITS:
        sys.exit(3)
    if what == RAISES_LATE:
        yield {"token_ids": [60]}
        raise RuntimeError("later")
    if what == GIVES_UP:
        raise pixii.Unavailable("not me")
    if what == ENDLESS:
        while True:
            yield {"token_ids": [61]}
    if what == LATE:
        try:
            yield {"token_ids": [60]}
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            print("cancelled", flush=True)
            yield {"token_ids": [62]}
            yield {"token_ids": [63], "finish_reason": "stop"}
    if what == DIES and os.environ.get("DIES"):
        yield {"token_ids": [60]}
        await asyncio.sleep(0.05)
        os._exit(9)
    if what == BLOCKS and os.environ.get("BLOCKS"):
        print("blocking", flush=True)
        time.sleep(3600)
    for i in range(wanted):
        if context.is_stopped():
            print("stopped", flush=True)
            return
        yield {"token_ids": [60 + first + i]}
        await asyncio.sleep(float(os.environ.get("PACE", "0")))


async def main(discovery, name, *flags):
    runtime = pixii.Runtime(discovery=discovery, **dict(flag.split("=") for flag in flags))
    runtime.handle_signals()
    endpoint = runtime.endpoint("dynamo.backend.generate")
    await pixii.register_model(pixii.ModelInput.Tokens, pixii.ModelType.Chat, endpoint, "tiny-chat", name)
    await endpoint.serve_endpoint(generate, silence_timeout=float(os.environ.get("SILENCE", "120")))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
