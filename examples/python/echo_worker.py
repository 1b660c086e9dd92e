"""A worker of twenty lines: it answers with the last words of the prompt.

    pixii frontend --discovery file:/tmp/cluster &
    python3 examples/python/echo_worker.py --discovery file:/tmp/cluster
"""
import argparse
import asyncio

import pixii


async def generate(request, context):
    end = request["eos_token_ids"][0] if request["eos_token_ids"] else None
    for token in request["token_ids"][-request["stop_conditions"]["max_tokens"]:]:
        if token != end:
            yield {"token_ids": [token]}
            await asyncio.sleep(0)
    yield {"token_ids": [], "finish_reason": "stop"}


async def main(discovery):
    runtime = pixii.Runtime(discovery=discovery)
    runtime.handle_signals()
    endpoint = runtime.endpoint("dynamo.echo.generate")
    await pixii.register_model(pixii.ModelInput.Tokens, pixii.ModelType.Chat | pixii.ModelType.Completions, endpoint, "tiny-chat", "echo")
    await endpoint.serve_endpoint(generate, health_check_payload={"token_ids": [1], "eos_token_ids": [],
                                                                  "stop_conditions": {"max_tokens": 1}})


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--discovery", default="file:")
    asyncio.run(main(parser.parse_args().discovery))
