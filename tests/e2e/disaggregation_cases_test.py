"""Adversarial cases 31 to 35 of the field report, and known issues of other systems, for prefill and decode workers.

docs/adversarial_cases.md lists the cases, docs/kv_transfer.md the issues. What ends a leg at a time is a state that a worker
says it is in, not a moment.
"""
import contextlib
import itertools
import json
import os
import random
import threading
import unittest
from concurrent.futures import ThreadPoolExecutor

import cluster
import harness
from disaggregation_test import BLOCK_TOKENS, CHAT, COMPLETIONS, FLAGS, LATE, PIPELINED, Disaggregated, completion, prompt, unary

SLOW = ("--max-batched-tokens", "8")  # a prompt takes many steps


def text_of(server, tokens, **more):
    status, answer = server.post(COMPLETIONS, {"prompt": tokens, "max_tokens": 12, "temperature": 0, "ignore_eos": True, **more})
    assert status == 200, answer
    return answer["choices"][0]["text"]


@contextlib.contextmanager
def asked(server, body):
    """A request whose client has asked, and leaves at the end without having read."""
    with contextlib.closing(server.connection()) as connection:
        connection.request("POST", COMPLETIONS, body=json.dumps(body), headers={"Content-Type": "application/json"})
        yield connection


@contextlib.contextmanager
def standing_still(process):
    cluster.pause(process)
    try:
        yield
    finally:
        cluster.resume(process)


def kept(worker):
    return cluster.total(worker, "pixii_handover_blocks_pinned")


def is_used(worker):
    return cluster.total(worker, "pixii_engine_running") > 0


