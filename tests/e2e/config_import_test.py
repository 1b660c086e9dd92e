"""`pixii config import` of deployments and launch scripts of Dynamo: what it writes, `pixii up` takes and serves."""
import json
import pathlib
import subprocess
import tempfile
import unittest
import urllib.error
import urllib.request

import harness

SCRIPT = r"""#!/bin/bash
set -e
source "$(dirname "$0")/launch_utils.sh"
export MODEL_PATH=${MODEL_PATH:-"org/some-model"}
export PREFILL_ENGINE_ARGS=${PREFILL_ENGINE_ARGS:-"/workspace/engine_configs/prefill.yaml"}
pick_worker_module dynamo.trtllm dynamo.trtllm.unified_main "$@"
TRACE_ARGS=()
if [ "$ENABLE_OTEL" = true ]; then
    TRACE_ARGS+=(--override-engine-args "{\"return_perf_metrics\": true}")
fi
python3 -m dynamo.frontend --router-mode kv --http-port "$HTTP_PORT" --router-reset-states &
DYN_WORKER_GRACEFUL_SHUTDOWN_TIMEOUT=60 python3 -m "$WORKER_MODULE" \
  --model-path "$MODEL_PATH" --served-model-name named \
  --extra-engine-args "$PREFILL_ENGINE_ARGS" \
  --disaggregation-mode prefill --publish-events-and-metrics "${TRACE_ARGS[@]}" &
python3 -m "$WORKER_MODULE" --model-path "$MODEL_PATH" --served-model-name named --max-batch-size 4 \
  --disaggregation-mode decode "${TRACE_ARGS[@]}" &
wait
"""

DEPLOYMENT = """apiVersion: v1
kind: ConfigMap
metadata: {name: config}
data:
  agg.yaml: |
    max_batch_size: 4
    trust_remote_code: true
    kv_cache_config: {use_uvm: true}
---
apiVersion: nvidia.com/%s
kind: DynamoGraphDeployment
metadata: {name: trtllm-agg}
spec:
%s
"""
ALPHA = """  services:
    Frontend:
      componentType: frontend
      extraPodSpec: {mainContainer: {image: some, env: [{name: DYN_ROUTER_MODE, value: kv}]}}
    Worker:
      envFromSecret: hf-token-secret
      componentType: worker
      replicas: 2
      resources: {limits: {nvidia.com/gpu: "1"}}
      extraPodSpec:
        mainContainer:
          command: [python3, -m, dynamo.trtllm]
          args: [--model-path, tiny-chat, --extra-engine-args, ./engine_configs/agg.yaml, --no-such-flag]
"""
BETA = """  components:
  - name: Frontend
    type: frontend
    podTemplate: {spec: {containers: [{name: main, env: [{name: DYN_ROUTER_MODE, value: kv}]}]}}
  - name: Worker
    type: worker
    replicas: 2
    podTemplate:
      spec:
        containers:
        - name: main
          command: [/bin/sh, -c]
          args: ["exec python3 -m dynamo.trtllm --model-path tiny-chat --extra-engine-args ./engine_configs/agg.yaml --no-such-flag"]
          envFrom: [{secretRef: {name: hf-token-secret}}]
          resources: {limits: {nvidia.com/gpu: "1"}}
"""


class Imports(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="pixii-import-")
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        (self.root / "cluster").mkdir()
        self.graph = self.root / "graph.yaml"

    def imported(self, name, text, *flags, refused=0):
        path = self.root / name
        path.write_text(text)
        done = harness.run_pixii("config", "import", str(path), "--out", str(self.graph), *flags)
        self.assertEqual((done.returncode, done.stderr), (1 if refused else 0, ""), done.stdout)
        lines = done.stdout.splitlines()
        self.assertEqual(len([line for line in lines if line.startswith("refused: ")]), refused, done.stdout)
        checked = harness.run_pixii("up", "--check", str(self.graph))
        self.assertEqual((checked.returncode, checked.stderr), (0, ""), self.graph.read_text())
        return lines, checked.stdout

    def test_a_launch_script_is_a_graph_that_answers(self):
        configs = self.root / "configs"
        configs.mkdir()
        (configs / "prefill.yaml").write_text("max_batch_size: 4\nbackend: pytorch\nkv_cache_config: {max_tokens: 4096}\n")
        lines, checked = self.imported("disagg.sh", SCRIPT, "--set", "WORKER_MODULE=dynamo.trtllm", "--set", "MODEL_PATH=tiny-chat",
                                       "--set", "HTTP_PORT=0", "--files", str(configs))
        self.assertIn("3 components, 3 processes", checked)
        self.assertIn("/disagg.sh:13: prefill --model-path: renamed: model: tiny-chat", "\n".join(lines))
        engine = self.root / "graph.prefill.engine.yaml"
        self.assertIn("max_tokens: 4096", engine.read_text())
        state = self.root / "state"
        process = subprocess.Popen([harness.BINARY, "up", str(self.graph), "--state-dir", str(state)],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            said = state / "ports/frontend-1"  # there, whole, once it is ready
            port = lambda: int(said.read_text()) if said.exists() else 0  # noqa: E731
            harness.wait_for(port, 60, "a frontend")

            def answer():
                body = json.dumps({"model": "named", "prompt": "Hello", "max_tokens": 4, "ignore_eos": True}).encode()
                request = urllib.request.Request(f"http://127.0.0.1:{port()}/v1/completions", body,
                                                 {"Content-Type": "application/json"})
                try:
                    with urllib.request.urlopen(request, timeout=60) as response:
                        return json.loads(response.read())
                except urllib.error.HTTPError:
                    return None

            self.assertEqual(harness.wait_for(answer, 60, "an answer")["usage"]["completion_tokens"], 4)
        finally:
            process.terminate()
            self.assertEqual(process.wait(timeout=60), 0)

    def test_what_a_script_does_not_say_is_asked_for(self):
        lines, _ = self.imported("disagg.sh", SCRIPT, "--set", "HTTP_PORT=8123", refused=2)
        self.assertEqual(["--set WORKER_MODULE=VALUE" in line for line in lines if line.startswith("refused: ")], [True, True])

    def test_deployments_of_both_kinds(self):
        graphs = []
        for version, spec in (("v1alpha1", ALPHA), ("v1beta1", BETA)):
            with self.subTest(version):
                # The secret, the flag, and a key of the engine YAML.
                lines, checked = self.imported("graph-deployment.yaml", DEPLOYMENT % (version, spec), refused=3)
                self.assertIn("2 components, 3 processes", checked)
                self.assertTrue(any("agg.yaml):3: kv_cache_config.use_uvm" in line for line in lines), lines)
                self.assertIn("max_batch_size: 4", (self.root / "graph.Worker.engine.yaml").read_text())
                graphs.append(self.graph.read_text())
        self.assertEqual(graphs[0], graphs[1])

    def test_what_is_none_of_these_is_an_engine_yaml_or_an_error(self):
        path = self.root / "x.yaml"
        path.write_text("apiVersion: nvidia.com/v2\nkind: DynamoGraphDeployment\n")
        done = harness.run_pixii("config", "import", str(path))
        self.assertEqual(done.returncode, 2)
        self.assertIn("x.yaml:1: apiVersion", done.stderr)
        path.write_text("#!/bin/bash\necho 'never ends\n")
        self.assertIn("x.yaml:2: a quote without its end", harness.run_pixii("config", "import", str(path)).stderr)


if __name__ == "__main__":
    harness.main()
