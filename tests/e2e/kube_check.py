"""A strict judge of Kubernetes manifests, offline: fields of the kinds that the chart uses and no others, with their types, and whether
what one object says of another is so. Fields are those of the API reference of Kubernetes 1.30 (apps/v1, core/v1, policy/v1,
autoscaling/v2, networking.k8s.io/v1, rbac/v1), of prometheus-operator's ServiceMonitor, KEDA's ScaledObject, the Gateway API's HTTPRoute
and the inference extension's InferencePool.
"""
import re

NAME = re.compile(r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")
LABEL = re.compile(r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")
QUANTITY = re.compile(r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$")

text, flag, number = str, bool, int
strings = [text]


class Map(dict):
    """Any keys, values of one type."""


def quantity(value, at):
    return [] if QUANTITY.match(str(value)) and not isinstance(value, bool) else [f"{at}: {value!r} is no quantity"]


def label(value, at):
    return [] if isinstance(value, str) and re.match(r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$", value) else [f"{at}: {value!r} is no value of a label"]


def port_reference(value, at):
    return [] if isinstance(value, (int, str)) and not isinstance(value, bool) else [f"{at}: {value!r} is no port"]


def one_of(*values):
    return lambda value, at: [] if value in values else [f"{at}: {value!r} is none of {values}"]


LABELS = Map(value=label)
SELECTOR = {"matchLabels!": LABELS}
META = {"name!": text, "namespace!": text, "labels": LABELS, "annotations": Map(value=text)}
PROBE = {"httpGet!": {"path!": text, "port!": port_reference}, "periodSeconds": number, "timeoutSeconds": number, "failureThreshold": number,
         "initialDelaySeconds": number}
CONTAINER = {
    "name!": text, "image!": text, "imagePullPolicy": one_of("Always", "IfNotPresent", "Never"), "args!": strings,
    "env": [{"name!": text, "value": text, "valueFrom": {"fieldRef": {"fieldPath!": text}, "secretKeyRef": {"name!": text, "key!": text}}}],
    "ports": [{"name!": text, "containerPort!": number, "protocol": one_of("TCP", "UDP")}],
    "livenessProbe": PROBE, "readinessProbe": PROBE, "startupProbe": PROBE, "lifecycle": {"preStop!": {"sleep!": {"seconds!": number}}},
    "resources!": {"requests!": Map(value=quantity), "limits": Map(value=quantity)},
    "securityContext!": {"allowPrivilegeEscalation!": flag, "readOnlyRootFilesystem!": flag, "capabilities!": {"drop!": strings}},
    "volumeMounts": [{"name!": text, "mountPath!": text, "readOnly": flag}],
}
POD = {
    "serviceAccountName!": text, "imagePullSecrets": [{"name!": text}], "terminationGracePeriodSeconds!": number,
    "securityContext!": {"runAsNonRoot!": flag, "runAsUser": number, "runAsGroup": number, "fsGroup": number, "seccompProfile": {"type!": one_of("RuntimeDefault")}},
    "nodeSelector": LABELS, "tolerations": [{"key": text, "operator": one_of("Exists", "Equal"), "value": text, "effect": text}],
    "containers!": [CONTAINER],
    "volumes": [{"name!": text, "emptyDir": {"medium": text, "sizeLimit": quantity}, "secret": {"secretName!": text},
                 "persistentVolumeClaim": {"claimName!": text, "readOnly": flag}}],
}
PEER = {"podSelector": SELECTOR, "namespaceSelector": SELECTOR, "ipBlock": {"cidr!": text, "except": strings}}
KINDS = {
    ("apps/v1", "Deployment"): {"spec!": {
        "replicas": number, "selector!": SELECTOR, "strategy": {"type!": one_of("RollingUpdate"), "rollingUpdate": {"maxUnavailable": number, "maxSurge": number}},
        "template!": {"metadata!": {"labels!": LABELS, "annotations": Map(value=text)}, "spec!": POD}}},
    ("v1", "Service"): {"spec!": {
        "type": one_of("ClusterIP", "NodePort", "LoadBalancer"), "clusterIP": one_of("None"), "selector!": LABELS,
        "ports!": [{"name!": text, "port!": number, "targetPort!": port_reference, "protocol": one_of("TCP"), "appProtocol": text}]}},
    ("v1", "ServiceAccount"): {},
    ("rbac.authorization.k8s.io/v1", "Role"): {"rules!": [{"apiGroups!": strings, "resources!": strings, "verbs!": [one_of(
        "create", "delete", "get", "list", "patch", "update", "watch")]}]},
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): {
        "subjects!": [{"kind!": one_of("ServiceAccount"), "name!": text, "namespace!": text}],
        "roleRef!": {"apiGroup!": one_of("rbac.authorization.k8s.io"), "kind!": one_of("Role"), "name!": text}},
    ("policy/v1", "PodDisruptionBudget"): {"spec!": {"maxUnavailable": number, "minAvailable": number, "selector!": SELECTOR}},
    ("autoscaling/v2", "HorizontalPodAutoscaler"): {"spec!": {
        "scaleTargetRef!": {"apiVersion!": text, "kind!": text, "name!": text}, "minReplicas": number, "maxReplicas!": number,
        "metrics!": [{"type!": one_of("Pods"), "pods!": {"metric!": {"name!": text}, "target!": {"type!": one_of("AverageValue"), "averageValue!": quantity}}}],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": number}}}},
    ("keda.sh/v1alpha1", "ScaledObject"): {"spec!": {
        "scaleTargetRef!": {"apiVersion": text, "kind": text, "name!": text}, "minReplicaCount": number, "maxReplicaCount": number,
        "triggers!": [{"type!": one_of("prometheus"), "metadata!": {"serverAddress!": text, "query!": text, "threshold!": text}}]}},
    ("networking.k8s.io/v1", "NetworkPolicy"): {"spec!": {
        "podSelector!": {"matchLabels": LABELS}, "policyTypes!": [one_of("Ingress", "Egress")],
        "ingress": [{"from": [PEER], "ports": [{"port": port_reference, "protocol": one_of("TCP")}]}]}},
    ("monitoring.coreos.com/v1", "ServiceMonitor"): {"spec!": {
        "selector!": SELECTOR, "endpoints!": [{"port!": text, "path": text, "interval": text}]}},
    ("inference.networking.k8s.io/v1", "InferencePool"): {"spec!": {
        "selector!": SELECTOR, "targetPorts!": [{"number!": number}],
        "endpointPickerRef!": {"group": text, "kind": one_of("Service"), "name!": text, "port!": {"number!": number}, "failureMode": one_of("FailOpen", "FailClose")}}},
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): {"spec!": {
        "parentRefs!": [{"name!": text}], "rules!": [{"backendRefs!": [{"group": text, "kind": text, "name!": text}]}]}},
}


def shape(value, wanted, at):
    """Problems of a value that should be as `wanted` says."""
    if isinstance(wanted, Map):
        if not isinstance(value, dict):
            return [f"{at}: is no map"]
        return [p for k, v in value.items() for p in shape(v, wanted["value"], f"{at}.{k}") + ([] if LABEL.match(k) else [f"{at}: {k!r} is no key"])]
    if isinstance(wanted, dict):
        if not isinstance(value, dict):
            return [f"{at}: is no object"]
        known = {name.rstrip("!"): inner for name, inner in wanted.items()}
        out = [f"{at}.{name.rstrip('!')}: is missing" for name in wanted if name.endswith("!") and name.rstrip("!") not in value]
        for name, inner in value.items():
            out += shape(inner, known[name], f"{at}.{name}") if name in known else [f"{at}.{name}: there is no such field"]
        return out
    if isinstance(wanted, list):
        if not isinstance(value, list):
            return [f"{at}: is no list"]
        return [p for i, item in enumerate(value) for p in shape(item, wanted[0], f"{at}[{i}]")]
    if isinstance(wanted, type):
        right = isinstance(value, wanted) and not (wanted is int and isinstance(value, bool))
        return [] if right else [f"{at}: {value!r} is no {wanted.__name__}"]
    return wanted(value, at)


def title(document):
    return f"{document.get('kind')}/{(document.get('metadata') or {}).get('name')}"


def matches(selector, labels):
    return bool(selector) and all(labels.get(k) == v for k, v in selector.items())


class Objects:
    """All objects of one installation."""

    def __init__(self, documents, given=(), metrics=()):
        """`given`: names of what is made before ("Secret/name", "Gateway/name"). `metrics`: names that exist."""
        self.documents, self.given, self.metrics = documents, set(given), set(metrics)

    def of(self, kind):
        return [d for d in self.documents if d.get("kind") == kind]

    def named(self, kind, name):
        return next((d for d in self.of(kind) if d["metadata"]["name"] == name), None)

    def problems(self):
        out = []
        for document in self.documents:
            wanted = KINDS.get((document.get("apiVersion"), document.get("kind")))
            if wanted is None:
                out.append(f"{title(document)}: {document.get('apiVersion')} has no such kind here")
            else:
                out += shape(document, {"apiVersion!": text, "kind!": text, "metadata!": META, **wanted}, title(document))
        if out:
            return out  # what refers to what cannot be read
        names = [(d["kind"], d["metadata"]["namespace"], d["metadata"]["name"]) for d in self.documents]
        out += [f"{name}: is there twice" for name in sorted({n for n in names if names.count(n) > 1})]
        out += [f"{title(d)}: its name is none" for d in self.documents if not NAME.match(d["metadata"]["name"]) or len(d["metadata"]["name"]) > 63]
        for kind, check in (("Deployment", self.deployment), ("Service", self.service), ("RoleBinding", self.binding), ("PodDisruptionBudget", self.budget),
                            ("HorizontalPodAutoscaler", self.autoscaler), ("ScaledObject", self.scaled), ("NetworkPolicy", self.policy),
                            ("ServiceMonitor", self.monitor), ("InferencePool", self.pool), ("HTTPRoute", self.route)):
            for document in self.of(kind):
                out += [f"{title(document)}: {problem}" for problem in check(document)]
        return out

    def pods(self):
        return [(d, d["spec"]["template"]) for d in self.of("Deployment")]

    def selected(self, selector):
        return [template for _, template in self.pods() if matches(selector, template["metadata"]["labels"])]

    def there(self, kind, name):
        return [] if self.named(kind, name) or f"{kind}/{name}" in self.given else [f"there is no {kind} {name}"]

    def deployment(self, document):
        spec, template = document["spec"], document["spec"]["template"]
        pod = template["spec"]
        if not matches(spec["selector"]["matchLabels"], template["metadata"]["labels"]):
            yield "its selector does not match its pods"
        if len(self.selected(spec["selector"]["matchLabels"])) != 1:
            yield "its selector matches pods of another one"
        yield from self.there("ServiceAccount", pod["serviceAccountName"])
        volumes = {v["name"] for v in pod.get("volumes", [])}
        for volume in pod.get("volumes", []):
            if len(volume) != 2:
                yield f"volume {volume['name']} is of no kind, or of two"
            if "secret" in volume:
                yield from self.there("Secret", volume["secret"]["secretName"])
        if not pod["securityContext"]["runAsNonRoot"]:
            yield "it may run as root"
        names = [port["name"] for c in pod["containers"] for port in c.get("ports", [])]
        numbers = [port["containerPort"] for c in pod["containers"] for port in c.get("ports", [])]
        if len(set(names)) < len(names) or len(set(numbers)) < len(numbers):
            yield "its containers have a port twice"
        for container in pod["containers"]:
            ports = {p["name"] for p in container.get("ports", [])}
            probes = ("livenessProbe", "readinessProbe", "startupProbe") if ports else ()
            for missing in [p for p in (*probes, *(("lifecycle",) if ports else ())) if p not in container]:
                yield f"{container['name']}: it has ports and no {missing}"
            for probe in [p for p in probes if p in container]:
                if container[probe]["httpGet"]["port"] not in ports:
                    yield f"{container['name']}.{probe}: it has no port {container[probe]['httpGet']['port']}"
            for mount in container.get("volumeMounts", []):
                if mount["name"] not in volumes:
                    yield f"{container['name']}: there is no volume {mount['name']}"
            security = container["securityContext"]
            if not security["readOnlyRootFilesystem"] or security["allowPrivilegeEscalation"] or security["capabilities"]["drop"] != ["ALL"]:
                yield f"{container['name']}: it may do more than it needs"
            variables = {v["name"] for v in container.get("env", [])}
            for used in re.findall(r"\$\((\w+)\)", " ".join(container["args"])):
                if used not in variables:
                    yield f"{container['name']}: there is no variable {used}"
            drain = next((int(a.removeprefix("--drain-timeout=").rstrip("s")) for a in container["args"] if a.startswith("--drain-timeout=")), 30 if ports else 0)
            if pod["terminationGracePeriodSeconds"] < drain + container.get("lifecycle", {"preStop": {"sleep": {"seconds": 0}}})["preStop"]["sleep"]["seconds"] + 5:
                yield f"{container['name']}: it is killed before it has drained"
            for mounted in re.findall(r"=(/etc/pixii/[\w/-]+)", " ".join(container["args"])):
                if not any(mounted.startswith(m["mountPath"] + "/") for m in container.get("volumeMounts", [])):
                    yield f"{container['name']}: nothing is mounted at {mounted}"

    def service(self, document):
        selected = self.selected(document["spec"]["selector"])
        if len(selected) != 1:
            yield f"it selects {len(selected)} deployments"
        for template in selected:
            ports = {p["name"] for c in template["spec"]["containers"] for p in c.get("ports", [])}
            for port in document["spec"]["ports"]:
                if port["targetPort"] not in ports:
                    yield f"its pods have no port {port['targetPort']}"

    def binding(self, document):
        yield from self.there("Role", document["roleRef"]["name"])
        for subject in document["subjects"]:
            yield from self.there("ServiceAccount", subject["name"])
            if subject["namespace"] != document["metadata"]["namespace"]:
                yield "it binds somebody of another namespace"

    def budget(self, document):
        if len(self.selected(document["spec"]["selector"]["matchLabels"])) != 1:
            yield "it does not select one deployment"
        if ("maxUnavailable" in document["spec"]) == ("minAvailable" in document["spec"]):
            yield "it needs one of maxUnavailable and minAvailable"

    def target(self, document):
        deployment = self.named("Deployment", document["spec"]["scaleTargetRef"]["name"])
        if deployment is None:
            yield "it scales nothing that is there"
        elif "replicas" in deployment["spec"]:
            yield "what it scales says its own number of replicas"

    def metric(self, name):
        return [] if name in self.metrics else [f"there is no metric {name}"]

    def autoscaler(self, document):
        yield from self.target(document)
        if document["spec"]["minReplicas"] > document["spec"]["maxReplicas"]:
            yield "minReplicas is more than maxReplicas"
        for metric in document["spec"]["metrics"]:
            yield from self.metric(metric["pods"]["metric"]["name"])

    def scaled(self, document):
        yield from self.target(document)
        for trigger in document["spec"]["triggers"]:
            found = re.match(r"^sum\((\w+)\{", trigger["metadata"]["query"])
            yield from self.metric(found[1]) if found else ["its query is of another form"]

    def policy(self, document):
        selector = document["spec"]["podSelector"].get("matchLabels", {})
        selected = self.selected(selector)
        if not selected:
            yield "it is of no pods"
        for rule in document["spec"].get("ingress", []):
            for port in rule.get("ports", []):
                if not any(port["port"] == p["name"] for t in selected for c in t["spec"]["containers"] for p in c.get("ports", [])):
                    yield f"none of its pods has the port {port['port']}"

    def monitor(self, document):
        services = [s for s in self.of("Service") if matches(document["spec"]["selector"]["matchLabels"], s["metadata"]["labels"])]
        if len(services) != 1:
            yield f"it selects {len(services)} services"
        for endpoint in document["spec"]["endpoints"]:
            if not any(endpoint["port"] == p["name"] for s in services for p in s["spec"]["ports"]):
                yield f"its service has no port {endpoint['port']}"

    def pool(self, document):
        spec = document["spec"]
        selected = self.selected(spec["selector"]["matchLabels"])
        if not selected:
            yield "it is of no pods"
        for template in selected:
            numbers = {p["containerPort"] for c in template["spec"]["containers"] for p in c.get("ports", [])}
            for target in spec["targetPorts"]:
                if target["number"] not in numbers:
                    yield f"its pods have no port {target['number']}"
            direct = [c for c in template["spec"]["containers"] if "--router-mode=direct" in c["args"]]
            if len(direct) != 1:
                yield "its pods have no frontend that sends where it is told"
        service = self.named("Service", spec["endpointPickerRef"]["name"])
        if service is None or all(p["port"] != spec["endpointPickerRef"]["port"]["number"] for p in service["spec"]["ports"]):
            yield "its endpoint picker is not there"
        for template in self.selected(service["spec"]["selector"]) if service else []:
            said = next((a for a in template["spec"]["containers"][0]["args"] if a.startswith("--endpoint-port=")), "")
            if said != f"--endpoint-port={spec['targetPorts'][0]['number']}":
                yield "its endpoint picker sends to another port"

    def route(self, document):
        for parent in document["spec"]["parentRefs"]:
            yield from self.there("Gateway", parent["name"])
        for rule in document["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                yield from self.there(backend["kind"], backend["name"])
