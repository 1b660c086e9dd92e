"""Prefill and decode workers whose ranks or block sizes differ: the blocks move and the answers are one worker's (trtllm A2.2)."""
import unittest

import cluster
import harness
from disaggregation_test import COMPLETIONS, FLAGS, PIPELINED, Disaggregated

PAIRS = [  # prefill, decode
    ((), ("--tp", "2")),
    (("--tp", "2"), ()),
    (("--tp", "2"), ("--pp", "2")),
    (("--pp", "2"), ()),
    (("--tp", "4"), ()),  # two KV heads, duplicated
    (("--tp", "2", "--pp", "2"), ("--tp", "4")),
    (("--block-size", "32"), ()),
    (("--block-size", "8"), ("--block-size", "32", "--kv-transfer-buffer-tokens", "32")),
    (("--block-size", "32", "--tp", "2", *PIPELINED), ("--block-size", "8")),
]


class Pair(Disaggregated):
    def __init__(self, prefill_flags, decode_flags):
        self.of_role = {"prefill": prefill_flags, "decode": decode_flags}
        super().__init__()

    def add(self, role, *flags, env=None):
        return super().add(role, *self.of_role[role], *flags, env=env)


def bodies():
    for number in range(6):
        yield {"model": "tiny-chat", "prompt": [(17 * number + 5 * i) % 900 + 20 for i in range(40 + 37 * number)],
               "max_tokens": 12, "seed": number, "temperature": 0 if number % 2 else 1.0, "ignore_eos": True,
               "return_token_ids": True}


def ask(server, body):
    status, _, answer = server.request("POST", COMPLETIONS, body)
    if status != 200:
        raise AssertionError(answer)
    return [choice["token_ids"] for choice in answer["choices"]]


class ParallelHandover(unittest.TestCase):
    def test_answers_are_one_workers_whatever_the_layouts(self):
        with harness.Server("tiny-chat", *FLAGS) as one:
            expected = [ask(one, body) for body in bodies()]
        for prefill, decode in PAIRS:
            with self.subTest(prefill=prefill, decode=decode), Pair(prefill, decode) as pair:
                self.assertEqual([ask(pair.frontend, body) for body in bodies()], expected)
                self.assertGreater(pair.moved(), 0)
                self.assertEqual(pair.paths()["prefill"], 6)
                for name in ("pixii_handover_corrupt_blocks_total", "pixii_handover_refused_records_total"):
                    self.assertEqual(sum(cluster.total(worker, name) for worker in pair.workers()), 0, name)
                pair.wait_until_quiet()


if __name__ == "__main__":
    harness.main()
