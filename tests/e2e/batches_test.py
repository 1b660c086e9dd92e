"""Files and batches: that they outlive the process, and that nobody who waits waits for them."""
import json
import pathlib
import signal
import tempfile
import unittest

import harness
from surfaces_test import Schema

ENDPOINT = "/v1/completions"


def lines(count, max_tokens=400):
    return "".join(json.dumps({"custom_id": f"line-{i}", "method": "POST", "url": ENDPOINT,
                               "body": {"model": "tiny-chat", "prompt": f"Number {i} is", "temperature": 0,
                                        "max_tokens": max_tokens, "ignore_eos": True}}) + "\n" for i in range(count))


def upload(server, content):
    body = ("--B\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--B\r\n"
            "Content-Disposition: form-data; name=\"file\"; filename=\"in.jsonl\"\r\n\r\n" + content + "\r\n--B--\r\n")
    status, _, answer = server.request("POST", "/v1/files", body, {"Content-Type": "multipart/form-data; boundary=B"})
    assert status == 200, answer
    return answer


def start(server, content):
    status, answer = server.post("/v1/batches", {"input_file_id": upload(server, content)["id"], "endpoint": ENDPOINT,
                                                 "completion_window": "24h"})
    assert status == 200, answer
    return answer["id"]


def state(server, batch):
    return server.request("GET", f"/v1/batches/{batch}")[2]


def ended(server, batch):
    server.wait_for(lambda: state(server, batch)["status"] not in ("validating", "in_progress", "finalizing", "cancelling"),
                    60, "the batch has ended")
    return state(server, batch)


def results(server, file):
    if file is None:
        return []
    status, _, text = server.request("GET", f"/v1/files/{file}/content")
    assert status == 200, text
    return [json.loads(line) for line in (text if isinstance(text, str) else json.dumps(text)).splitlines()]


class Batches(unittest.TestCase):
    def test_a_batch_goes_on_after_a_kill_and_no_line_stands_twice(self):
        with tempfile.TemporaryDirectory(prefix="pixii-files-") as folder:
            server = harness.Server("tiny-chat", "--file-dir", folder, "--batch-concurrency", "2")
            batch = start(server, lines(24))
            server.wait_for(lambda: state(server, batch)["request_counts"]["completed"] >= 4, 60, "some lines are answered")
            server.process.send_signal(signal.SIGKILL)
            server.kill()
            written = [path for path in pathlib.Path(folder).glob("file-*") if path.suffix == "" and
                       path.stat().st_size > 0 and b"custom_id" in path.read_bytes() and b"status_code" in path.read_bytes()]
            self.assertEqual(len(written), 1, "the output is its own journal")
            kept = [json.loads(line)["id"] for line in written[0].read_text().splitlines() if line.endswith("}")]
            with open(written[0], "a") as journal:
                journal.write('{"id":"torn","custom_id":"li')  # what a crash may leave
            with harness.Server("tiny-chat", "--file-dir", folder) as server:
                answer = ended(server, batch)
                self.assertEqual(answer["status"], "completed", answer)
                self.assertEqual(answer["request_counts"], {"total": 24, "completed": 24, "failed": 0})
                found = results(server, answer["output_file_id"])
                self.assertEqual(sorted(line["custom_id"] for line in found), sorted(f"line-{i}" for i in range(24)))
                self.assertTrue(set(kept) <= {line["id"] for line in found}, "what was answered is not asked again")
                self.assertEqual(server.request("GET", "/v1/files")[2]["data"][0]["purpose"], "batch_output")
            with harness.Server("tiny-chat", "--file-dir", folder) as server:
                self.assertEqual(state(server, batch), answer, "an ended batch stays")
                self.assertEqual(len(results(server, answer["output_file_id"])), 24)

    def test_a_stop_in_the_middle_keeps_what_was_answered(self):
        with tempfile.TemporaryDirectory(prefix="pixii-files-") as folder:
            with harness.Server("tiny-chat", "--file-dir", folder, "--batch-concurrency", "2") as server:
                batch = start(server, lines(12))
                server.wait_for(lambda: state(server, batch)["request_counts"]["completed"] >= 2, 60, "some lines are answered")
            with harness.Server("tiny-chat", "--file-dir", folder) as server:
                found = results(server, ended(server, batch)["output_file_id"])
                self.assertEqual(sorted(line["custom_id"] for line in found), sorted(f"line-{i}" for i in range(12)))

    def test_a_folder_belongs_to_one_server(self):
        with tempfile.TemporaryDirectory(prefix="pixii-files-") as folder, harness.Server("tiny-chat", "--file-dir", folder):
            second = harness.run_pixii("serve", "tiny-chat", "--port", "0", "--file-dir", folder)
            self.assertNotEqual(second.returncode, 0)
            self.assertIn(folder, second.stderr)

    def test_objects_are_those_of_the_published_schema(self):
        schema = Schema()
        if schema.root is None:
            self.skipTest("no data/openapi")
        with harness.Server("tiny-chat") as server:
            file = upload(server, lines(2, 4) + json.dumps({"custom_id": "bad", "method": "POST", "url": ENDPOINT,
                                                            "body": {"prompt": 7}}) + "\n")
            self.assertEqual(schema.errors("OpenAIFile", file), [])
            self.assertEqual(schema.errors("ListFilesResponse", server.request("GET", "/v1/files")[2]), [])
            status, batch = server.post("/v1/batches", {"input_file_id": file["id"], "endpoint": ENDPOINT,
                                                        "completion_window": "24h"})
            self.assertEqual((status, schema.errors("Batch", batch)), (200, []))
            done = ended(server, batch["id"])
            self.assertEqual(schema.errors("Batch", done), [])
            self.assertEqual(done["request_counts"], {"total": 3, "completed": 2, "failed": 1})
            self.assertEqual(schema.errors("ListBatchesResponse", server.request("GET", "/v1/batches")[2]), [])
            failed = ended(server, start(server, "{\n"))
            self.assertEqual((failed["status"], schema.errors("Batch", failed)), ("failed", []))
            gone = server.request("DELETE", f"/v1/files/{file['id']}")[2]
            self.assertEqual(schema.errors("DeleteFileResponse", gone), [])

    def test_whoever_waits_goes_before_a_batch(self):
        """With one sequence at a time, a chat that comes while many lines wait is not behind them."""
        with harness.Server("tiny-chat", "--batch-concurrency", "16", "--max-batch", "1") as server:
            batch = start(server, lines(16))
            server.wait_for(lambda: state(server, batch)["status"] == "in_progress", 60, "it runs")
            status, _ = server.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4})
            self.assertEqual(status, 200)
            self.assertLess(state(server, batch)["request_counts"]["completed"], 12)
            self.assertEqual(ended(server, batch)["request_counts"]["completed"], 16)


if __name__ == "__main__":
    harness.main()
