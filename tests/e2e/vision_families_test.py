"""Towers of every shape through the server: how many tokens a picture takes, and the same bits however prompts are cut, cached, batched and handed over."""
import base64
import pathlib
import random
import sys
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor

import harness
import vision_models

sys.path.insert(0, str(harness.ROOT / "models/tiny-vlm/train"))
import draw  # noqa: E402  (of the model's own folder)

CHAT = "/v1/chat/completions"
FLAGS = ("--threads", "1", "--max-batch", "4", "--kv-memory", "16MiB", "--dtype", "fp32", "--block-size", "8")

RANKS = ("--enable-attention-dp", "--tensor-parallel-size", "2")


def picture(width, height, seed):
    rng = random.Random(seed)
    return "data:image/png;base64," + base64.b64encode(draw.png(width, height, rng.randbytes(3 * width * height))).decode()


def ask(*parts, **more):
    content = [{"type": "text", "text": part} if not part.startswith("data:") else {"type": "image_url", "image_url": {"url": part}} for part in parts]
    return {"messages": [{"role": "user", "content": content}], "temperature": 0, "max_tokens": 8, "ignore_eos": True, "logprobs": True,
            "top_logprobs": 3, **more}


class Families(unittest.TestCase):
    def setUp(self):
        self.folders = tempfile.TemporaryDirectory()
        self.addCleanup(self.folders.cleanup)

    def answers(self, server, bodies):
        """Tokens with their logprobs, and usage, of each body."""
        def one(body):
            status, answer = server.post(CHAT, body)
            self.assertEqual(status, 200, answer)
            return answer["choices"][0]["logprobs"]["content"], answer["usage"]

        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(one, bodies))

    def check(self, family, bodies, topologies):
        """The answers, which are the same in every topology, with cold caches and warm ones."""
        folder = str(vision_models.make(family, pathlib.Path(self.folders.name, family)))
        wanted = None
        for flags in topologies:
            with self.subTest(family=family, flags=flags), harness.Server(folder, *FLAGS, *flags) as server:
                for _ in range(2):
                    got = self.answers(server, bodies)
                    wanted = wanted or got
                    self.assertEqual([logprobs for logprobs, _ in got], [logprobs for logprobs, _ in wanted])
                    self.assertEqual([usage["prompt_tokens"] for _, usage in got], [usage["prompt_tokens"] for _, usage in wanted])
                if flags != RANKS:  # of which another may be asked
                    self.assertTrue(all(usage["prompt_tokens_details"]["cached_tokens"] > 0 for _, usage in got), "pictures are found again")
        return folder, wanted

    def test_pictures_in_tiles(self):
        # Width, height and tokens as transformers counts them: the whole in 4 x 4, then the tiles without padding and a newline a row.
        shapes = [(90, 70, 16 + 6 * 9), (56, 112, 16 + 8 * 5), (112, 56, 16 + 4 * 9), (30, 30, 16 + 4 * 5), (300, 290, 16 + 8 * 9)]
        bodies = [ask("see", picture(width, height, i), "this") for i, (width, height, _) in enumerate(shapes)]
        bodies.append(ask(picture(90, 70, 0), "and", picture(30, 30, 3), "both"))
        bodies.append(ask(picture(30, 30, 3), "and", picture(90, 70, 0), "both"))
        for family in ("llava_onevision", "llava_next"):
            _, wanted = self.check(family, bodies, [(), ("--max-batched-tokens", "13"), ("--prefill", "1", "--decode", "1"), RANKS])
            words = wanted[0][1]["prompt_tokens"] - shapes[0][2]
            self.assertEqual([usage["prompt_tokens"] for _, usage in wanted[:5]], [words + tokens for _, _, tokens in shapes])
            self.assertNotEqual(wanted[5][0], wanted[6][0], "their order is seen")

    def test_pictures_that_no_message_to_a_worker_holds(self):
        # Towers of tiles are sent pictures as they are: 34.8 MB each.
        large = "data:image/png;base64," + base64.b64encode(draw.png(4000, 2900, bytes([90]) * (3 * 4000 * 2900))).decode()
        folder = str(vision_models.make("llava_next", pathlib.Path(self.folders.name, "large")))
        with harness.Server(folder, *FLAGS, "--workers", "1") as server:
            status, answer = server.post(CHAT, ask("see", large, "and", large))
            self.assertEqual((status, answer["error"]["param"]), (400, "messages[0].content[3].image_url.url"), answer)
            for figure in (2 * 3 * 4000 * 2900, 60 << 20):
                self.assertIn(str(figure), answer["error"]["message"])
            one = self.answers(server, [ask("see", large, "alone")])
        with harness.Server(folder, *FLAGS) as server:
            self.assertEqual(self.answers(server, [ask("see", large, "alone")])[0][0], one[0][0])
            self.answers(server, [ask("see", large, "and", large)])  # nothing is sent

    def test_pictures_whose_tokens_see_each_other(self):
        tokens = vision_models.GEMMA_TOKENS
        bodies = [ask(*parts) for parts in (("see", picture(70, 50, 1), "this"), ("see", picture(70, 50, 2), "this"),
                                            (picture(20, 90, 3), "and", picture(70, 50, 1), "both of them"),
                                            ("a longer text before it, so that blocks end in it " * 3, picture(70, 50, 1), picture(20, 90, 3)))]
        # Steps of 11, 9 and 8 tokens cut text anywhere, and a picture never: the last has just room for one.
        folder, wanted = self.check("gemma3", bodies, [(), ("--max-batched-tokens", "11"), ("--max-batched-tokens", "9", "--max-batch", "3"),
                                                       ("--max-batched-tokens", "8", "--max-batch", "5"), ("--prefill", "1", "--decode", "1"), RANKS])
        self.assertNotEqual(wanted[0][0], wanted[1][0], "pictures are told apart")
        with harness.Server(folder, *FLAGS) as server:
            # Where the template has the mark alone, the model reads the frame.
            before, after = "<|im_start|>user\nsee", "this<|im_end|>\n<|im_start|>assistant\n"
            ids = {text: server.post("/tokenize", {"prompt": text})[1]["tokens"]
                   for text in (before + "\n\n<|vision_start|>", "<|vision_end|>\n\n" + after)}
            self.assertEqual(wanted[0][1]["prompt_tokens"], sum(map(len, ids.values())) + tokens)
            status, answer = server.post(CHAT, ask(bodies[0]["messages"][0]["content"][1]["image_url"]["url"], prompt_logprobs=1))
            self.assertEqual((status, answer["error"]["param"]), (400, "prompt_logprobs"), answer)
        with harness.Server(folder, *FLAGS, "--max-batched-tokens", "8", "--max-batch", "6") as server:
            status, answer = server.post(CHAT, bodies[0])
            self.assertEqual(status, 400, answer)
            self.assertIn("4 tokens are computed in one step", answer["error"]["message"])
            self.answers(server, [ask("text alone")])


if __name__ == "__main__":
    harness.main()
