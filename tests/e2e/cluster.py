"""Several processes as one server: workers that find a frontend through a folder."""
import os
import pathlib
import random
import re
import signal
import sys
import tempfile
import time

import harness

# Flags of the router's published formula, whose terms are easily added up; ours are docs/adr/0021.
PUBLISHED_COST = ("--router-prefill-load-scale", "1", "--router-recompute-weight", "0", "--no-router-credit-coming-blocks")


class Worker(harness.Server):
    """`pixii worker MODEL`; it has no HTTP."""

    def __init__(self, folder, model, *flags):
        self.start(["worker", model, "--discovery", f"file:{folder}", *flags])

    def instance(self):
        """Its id in discovery."""
        return int(re.search("event=worker.ready .*instance=([0-9a-f]+)", self.log_path.read_text(errors="replace"))[1], 16)


class RoleWorker(Worker):
    """One with a role, for a cluster in FOLDER/cluster with the key FOLDER/key; its `request` asks its system port."""

    def __init__(self, folder, role, *flags, model="tiny-chat", env=None):
        self.role = role
        self.system_file = pathlib.Path(folder) / f"system-{id(self)}"
        self.start(["worker", model, "--discovery", f"file:{folder}/cluster", "--role", role, "--cluster-key", f"{folder}/key",
                    "--system-port", "0", "--system-port-file", str(self.system_file), *flags], env)
        self.port = int(self.system_file.read_text())


class Frontend(harness.Server):
    """`pixii frontend`."""

    def __init__(self, folder, *flags):
        self.start(["frontend", "--port", "0", "--discovery", f"file:{folder}", *flags])


