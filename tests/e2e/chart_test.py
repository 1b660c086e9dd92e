"""The Helm chart and the manifests made of it: every field, every reference, every command line, and what it refuses."""
import copy
import importlib.machinery
import importlib.util
import os
import pathlib
import random
import re
import subprocess
import sys
import tarfile
import tempfile
import unittest

import harness

SYSTEM_PYTHON = "/usr/bin/python3"  # the distribution's, which has its packages
if importlib.util.find_spec("yaml") is None and sys.executable != SYSTEM_PYTHON:
    os.execv(SYSTEM_PYTHON, [SYSTEM_PYTHON, *sys.argv])

import kube_check  # noqa: E402
import yaml  # noqa: E402

loader = importlib.machinery.SourceFileLoader("chart", str(harness.ROOT / "tools/chart"))
chart = importlib.util.module_from_spec(importlib.util.spec_from_loader("chart", loader))
loader.exec_module(chart)
GIVEN = ("Secret/pixii-cluster", "Secret/pixii-api-keys", "Gateway/inference-gateway")


def metrics():
    page = (harness.ROOT / "docs/reference/metrics.md").read_text()
    return set(re.findall(r"`((?:dynamo|pixii|trtllm|kvbm)_\w+)`", page))


def documents(values=None, name="pixii", namespace="default"):
    return chart.documents(chart.render(values or {}, name, namespace))


def judged(objects):
    return kube_check.Objects(objects, GIVEN, metrics()).problems()


def command_lines(objects):
    for document in objects:
        if document["kind"] == "Deployment":
            for container in document["spec"]["template"]["spec"]["containers"]:
                yield f"{kube_check.title(document)} {container['name']}", container["args"]


# Values with everything on, in several ways.
CASES = {
    "nothing said": {},
    "all of it": {
        "epp": {"enabled": True, "gateway": "inference-gateway", "args": ["--no-token-data"]}, "serviceMonitor": {"enabled": True, "labels": {"release": "p"}},
        "clusterKey": {"secret": "pixii-cluster"}, "imagePullSecrets": [{"name": "registry"}], "env": [{"name": "DYN_LOG", "value": "info"}],
        "frontend": {"apiKeySecret": "pixii-api-keys", "autoscaling": {"enabled": True}, "nodeSelector": {"kubernetes.io/arch": "amd64"},
                     "tolerations": [{"key": "gpu", "operator": "Exists"}], "args": ["--enable-anthropic-api"]},
        "operator": {"enabled": True, "args": ["--max-surge=1"]},
        "networkPolicy": {"clients": [{"podSelector": {"matchLabels": {"app": "web"}}}]},
        "workers": {"worker": {"role": "agg", "args": ["--max-batch=8"], "autoscaling": {"enabled": True, "target": "8"}},
                    "prefill": {"role": "prefill"}, "decode": {"role": "decode"}, "encode": {"role": "encode"}}},
    "keda": {"autoscaler": {"kind": "keda"}, "frontend": {"autoscaling": {"enabled": True}}, "workers": {"worker": {"role": "agg", "autoscaling": {"enabled": True}}}},
    "little": {"router": {"enabled": False}, "networkPolicy": {"enabled": False}, "podDisruptionBudget": {"enabled": False},
               "data": {"persistentVolumeClaim": {"claimName": "models"}}},
    "an account of its own": {"serviceAccount": {"create": True, "name": "models"}},
}


