"""A worker whose handler runs an engine in this process, each request with a logits processor in Python.

python3 engine_worker.py DISCOVERY [MODEL]
"""
import asyncio
import sys

import pixii

BANNED = "e"  # no token that holds it


async def main():
    place, model = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "tiny-chat"
    engine = pixii.Engine(model, kv_memory="64MiB")
    card = engine.card()
    banned = [token for token in range(card["vocab_size"]) if token not in card["eos_token_ids"] and BANNED in engine.decode([token])]

    def ban(tokens, logits):
        for token in banned:
            logits[token] = float("-inf")

    async def generate(request, context):
        stop, sampling = request["stop_conditions"], request["sampling_options"]
        answer = engine.generate(request["token_ids"], max_tokens=stop["max_tokens"], ignore_eos=stop["ignore_eos"], seed=sampling["seed"],
                                 temperature=sampling["temperature"], top_p=sampling["top_p"], logits_processors=[ban])
        async for piece in answer:
            yield {name: piece[name] for name in ("token_ids", "finish_reason") if name in piece}

    runtime = pixii.Runtime(discovery=place)
    runtime.handle_signals()
    endpoint = runtime.endpoint("dynamo.backend.generate")
    await pixii.register_model(endpoint=endpoint, model_path=model, model_name="careful", context_length=card["context_length"])
    await endpoint.serve_endpoint(generate)
    engine.close()


if __name__ == "__main__":
    asyncio.run(main())