class Cases(unittest.TestCase):
    def test_case_31_cancel_races_leave_every_answer_as_without_a_cache(self):
        lengths = (63, 64, 65, 128)
        prompts = {length: prompt(length, 31) for length in lengths}
        suffixes = [prompt(5, 310 + i) for i in range(3)]
        flags = ("--block-size", "64")
        with harness.Server("tiny-chat", *FLAGS, *flags, "--no-prefix-cache") as server:
            truth = {(length, i): text_of(server, prompts[length] + suffix) for length in lengths for i, suffix in enumerate(suffixes)}
        for more in ((), PIPELINED):
            with Disaggregated(flags=(*flags, *more)) as both:
                for delay_ms, length in zip(range(0, 51, 2), itertools.cycle(lengths)):
                    body = {"prompt": prompts[length] + suffixes[0], "max_tokens": 400, "ignore_eos": True, "stream": True}
                    with asked(both.frontend, body):
                        threading.Event().wait(delay_ms / 1000)  # the race is the case
                    for i, suffix in enumerate(suffixes):
                        self.assertEqual(text_of(both.frontend, prompts[length] + suffix), truth[length, i],
                                         f"cancelled after {delay_ms} ms, prefix of {length}")
                both.wait_until_quiet()

    def test_case_32_a_storm_of_cancels_leaves_nothing(self):
        with Disaggregated(flags=("--queue-length", "1024")) as both:
            truth = text_of(both.frontend, prompt(64, 32))
            for storm in range(2):
                with contextlib.ExitStack() as clients:
                    for number in range(150):
                        clients.enter_context(asked(both.frontend, {"prompt": prompt(300, 1000 * storm + number), "max_tokens": 200,
                                                                    "ignore_eos": True, "stream": True}))
                    status, _ = both.frontend.post(COMPLETIONS, {"prompt": [1], "model": "unknown"})
                    self.assertEqual(status, 404)
                    both.prefill[0].wait_for(lambda: is_used(both.prefill[0]), LATE, "the storm runs")
                both.wait_until_quiet(30)
                self.assertEqual(text_of(both.frontend, prompt(64, 32)), truth)
            both.wait_until_quiet()

    def test_case_33_a_prefill_worker_killed_in_each_step_of_a_hand_over(self):
        body = completion(280, seed=33, max_tokens=24)
        with harness.Server("tiny-chat", *FLAGS) as server:
            expected = unary(server, body)

        def computes(both):
            both.prefill[0].wait_for(lambda: is_used(both.prefill[0]), LATE, "the prompt is computed")

        def keeps(both):
            both.prefill[0].wait_for(lambda: kept(both.prefill[0]) > 0, LATE, "blocks are kept")

        for more in (SLOW, (*PIPELINED[:2], *SLOW)):
            with Disaggregated(flags=more) as both:
                for step, decode_stands in ((computes, False), (keeps, True), (None, False)):
                    salted = {**body, "cache_salt": f"{step}"}
                    with ThreadPoolExecutor(1) as pool, contextlib.ExitStack() as stack:
                        if decode_stands:  # so that nothing is fetched before the other is gone
                            stack.enter_context(standing_still(both.decode[0]))
                        answer = pool.submit(unary, both.frontend, salted)
                        if step is None:
                            self.assertEqual(answer.result(timeout=60), expected)  # all is done
                        else:
                            step(both)
                        both.kill(both.prefill[0])
                        stack.close()
                        self.assertEqual(answer.result(timeout=60), expected, f"killed when it {step}")
                    both.add("prefill")
                    both.wait_for_workers()
                both.wait_until_quiet()

    def test_case_33_a_decode_worker_killed_after_a_token(self):
        body = completion(150, seed=34, max_tokens=30)
        with Disaggregated(decode=2) as both:
            expected, usage = unary(both.frontend, body)[0], None
            for at in (0, 1, 17, 28):
                texts = ""
                for number, event in enumerate(both.frontend.stream(COMPLETIONS, {**body, "stream_options": {"include_usage": True}})):
                    self.assertNotIn("error", event)
                    texts += "".join(choice["text"] for choice in event["choices"])
                    usage = event.get("usage") or usage
                    if number == at:
                        busy = next((worker for worker in both.decode if cluster.dump(worker)["running"]), both.decode[0])
                        both.kill(busy)
                self.assertEqual([texts], expected, f"killed after event {at}")
                self.assertEqual((usage["prompt_tokens"], usage["completion_tokens"]), (150, 30))
                both.add("decode")
                both.wait_for_workers()
            both.wait_until_quiet()

    def test_case_33_a_frontend_that_is_killed_keeps_nothing_pinned(self):
        with Disaggregated(flags=SLOW) as both:
            for wait in (lambda: is_used(both.prefill[0]), lambda: is_used(both.decode[0])):
                with asked(both.frontend, completion(280, seed=35, max_tokens=400, stream=True)):
                    both.prefill[0].wait_for(wait, LATE, "a leg runs")
                    both.frontend.kill()
                both.wait_until_quiet()
                both.frontend = cluster.Frontend(f"{both.folder}/cluster")
                both.wait_for_workers()

    def test_case_34_what_stands_still_comes_back_and_changes_nothing(self):
        body = completion(200, seed=36, max_tokens=40)
        with Disaggregated(prefill=2, decode=2, frontend_flags=("--worker-dead-after", "1s")) as both:
            expected = unary(both.frontend, body)
            for grey in both.workers():
                with standing_still(grey):
                    for number in range(3):
                        self.assertEqual(unary(both.frontend, {**body, "cache_salt": f"{grey.port} {number}"}), expected)
                both.wait_for_workers()
                self.assertEqual(unary(both.frontend, {**body, "cache_salt": f"{grey.port}"}), expected)
            both.wait_until_quiet()

    def test_case_34_late_reads_of_a_worker_that_stood_still_change_nothing(self):
        """Its lease is over and the blocks are others' when it goes on: what it reads is refused, and computed."""
        with harness.Server("tiny-chat", *FLAGS) as server:
            expected = [unary(server, completion(250, seed=number, max_tokens=4)) for number in range(6)]
        with Disaggregated(flags=("--kv-transfer-timeout-ms", "1000", "--kv-tokens", "640", "--max-context", "320"),
                           frontend_flags=("--worker-dead-after", "600s")) as both:
            self.assertEqual(unary(both.frontend, completion(250, seed=0, max_tokens=4)), expected[0])
            cluster.pause(both.decode[0])
            with ThreadPoolExecutor(6) as pool:
                answers = [pool.submit(unary, both.frontend, completion(250, seed=number, max_tokens=4)) for number in range(1, 6)]
                both.prefill[0].wait_for(lambda: cluster.total(both.prefill[0], "pixii_handover_ends_total", 'state="expired"') == 5, 60,
                                         "five leases end")
                cluster.resume(both.decode[0])
                self.assertEqual([answer.result(timeout=120) for answer in answers], expected[1:])
            self.assertEqual(cluster.total(both.decode[0], "pixii_handover_corrupt_blocks_total"), 0)
            both.wait_until_quiet()

    def test_case_35_a_port_that_another_worker_has_now_is_not_believed(self):
        body = completion(200, seed=37)
        with Disaggregated() as both:
            expected = unary(both.frontend, body)
            both.kill(both.prefill[0])
            for flags in ((), ("--block-size", "32"), ("--tensor-parallel-size", "2"), ("--dtype", "fp32")):
                both.add("prefill", *flags)
                both.frontend.wait_for(lambda: cluster.total(both.frontend, "dynamo_frontend_router_worker_state", 'state="available"') >= 1,
                                       20, "a decode worker")
                for number in range(3):
                    got = unary(both.frontend, {**body, "cache_salt": f"{flags} {number}"})
                    self.assertEqual(got[1:], expected[1:])
                    if flags != ("--dtype", "fp32"):  # whose first token is its own
                        self.assertEqual(got, expected, flags)
                both.kill(both.prefill[0])
            both.wait_until_quiet()


