"""A cluster with every role that has metrics, and what its processes say at /metrics."""
import http.client
import json
import os
import pathlib
import re
import tempfile

import cluster
import harness
from router_service_test import Router

CHAT = "/v1/chat/completions"
WORKER = ("--threads", "1", "--max-batch", "4", "--kv-memory", "32MiB")
SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? ([^ ]+)$")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


class Families:
    """One exposition: family -> type, and family -> {(sample name, labels) -> value}."""

    def __init__(self, text):
        self.types, self.samples = {}, {}
        family = None
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                family, kind = line.split()[2:4]
                self.types[family] = kind
            elif line and not line.startswith("#"):
                name, labels, value = SAMPLE.match(line).groups()
                self.samples.setdefault(family, {})[(name, tuple(sorted(LABEL.findall(labels or ""))))] = float(value)

    def labels(self, family):
        """The names of labels that its series have, but for le."""
        return {tuple(key for key, _ in labels if key != "le") for _, labels in self.samples[family]}

    def bounds(self, family):
        found = {float(dict(labels)["le"]) for name, labels in self.samples[family] if name.endswith("_bucket")}
        return sorted(found - {float("inf")})

    def total(self, name, **labels):
        """Over the series of one sample name that have these labels."""
        wanted = set(labels.items())
        return sum(value for samples in self.samples.values() for (one, had), value in samples.items()
                   if one == name and wanted <= set(had))


def scrape(process, accept=None):
    """(text, content type) of a process's /metrics."""
    connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=60)
    try:
        connection.request("GET", "/metrics", headers={"Accept": accept} if accept else {})
        response = connection.getresponse()
        return response.read().decode(), response.getheader("Content-Type")
    finally:
        connection.close()


def families(process):
    return Families(scrape(process)[0])


class Planner(harness.Server):
    """`pixii planner` that decides each second and changes nothing."""

    # Any engine: what it would decide is not looked at.
    PROFILE = {"prefill_isl": [1, 512], "prefill_ttft_ms": [1, 9], "decode_active_kv_tokens": [1, 9000], "decode_context_length": [1, 4096],
               "decode_itl_ms": [[1, 1], [3, 3]]}
    CONFIG = {"mode": "disagg", "environment": "virtual", "optimization_target": "sla", "ttft_ms": 60000, "itl_ms": 60000,
              "throughput_adjustment_interval_seconds": 1, "load_predictor": "constant", "max_gpu_budget": -1}

    def __init__(self, folder, frontends):
        (folder / "profile.json").write_text(json.dumps(self.PROFILE))
        config = {**self.CONFIG, "profile_results_dir": str(folder)}
        self.start(["planner", "--config", json.dumps(config), "--frontends", ",".join(frontends), "--discovery", f"file:{folder}/cluster",
                    "--port", "0", "--dry-run"])


class MetricsCluster:
    """`prefill` and `decode` workers, a router's process, frontends: the last decides itself, the others ask the router."""

    def __init__(self, frontends=1, prefill=1, decode=1, flags=WORKER, model="tiny-chat", planner=False):
        self.root = tempfile.TemporaryDirectory(prefix="pixii-metrics-")
        self.folder = folder = pathlib.Path(self.root.name)
        (folder / "cluster").mkdir()
        (folder / "key").write_bytes(os.urandom(32))
        self.processes, self.frontends = {}, []
        try:
            self.processes["router"] = Router(str(folder / "cluster"))
            for role, count in (("prefill", prefill), ("decode", decode)):
                for number in range(count):
                    self.processes[f"{role}-{number}"] = cluster.RoleWorker(folder, role, *flags, model=model)
            for number in range(frontends):
                remote = ("--router-url", "discovery") if number + 1 < frontends else ()
                frontend = cluster.Frontend(folder / "cluster", "--router-mode", "kv", *remote)
                self.frontends.append(frontend)
                self.processes[f"frontend-{number}"] = frontend
            for frontend in self.frontends:
                frontend.wait_for(lambda f=frontend: cluster.total(f, "dynamo_frontend_router_worker_state", 'state="available"')
                                  == prefill + decode, 30, "all workers")
            if planner:
                self.processes["planner"] = Planner(folder, [f"http://127.0.0.1:{frontend.port}" for frontend in self.frontends])
        except BaseException:
            self.close(kill=True)
            raise

    def role(self, name):
        return [process for key, process in self.processes.items() if key.startswith(name)]

    def close(self, kill=False):
        processes = list(reversed(self.processes.values()))
        cluster.end(processes, not kill, self.root)
        for process in processes:
            process.folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close(kill=kind is not None)


def chat(text, max_tokens=8, **more):
    return {"messages": [{"role": "user", "content": text}], "max_tokens": max_tokens, "ignore_eos": True, **more}