class Chart(unittest.TestCase):
    def test_manifests_are_what_the_chart_makes(self):
        done = subprocess.run([SYSTEM_PYTHON, str(harness.ROOT / "tools/chart"), "manifests", "--check"], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)
        files = [harness.ROOT / "deploy/kubernetes" / example.name for example in chart.EXAMPLES.glob("*.yaml")]
        self.assertGreaterEqual(len(files), 3)
        for file in files:
            self.assertEqual(judged([d for d in yaml.safe_load_all(file.read_text()) if d]), [], file)

    def test_whatever_is_said_makes_sense(self):
        for name, values in CASES.items():
            with self.subTest(name):
                self.assertEqual(judged(documents(values, "my-models", "serving")), [])

    def test_every_command_line_is_taken(self):
        known = re.findall(r"^  pixii ([a-z]+) ", subprocess.run([harness.BINARY, "--help"], capture_output=True, text=True).stdout, re.M)
        seen = set()
        for values in CASES.values():
            for where, words in command_lines(documents(values)):
                words = [word.replace("$(POD_IP)", "10.0.0.1") for word in words]
                if tuple(words) in seen or (words[0] == "operator" and words[0] not in known):
                    continue
                seen.add(tuple(words))
                done = subprocess.run([harness.BINARY, *words, "--print-config"], capture_output=True, text=True, timeout=120)
                self.assertEqual(done.returncode, 0, f"{where}: {' '.join(words)}\n{done.stderr}")
        self.assertGreater(len(seen), 8)
        done = subprocess.run([harness.BINARY, "frontend", "--no-such-flag", "--print-config"], capture_output=True, text=True, timeout=120)
        self.assertNotEqual(done.returncode, 0, "a wrong line would be found")

    def test_values_that_are_none_are_refused(self):
        for values, said in (({"frontends": {}}, "frontends: there is no such value"), ({"frontend": {"replicas": "two"}}, "frontend.replicas"),
                             ({"frontend": {"port": 0}}, "frontend.port"), ({"workers": {"worker": {"role": "both"}}}, "workers.worker.role"),
                             ({"workers": {"frontend": {"role": "agg"}}}, "workers.frontend"), ({"workers": {"a": {}}}, "workers.a.role: is missing"),
                             ({"autoscaler": {"kind": "vpa"}}, "autoscaler.kind"), ({"workers": {"p": {"role": "prefill"}}}, "clusterKey.secret")):
            with self.assertRaises(chart.go_template.TemplateError) as refused:
                chart.render(values)
            self.assertIn(said, str(refused.exception))

    def test_the_judge_sees_what_is_wrong(self):
        good = documents(CASES["all of it"])
        self.assertEqual(judged(good), [])
        draw = random.Random(1)
        # A field that nobody knows, at any depth.
        for _ in range(60):
            broken = copy.deepcopy(good)
            at = draw.choice(broken)
            while True:
                inside = [v for k, v in (at.items() if isinstance(at, dict) else enumerate(at))
                          if isinstance(v, (dict, list)) and v and k not in ("labels", "matchLabels", "selector", "nodeSelector", "requests", "limits", "emptyDir")]
                if not inside or (isinstance(at, dict) and draw.random() < 0.3):
                    break
                at = draw.choice(inside)
            if isinstance(at, dict):
                at["unknownField"] = 1
                self.assertTrue(judged(broken), at)
        # References that lead nowhere.
        def deployment(objects, name):
            return next(d for d in objects if kube_check.title(d) == f"Deployment/pixii-{name}")["spec"]

        def pod(objects, name):
            return deployment(objects, name)["template"]["spec"]

        def one(objects, kind):
            return next(d for d in objects if d["kind"] == kind)["spec"]
        changes = (
            lambda o: deployment(o, "router")["selector"]["matchLabels"].update({"app.kubernetes.io/component": "frontend"}),
            lambda o: pod(o, "worker").update({"serviceAccountName": "nobody"}),
            lambda o: pod(o, "worker").update({"terminationGracePeriodSeconds": 30}),
            lambda o: pod(o, "worker")["containers"][0]["securityContext"].update({"readOnlyRootFilesystem": False}),
            lambda o: pod(o, "frontend")["securityContext"].update({"runAsNonRoot": False}),
            lambda o: pod(o, "frontend")["containers"][0].pop("readinessProbe"),
            lambda o: pod(o, "frontend")["containers"][0]["livenessProbe"]["httpGet"].update({"port": "web"}),
            lambda o: pod(o, "frontend")["containers"][0].pop("volumeMounts"),
            lambda o: pod(o, "router")["containers"][0].pop("env"),
            lambda o: pod(o, "frontend")["volumes"].pop(),
            lambda o: one(o, "Service")["ports"][0].update({"targetPort": "nothing"}),
            lambda o: one(o, "ServiceMonitor")["endpoints"][0].update({"port": "nothing"}),
            lambda o: one(o, "HorizontalPodAutoscaler")["metrics"][0]["pods"]["metric"].update({"name": "dynamo_no_such"}),
            lambda o: one(o, "HorizontalPodAutoscaler")["scaleTargetRef"].update({"name": "nothing"}),
            lambda o: one(o, "NetworkPolicy")["podSelector"]["matchLabels"].update({"app.kubernetes.io/name": "other"}),
            lambda o: one(o, "InferencePool")["targetPorts"][0].update({"number": 8001}),
            lambda o: one(o, "InferencePool")["endpointPickerRef"]["port"].update({"number": 1}),
            lambda o: one(o, "PodDisruptionBudget").update({"minAvailable": 1}),
            lambda o: o.pop(next(i for i, d in enumerate(o) if d["kind"] == "Role")),
            lambda o: o.append(copy.deepcopy(o[0])),
        )
        for number, change in enumerate(changes):
            broken = copy.deepcopy(good)
            change(broken)
            self.assertTrue(judged(broken), f"change {number}")

    def test_rights_are_those_of_discovery(self):
        page = (harness.ROOT / "docs/formats/discovery.md").read_text()
        wanted = yaml.safe_load(re.search(r"```yaml\n(rules:.*?)```", page, re.S)[1])["rules"]
        self.assertEqual(next(d for d in documents() if d["kind"] == "Role")["rules"], wanted)

    def test_the_operator_has_the_rights_of_its_own_manifest(self):
        file = harness.ROOT / "deploy/kubernetes/operator.yaml"
        if not file.exists():
            self.skipTest("there is no manifest of the operator")
        theirs = next(d for d in yaml.safe_load_all(file.read_text()) if d and d["kind"] == "Role" and d["metadata"]["name"] == "pixii-operator")
        ours = next(d for d in documents({"operator": {"enabled": True}}) if d["kind"] == "Role" and d["metadata"]["name"] == "pixii-operator")
        self.assertEqual(ours["rules"], theirs["rules"])

    def test_a_package_is_the_same_bytes_each_time(self):
        with tempfile.TemporaryDirectory(prefix="pixii-chart-") as folder:
            made = []
            for place in ("a", "b"):
                out = pathlib.Path(folder) / place
                out.mkdir()
                done = subprocess.run([SYSTEM_PYTHON, str(harness.ROOT / "tools/chart"), "package", "v9.8.7", "--out", str(out)],
                                      capture_output=True, text=True, env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"})
                self.assertEqual(done.returncode, 0, done.stderr)
                made.append((out / "pixii-9.8.7.tgz").read_bytes())
            self.assertEqual(*made)
            with tarfile.open(pathlib.Path(folder) / "a/pixii-9.8.7.tgz") as packed:
                names = packed.getnames()
                self.assertIn("pixii/templates/workers.yaml", names)
                self.assertIn("pixii/values.schema.json", names)
                said = yaml.safe_load(packed.extractfile("pixii/Chart.yaml").read())
                self.assertEqual((said["version"], said["appVersion"]), ("9.8.7", "9.8.7"))


if __name__ == "__main__":
    harness.main()
