"""Who says a lower `priority` goes first, whoever came before."""
import concurrent.futures
import unittest

import harness

# Sent in this order while the only place of the batch is taken.
WAITING = (3, 0, 1, -2, 2)


class Priority(unittest.TestCase):
    def test_lower_goes_first(self):
        ended = []

        def ask(server, route, priority, tokens):
            body = {"max_tokens": tokens, "ignore_eos": True, "temperature": 0, "priority": priority}
            body.update({"prompt": "One"} if route == "/v1/completions" else {"messages": [{"role": "user", "content": "One"}]})
            status, answer = server.post(route, body)
            ended.append(priority)
            return status, answer

        with harness.Server("tiny-chat", "--max-batch", "1") as server, concurrent.futures.ThreadPoolExecutor(8) as pool:
            def sequences(kind):
                return server.metrics().get(f'pixii_engine_{kind}{{model="tiny-chat"}}', 0)

            first = pool.submit(ask, server, "/v1/completions", 0, 3000)
            server.wait_for(lambda: sequences("running") == 1)
            others = []
            for i, priority in enumerate(WAITING):
                others.append(pool.submit(ask, server, ("/v1/completions", "/v1/chat/completions")[i % 2], priority, 40))
                server.wait_for(lambda i=i: sequences("waiting") == i + 1)
            self.assertFalse(first.done())
            for future in (first, *others):
                status, answer = future.result()
                self.assertEqual(status, 200, answer)
        self.assertEqual(ended, [0, *sorted(WAITING)])

    def test_a_priority_that_is_no_integer_is_refused(self):
        with harness.Server("tiny-chat") as server:
            for bad in (1.5, "high", 1 << 40):
                status, answer = server.post("/v1/completions", {"prompt": "One", "max_tokens": 1, "priority": bad})
                self.assertEqual((status, answer["error"]["param"]), (400, "priority"))


if __name__ == "__main__":
    harness.main()