class Cluster:
    """Workers of one model and a frontend; all end with it."""

    def __init__(self, workers, model="tiny-chat", worker_flags=(), frontend_flags=()):
        self.folder = tempfile.TemporaryDirectory(prefix="pixii-cluster-")
        self.model, self.worker_flags = model, worker_flags
        self.workers = []
        self.frontend = None
        try:
            for _ in range(workers):
                self.add_worker()
            self.frontend = Frontend(self.folder.name, *frontend_flags)
            self.wait_for_workers(workers)
        except BaseException:  # whoever asked for it gets nothing to end
            for process in (*self.workers, *([self.frontend] if self.frontend else [])):
                process.kill()
            raise

    def add_worker(self):
        self.workers.append(Worker(self.folder.name, self.model, *self.worker_flags))
        return self.workers[-1]

    def frontend_of(self, *flags):
        """One more frontend; whoever asks ends it."""
        return Frontend(self.folder.name, *flags)

    def worker_count(self):
        values = self.frontend.metrics()
        return sum(v for k, v in values.items() if k.startswith("dynamo_frontend_model_workers{"))

    def wait_for_workers(self, count):
        self.frontend.wait_for(lambda: self.worker_count() == count, 20, f"{count} workers")

    def kill(self, worker):
        """As a machine that is gone: nobody says good-bye."""
        self.workers.remove(worker)
        worker.kill()
        worker.folder.cleanup()

    def serving(self):
        """The worker that has most of what this frontend sent; the first one if nothing runs."""
        blocks = {int(re.search('worker_id="([0-9]+)"', name)[1]): value for name, value in self.frontend.metrics().items()
                  if "worker_active_decode_blocks{" in name}
        return max(self.workers, key=lambda worker: blocks.get(worker.instance(), 0))

    def busiest(self):
        """The worker that used most processor time since it was asked last."""
        def spent(worker):
            fields = pathlib.Path(f"/proc/{worker.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
            total = int(fields[11]) + int(fields[12])
            since = total - getattr(worker, "spent", 0)
            worker.spent = total
            return since
        return max(self.workers, key=spent)

    def migrations(self, frontend=None):
        return {kind: total(frontend or self.frontend, "dynamo_frontend_model_migration_total", kind)
                for kind in ("new_request", "ongoing_request")}

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        end([self.frontend, *self.workers], kind is None, self.folder)


def end(processes, well, folder):
    """Stops them one after the other, each of which must exit with 0, or prints their logs and kills them; removes the folder."""
    statuses = []
    for process in processes:
        name = getattr(process, "role", type(process).__name__.lower())
        if well:
            statuses.append((name, process.stop()))
        else:
            print(name, process.log_text(), file=sys.stderr)
            process.kill()
    folder.cleanup()
    if any(status for _, status in statuses):
        raise AssertionError(f"exit statuses after SIGTERM: {statuses}")


def total(frontend, name, label=""):
    """The sum over a metric's series whose labels contain a text."""
    return sum(v for k, v in frontend.metrics().items() if k.split("{")[0] == name and label in k)


def pause(worker):
    os.kill(worker.process.pid, signal.SIGSTOP)


def resume(worker):
    os.kill(worker.process.pid, signal.SIGCONT)


def dump(worker):
    """The worker's state after this call, as its log has it."""
    seen = worker.log_path.read_text(errors="replace").count("state.dump")
    asked = 0.0

    def line():
        nonlocal asked
        if time.monotonic() - asked > 0.2:  # the log takes ten of an event a second
            asked = time.monotonic()
            worker.process.send_signal(signal.SIGUSR1)
        whole = worker.log_path.read_text(errors="replace").rpartition("\n")[0]  # what follows is being written
        lines = [line for line in whole.splitlines() if "state.dump" in line]
        return lines[-1] if len(lines) > seen else None

    text = harness.wait_for(line, 10, "a dump", worker.log_text)
    return {key: int(value) for key, value in (word.split("=") for word in text.split() if "=" in word) if value.isdigit()}


def wait_until_idle(workers, seconds=2):
    def idle(worker):
        state = dump(worker)
        return state["running"] == state["waiting"] == state["requests"] == state["blocks_pinned"] == 0

    for worker in workers:
        harness.wait_for(lambda worker=worker: idle(worker), seconds, "the worker is idle", worker.log_text)


def serving(workers):
    """The one worker that runs something."""
    return harness.wait_for(lambda: next((worker for worker in workers if dump(worker)["running"]), None), 10, "a worker runs it")


def requests(count, seed, adapters=()):
    """Bodies of chats that ask for different things: seeds, penalties, n, schemas, tools, logprobs, and adapters by name."""
    draw = random.Random(seed)
    tools = [{"type": "function", "function": {
        "name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
                                      "required": ["a", "b"], "additionalProperties": False}}}]
    schema = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 20},
                                               "age": {"type": "integer", "minimum": 0, "maximum": 150},
                                               "tags": {"type": "array", "items": {"type": "string", "maxLength": 8},
                                                        "minItems": 2, "maxItems": 4}},
              "required": ["name", "age", "tags"], "additionalProperties": False}
    for number in range(count):
        body = {"messages": [{"role": "user", "content": f"What is {draw.randint(10, 99)} + {draw.randint(10, 99)}? Note {number}."}],
                "seed": number, "max_tokens": draw.randint(60, 200), "temperature": draw.choice([0, 0.7, 1.2]),
                "chat_template_kwargs": {"enable_thinking": draw.random() < 0.5}}
        kind = draw.choice(["plain", "penalties", "n", "schema", "tools", "logprobs", *(["adapter"] if adapters else [])])
        if kind == "penalties":
            body.update(frequency_penalty=0.8, presence_penalty=0.3, repetition_penalty=1.1, min_tokens=40, ignore_eos=True)
        elif kind == "n":
            body.update(n=3, temperature=1.0, ignore_eos=True)
        elif kind == "schema":
            body.update(response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}},
                        max_tokens=400)
        elif kind == "tools":
            body.update(tools=tools, tool_choice="required")
        elif kind == "logprobs":
            body.update(logprobs=True, top_logprobs=3, ignore_eos=True)
        elif kind == "adapter":
            body.update(model=draw.choice(adapters), ignore_eos=True)
        yield body


def joined(events, after=None):
    """What a stream said: per choice its text, reasoning, calls, logprobs and end; usage. `after(events so far)` is called on each."""
    choices, usage = {}, None
    for number, event in enumerate(events):
        if after is not None:
            after(number)
        if "error" in event:
            raise AssertionError(f"the stream ended with {event}")
        usage = event.get("usage") or usage
        for choice in event.get("choices", []):
            got = choices.setdefault(choice["index"], {"text": "", "reasoning": "", "calls": {}, "logprobs": [], "finish": None})
            delta = choice["delta"]
            got["text"] += delta.get("content") or ""
            got["reasoning"] += delta.get("reasoning_content") or ""
            for call in delta.get("tool_calls") or []:
                made = got["calls"].setdefault(call["index"], {"name": "", "arguments": ""})
                made["name"] += call["function"].get("name") or ""
                made["arguments"] += call["function"].get("arguments") or ""
            got["logprobs"] += ((choice.get("logprobs") or {}).get("content")) or []
            if choice.get("finish_reason"):
                assert got["finish"] is None, "a choice ended twice"
                got["finish"] = choice["finish_reason"]
    counts = None if usage is None else {k: usage[k] for k in ("prompt_tokens", "completion_tokens", "total_tokens")}
    return {"choices": choices, "usage": counts}
