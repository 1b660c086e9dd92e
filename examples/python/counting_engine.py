"""An engine by the contract of pixii.LLMEngine: it counts on from the prompt's last token, and tells routers what it has cached.

    python3 examples/python/counting_engine.py --discovery file:/tmp/cluster
"""
import argparse
import asyncio
import hashlib

import pixii


class CountingEngine(pixii.LLMEngine):
    def __init__(self, block_size):
        self.block_size = block_size
        self.cached = {}  # hash of a chain of blocks -> its last block's tokens
        self.changes = asyncio.Queue()
        self.aborted = 0

    @classmethod
    async def from_args(cls, argv):
        parser = argparse.ArgumentParser()
        parser.add_argument("--discovery", default="file:")
        parser.add_argument("--pace", type=float, default=0.0)
        options = parser.parse_args(argv)
        engine = cls(block_size=16)
        engine.pace = options.pace
        return engine, pixii.WorkerConfig(discovery=options.discovery, model_path="tiny-chat", model_name="counting")

    async def start(self):
        return pixii.EngineConfig(kv_cache_block_size=self.block_size, total_kv_blocks=1024)

    def remember(self, tokens):
        """Tokens that were cached already; what is new is told."""
        parent, found, fresh = None, 0, []
        for begin in range(0, len(tokens) - len(tokens) % self.block_size, self.block_size):
            block = tokens[begin:begin + self.block_size]
            name = int.from_bytes(hashlib.blake2b(repr((parent, block)).encode(), digest_size=8).digest(), "big")
            if name in self.cached and not fresh:
                found += self.block_size
            elif name not in self.cached:
                self.cached[name] = block
                fresh.append((parent, name, block))
            parent = name
        for one in fresh:
            self.changes.put_nowait(one)
        return found

    async def generate(self, request, context):
        tokens = request["token_ids"]
        context.metadata["wanted"] = request["stop_conditions"]["max_tokens"]
        cached = self.remember(tokens)
        vocabulary = 200  # of small numbers, which every tokenizer has
        for i in range(request["stop_conditions"]["max_tokens"]):
            if context.is_stopped():
                return
            yield {"token_ids": [(tokens[-1] + 1 + i) % vocabulary],
                   "completion_usage": {"prompt_tokens_details": {"cached_tokens": cached}}}
            await asyncio.sleep(self.pace)
        yield {"token_ids": [], "finish_reason": "length"}

    async def abort(self, context):
        self.aborted += 1
        print(f"aborted one of {context.metadata['wanted']}", flush=True)

    async def drain(self):
        print("drained", flush=True)

    async def cleanup(self):
        print("cleaned up", flush=True)

    async def tell(self, publisher):
        while True:
            parent, name, block = await self.changes.get()
            publisher.publish_stored(block, [name], parent)

    def kv_event_sources(self):
        return [pixii.PushSource(self.tell)]

    def health_check_payload(self):
        return {"token_ids": [1], "stop_conditions": {"max_tokens": 1}}


if __name__ == "__main__":
    pixii.run(CountingEngine)