class KnownIssues(unittest.TestCase):
    def test_row_d8_a_cancel_in_each_phase_frees_both_sides(self):
        with Disaggregated(flags=SLOW) as both:
            prefill, decode = both.prefill[0], both.decode[0]
            body = completion(280, seed=8, max_tokens=400, stream=True)
            with asked(both.frontend, body):
                prefill.wait_for(lambda: is_used(prefill), LATE, "the prompt is computed")
            both.wait_until_quiet()
            with standing_still(decode), asked(both.frontend, {**body, "cache_salt": "kept"}):
                prefill.wait_for(lambda: kept(prefill) > 0, LATE, "blocks are kept")
            both.wait_until_quiet()
            stream = both.frontend.stream(COMPLETIONS, {**body, "cache_salt": "decoding"})
            for _ in range(4):
                next(stream)
            decode.wait_for(lambda: is_used(decode), LATE, "it decodes")
            stream.close()
            both.wait_until_quiet()

    def test_a7_2_a_processor_gives_the_exact_text_over_two_workers(self):
        with Disaggregated(env={**os.environ, "DYN_ENABLE_TEST_LOGITS_PROCESSOR": "1"}) as both:
            long = {"messages": [{"role": "user", "content": "Hello there. " * 20}], "temperature": 0.7, "seed": 3}
            for more in ({}, {"n": 3}, {"temperature": 0}):
                status, answer = both.frontend.post(CHAT, {**long, **more})
                self.assertEqual(status, 200, answer)
                for choice in answer["choices"]:
                    self.assertEqual(choice["message"]["content"], "Hello world!")
                    self.assertEqual(choice["finish_reason"], "stop")
            self.assertEqual(both.paths()["prefill"], 3)
            both.wait_until_quiet()

    def test_k1_many_prompts_larger_than_the_buffer_all_finish(self):
        with Disaggregated(flags=("--kv-transfer-buffer-tokens", "32")) as both:
            bodies = [completion(16 + 7 * (number % 17), seed=number, max_tokens=4) for number in range(200)]
            with ThreadPoolExecutor(32) as pool:
                answers = list(pool.map(lambda body: unary(both.frontend, body), bodies))
            self.assertEqual({answer[2]["completion_tokens"] for answer in answers}, {4})
            self.assertGreater(cluster.total(both.decode[0], "pixii_handover_chunks_total"), 200)
            both.wait_until_quiet()

    def test_k4_blocks_that_are_kept_are_not_evicted_however_short_they_are(self):
        bodies = [completion(200 + number, seed=400 + number, max_tokens=6) for number in range(40)]
        with harness.Server("tiny-chat", *FLAGS) as server:
            expected = [unary(server, body) for body in bodies]
        for more in ((), PIPELINED):
            with Disaggregated(flags=("--kv-tokens", "1024", "--max-context", "512", *more)) as both:
                with ThreadPoolExecutor(6) as pool:
                    for _ in range(2):
                        self.assertEqual(list(pool.map(lambda body: unary(both.frontend, body), bodies)), expected)
                self.assertEqual(cluster.total(both.decode[0], "pixii_handover_corrupt_blocks_total"), 0)
                both.wait_until_quiet()

    def test_what_nobody_fetches_leaves_half_of_the_cache_to_others(self):
        flags = ("--kv-tokens", "2048", "--max-context", "1600", "--kv-transfer-timeout-ms", "600000")
        with Disaggregated(flags=flags) as both:
            for number in range(8):
                status, answer = both.frontend.post(COMPLETIONS, {**completion(320, seed=number),
                                                                  "disaggregated_params": {"request_type": "context_only"}})
                self.assertEqual(status, 200, answer)
                self.assertTrue(answer["disaggregated_params"]["opaque_state"])
            half = 2048 // BLOCK_TOKENS // 2
            both.prefill[0].wait_for(lambda: 0 < kept(both.prefill[0]) <= half, LATE, "half is free")
            self.assertGreater(cluster.total(both.prefill[0], "pixii_handover_ends_total", 'state="expired"'), 0)
            # It is answered long before any lease would end by itself.
            self.assertEqual(len(unary(both.frontend, completion(1000, seed=99))[0]), 1)
            self.assertEqual(both.paths()["prefill"], 9)

    def test_k6_one_client_id_twice_at_a_time(self):
        body = completion(200, seed=6)
        with Disaggregated() as both:
            expected = unary(both.frontend, body)

            def one(_):
                status, _, answer = both.frontend.request("POST", COMPLETIONS, body, headers={"x-request-id": "the same"})
                return status, [choice["text"] for choice in answer["choices"]]

            with ThreadPoolExecutor(8) as pool:
                self.assertEqual(list(pool.map(one, range(16))), [(200, expected[0])] * 16)
            both.wait_until_quiet()

    def test_k12_k14_k17_k18_choices_sizes_errors_and_trials(self):
        with Disaggregated(flags=("--canary-interval", "100ms")) as both:
            self.assertGreater(cluster.total(both.frontend, "dynamo_frontend_model_total_kv_blocks"), 0, "before any request")
            for worker in both.workers():  # each role is tried by itself
                worker.wait_for(lambda worker=worker: cluster.total(worker, "pixii_canaries_total", 'result="ok"') > 1, LATE, "trials")
            texts = unary(both.frontend, completion(100, seed=12, n=3, temperature=0))[0]
            self.assertEqual(texts, [texts[0]] * 3)
            for wrong in ({"temperature": -1}, {"top_p": 7}, {"max_tokens": -3}, {"logit_bias": {"x": 1}}):
                status, answer = both.frontend.post(COMPLETIONS, {**completion(100), **wrong})
                self.assertEqual(status, 400, answer)
            self.assertEqual(unary(both.frontend, completion(100, seed=12, n=3, temperature=0))[0], texts)
            self.assertEqual(len(both.workers()), 2)
            both.wait_until_quiet()


if __name__ == "__main__":
    harness.main()
