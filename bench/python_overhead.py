#!/usr/bin/env python3
"""What a token costs that comes from a handler in Python: processor time of its worker for each token, beside the mock engine's.

Both answer the same requests behind the same frontend in one run, in turns. Prints one JSON object.
"""
import concurrent.futures
import json
import os
import pathlib
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/e2e"))
import cluster  # noqa: E402
import harness  # noqa: E402
import python_cluster  # noqa: E402

HANDLER = """
import asyncio, os, sys, pixii
size = int(os.environ["SIZE"])
async def generate(request):
    left = request["stop_conditions"]["max_tokens"]
    while left > 0:
        yield {"token_ids": [60 + i % 40 for i in range(min(size, left))]}
        left -= size
        await asyncio.sleep(0)  # as an engine of which a step is awaited
async def main():
    runtime = pixii.Runtime(discovery=sys.argv[1])
    runtime.handle_signals()
    endpoint = runtime.endpoint("dynamo.backend.generate")
    await pixii.register_model(endpoint=endpoint, model_path="tiny-chat", model_name=sys.argv[2])
    await endpoint.serve_endpoint(generate)
asyncio.run(main())
"""


def seconds_of(process):
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(frontend, model, requests, tokens, streams):
    def ask(_):
        status, answer = frontend.post("/v1/completions", {"model": model, "prompt": [5, 6, 7], "max_tokens": tokens, "ignore_eos": True})
        assert status == 200 and answer["usage"]["completion_tokens"] == tokens, answer
    with concurrent.futures.ThreadPoolExecutor(streams) as pool:
        list(pool.map(ask, range(requests)))


def main(requests=64, tokens=1000, streams=16, rounds=3):
    with tempfile.TemporaryDirectory() as folder:
        workers = {"mock": cluster.Worker(folder, "tiny-chat", "--engine", "mock", "--served-model-name", "mock", "--max-batch", "64")}
        for size in (1, 8):
            workers[f"python_{size}"] = python_cluster.Program("-c", HANDLER, f"file:{folder}", f"python_{size}", env={"SIZE": str(size)})
        micros = {name: [] for name in workers}
        with cluster.Frontend(folder) as frontend:
            harness.wait_for(lambda: len(frontend.request("GET", "/v1/models")[2].get("data", [])) == len(workers), 60, "all models")
            for _ in range(rounds):
                for name, worker in workers.items():
                    begun = seconds_of(worker.process)
                    load(frontend, name, requests, tokens, streams)
                    micros[name].append((seconds_of(worker.process) - begun) / (requests * tokens) * 1e6)
        for worker in workers.values():
            worker.stop()
            worker.folder.cleanup()
    best = {name: round(min(values), 2) for name, values in micros.items()}
    print(json.dumps({"cpu_us_per_token": {name: [round(v, 2) for v in values] for name, values in micros.items()}, "least": best,
                      "over_mock_us": {name: round(best[name] - best["mock"], 2) for name in best if name != "mock"}}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
