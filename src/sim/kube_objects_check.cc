#include "sim/kube_objects_check.h"

#include <algorithm>
#include <cctype>

#include "base/utf8.h"
#include "wire/base64.h"

namespace pixii::kube {

namespace {

using wire::Json;

constexpr std::size_t kConfigMapBytesMax = 1 << 20;
constexpr std::size_t kAnnotationBytesMax = 256 * 1024;

bool IsAlphanumeric(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; }

bool ConsistsOf(std::string_view text, std::string_view others) {
  return std::ranges::all_of(
      text, [&](char c) { return IsAlphanumeric(c) || others.find(c) != std::string_view::npos; });
}

// RFC 1123 subdomain.
bool IsName(std::string_view text) {
  return !text.empty() && text.size() <= 253 && ConsistsOf(text, "-.") &&
         IsAlphanumeric(text.front()) && IsAlphanumeric(text.back()) &&
         std::ranges::none_of(text, [](char c) { return c >= 'A' && c <= 'Z'; });
}

bool IsLabelText(std::string_view text) {
  return text.size() <= 63 && ConsistsOf(text, "-_.") &&
         (text.empty() || (IsAlphanumeric(text.front()) && IsAlphanumeric(text.back())));
}

bool IsLabelKey(std::string_view text) {
  const std::size_t slash = text.find('/');
  const std::string_view name = slash == std::string_view::npos ? text : text.substr(slash + 1);
  return !name.empty() && IsLabelText(name) &&
         (slash == std::string_view::npos || IsName(text.substr(0, slash)));
}

std::optional<std::string> InvalidMetadata(const Json& object) {
  if (!IsName(Text(object, {"metadata", "name"}))) {
    return "metadata.name: a lowercase RFC 1123 subdomain is required";
  }
  if (const Json* labels = At(object, {"metadata", "labels"}); labels && labels->is_object()) {
    for (const auto& [key, value] : labels->object()) {
      if (!IsLabelKey(key) || !value.is_string() || !IsLabelText(value.string())) {
        return "metadata.labels: '" + key + "' or its value is no label";
      }
    }
  }
  std::size_t bytes = 0;
  if (const Json* notes = At(object, {"metadata", "annotations"}); notes && notes->is_object()) {
    for (const auto& [key, value] : notes->object()) {
      if (!IsLabelKey(key) || !value.is_string()) {
        return "metadata.annotations: '" + key + "' is no annotation";
      }
      bytes += key.size() + value.string().size();
    }
  }
  if (bytes > kAnnotationBytesMax) {
    return "metadata.annotations: too long";
  }
  if (const Json* owners = At(object, {"metadata", "ownerReferences"});
      owners && owners->is_array()) {
    for (const Json& owner : owners->array()) {
      for (const std::string_view member : {"apiVersion", "kind", "name", "uid"}) {
        if (Text(owner, {member}).empty()) {
          return "metadata.ownerReferences: " + std::string(member) + " is required";
        }
      }
    }
  }
  return std::nullopt;
}

std::optional<std::string> InvalidConfigMap(const Json& object) {
  std::size_t bytes = 0;
  for (const std::string_view member : {"data", "binaryData"}) {
    const Json* data = object.Find(member);
    if (data == nullptr || !data->is_object()) {
      continue;
    }
    for (const auto& [key, value] : data->object()) {
      if (key.empty() || key.size() > 253 || !ConsistsOf(key, "-_.") || !value.is_string()) {
        return std::string(member) + ": '" + key + "' cannot be a key";
      }
      std::string content = value.string();
      if (member == "binaryData") {
        const std::optional<std::string> decoded = wire::DecodeBase64(content);
        if (!decoded) {
          return "binaryData: illegal base64 data";
        }
        content = *decoded;
      } else if (!IsValidUtf8(content)) {
        return "data: not UTF-8";
      }
      bytes += content.size();
    }
  }
  if (bytes > kConfigMapBytesMax) {
    return "Too long: must have at most 1048576 bytes";
  }
  return std::nullopt;
}

void SetDefault(Json& object, std::string_view name, Json value) {
  if (object.Find(name) == nullptr) {
    object.Set(name, std::move(value));
  }
}

/// Applies `change` to each item of a list; nothing where there is none.
template <class Change>
void EachOf(Json& object, std::string_view name, Change change) {
  const Json* found = object.Find(name);
  if (found == nullptr || !found->is_array()) {
    return;
  }
  Json items = *found;
  for (Json& item : items.array()) {
    change(item);
  }
  object.Set(name, std::move(items));
}

/// "1000m" is stored as "1" ("Resource units in Kubernetes").
void Canonize(Json& amounts) {
  for (auto& [name, amount] : amounts.object()) {
    if (amount.is_number()) {
      amount = Json(amount.digits());
    } else if (amount.is_string() && amount.string().ends_with("000m")) {
      amount = Json(amount.string().substr(0, amount.string().size() - 4));
    }
  }
}

void DefaultProbe(Json& container, std::string_view name) {
  const Json* found = container.Find(name);
  if (found == nullptr || !found->is_object()) {
    return;
  }
  Json probe = *found;
  SetDefault(probe, "timeoutSeconds", 1);
  SetDefault(probe, "periodSeconds", 10);
  SetDefault(probe, "successThreshold", 1);
  SetDefault(probe, "failureThreshold", 3);
  if (const Json* get = probe.Find("httpGet")) {
    Json asked = *get;
    SetDefault(asked, "scheme", "HTTP");
    probe.Set("httpGet", std::move(asked));
  }
  container.Set(name, std::move(probe));
}

void DefaultContainer(Json& container) {
  SetDefault(container, "imagePullPolicy", "IfNotPresent");
  SetDefault(container, "terminationMessagePath", "/dev/termination-log");
  SetDefault(container, "terminationMessagePolicy", "File");
  SetDefault(container, "resources", Json::Object{});
  EachOf(container, "ports", [](Json& port) { SetDefault(port, "protocol", "TCP"); });
  EachOf(container, "env", [](Json& variable) {
    if (Text(variable, {"value"}).empty()) {  // as left out
      std::erase_if(variable.object(), [](const auto& one) { return one.first == "value"; });
    }
    if (At(variable, {"valueFrom", "fieldRef"}) != nullptr) {
      Json from = *variable.Find("valueFrom");
      Json field = *from.Find("fieldRef");
      SetDefault(field, "apiVersion", "v1");
      from.Set("fieldRef", std::move(field));
      variable.Set("valueFrom", std::move(from));
    }
  });
  for (const std::string_view probe : {"startupProbe", "readinessProbe", "livenessProbe"}) {
    DefaultProbe(container, probe);
  }
  Json resources = *container.Find("resources");
  for (const std::string_view which : {"limits", "requests"}) {
    if (const Json* amounts = resources.Find(which)) {
      Json canonical = *amounts;
      Canonize(canonical);
      resources.Set(which, std::move(canonical));
    }
  }
  container.Set("resources", std::move(resources));
}

void DefaultPodSpec(Json& spec) {
  SetDefault(spec, "restartPolicy", "Always");
  SetDefault(spec, "terminationGracePeriodSeconds", 30);
  SetDefault(spec, "dnsPolicy", "ClusterFirst");
  SetDefault(spec, "securityContext", Json::Object{});
  SetDefault(spec, "schedulerName", "default-scheduler");
  EachOf(spec, "containers", DefaultContainer);
}

void DefaultDeployment(Json& spec) {
  SetDefault(spec, "replicas", 1);
  SetDefault(spec, "revisionHistoryLimit", 10);
  SetDefault(spec, "progressDeadlineSeconds", 600);
  Json rolling{Json::Object{}};
  rolling.Set("maxSurge", "25%");
  rolling.Set("maxUnavailable", "25%");
  Json strategy{Json::Object{}};
  strategy.Set("type", "RollingUpdate");
  strategy.Set("rollingUpdate", std::move(rolling));
  SetDefault(spec, "strategy", std::move(strategy));
}

std::optional<std::string> InvalidPodSpec(const Json& spec) {
  const Json* containers = spec.Find("containers");
  if (containers == nullptr || !containers->is_array() || containers->array().empty()) {
    return "containers: Required value";
  }
  for (const Json& container : containers->array()) {
    if (Text(container, {"name"}).empty() || Text(container, {"image"}).empty()) {
      return "containers: name and image are required";
    }
  }
  return std::nullopt;
}

std::optional<std::string> InvalidWorkload(const Json& object) {
  const Json* selector = At(object, {"spec", "selector", "matchLabels"});
  const Json* pods = At(object, {"spec", "template", "spec"});
  if (selector == nullptr || !selector->is_object() || selector->object().empty() ||
      pods == nullptr) {
    return "spec.selector and spec.template: Required value";
  }
  for (const auto& [name, value] : selector->object()) {
    if (!value.is_string() ||
        Text(object, {"spec", "template", "metadata", "labels", name}) != value.string()) {
      return "spec.template.metadata.labels: `selector` does not match template `labels`";
    }
  }
  const Json* replicas = At(object, {"spec", "replicas"});
  if (replicas != nullptr && replicas->AsInt().value_or(-1) < 0) {
    return "spec.replicas: must be greater than or equal to 0";
  }
  return InvalidPodSpec(*pods);
}

std::optional<std::string> InvalidService(const Json& object) {
  const std::string name = Text(object, {"metadata", "name"});
  const Json* ports = At(object, {"spec", "ports"});
  if (name.size() > 63 || name.find('.') != std::string::npos) {
    return "metadata.name: a DNS label is required";
  }
  return ports == nullptr || !ports->is_array() || ports->array().empty()
             ? std::optional<std::string>("spec.ports: Required value")
             : std::nullopt;
}

// "2026-01-31T23:59:59.000001Z"
bool IsMicroTime(std::string_view text) {
  constexpr std::string_view kShape = "dddd-dd-ddTdd:dd:dd.ddddddZ";
  return text.size() == kShape.size() && std::ranges::equal(text, kShape, [](char c, char shape) {
           return shape == 'd' ? c >= '0' && c <= '9' : c == shape;
         });
}

std::optional<std::string> InvalidLease(const Json& object) {
  const Json* duration = At(object, {"spec", "leaseDurationSeconds"});
  if (duration != nullptr && duration->AsInt().value_or(0) <= 0) {
    return "spec.leaseDurationSeconds: must be greater than 0";
  }
  for (const std::string_view member : {"acquireTime", "renewTime"}) {
    if (At(object, {"spec", member}) != nullptr && !IsMicroTime(Text(object, {"spec", member}))) {
      return "spec." + std::string(member) + ": no MicroTime";
    }
  }
  return std::nullopt;
}

std::optional<bool> MatchesOne(const Json* labels, std::string_view term) {
  const auto find = [&](std::string_view key) {
    return labels == nullptr ? nullptr : labels->Find(key);
  };
  const std::size_t equals = term.find('=');
  if (equals == std::string_view::npos) {
    const bool absent = term.starts_with('!');
    const std::string_view key = term.substr(absent ? 1 : 0);
    return IsLabelKey(key) ? std::optional((find(key) == nullptr) == absent) : std::nullopt;
  }
  const bool differs = equals > 0 && term[equals - 1] == '!';
  const std::string_view key = term.substr(0, differs ? equals - 1 : equals);
  std::string_view value = term.substr(equals + 1);
  value.remove_prefix(value.starts_with('=') ? 1 : 0);
  if (!IsLabelKey(key) || !IsLabelText(value)) {
    return std::nullopt;
  }
  const Json* label = find(key);
  return (label != nullptr && label->is_string() && label->string() == value) != differs;
}

}  // namespace

const Json* At(const Json& json, std::initializer_list<std::string_view> path) {
  const Json* at = &json;
  for (const std::string_view name : path) {
    at = at == nullptr ? nullptr : at->Find(name);
  }
  return at;
}

std::string Text(const Json& json, std::initializer_list<std::string_view> path) {
  const Json* at = At(json, path);
  return at != nullptr && at->is_string() ? at->string() : std::string();
}

void SetMeta(Json& object, std::string_view name, Json value) {
  const Json* there = object.Find("metadata");
  Json metadata = there != nullptr && there->is_object() ? *there : Json(Json::Object{});
  metadata.Set(name, std::move(value));
  object.Set("metadata", std::move(metadata));
}

Json Sorted(const Json& json) {
  if (json.is_array()) {
    Json::Array out;
    for (const Json& item : json.array()) {
      out.push_back(Sorted(item));
    }
    return out;
  }
  if (!json.is_object()) {
    return json;
  }
  Json::Object out;
  for (const auto& [name, value] : json.object()) {
    out.emplace_back(name, Sorted(value));
  }
  std::ranges::sort(out, {}, &wire::JsonMember::first);
  return out;
}

Json MergePatch(const Json& target, const Json& patch) {
  if (!patch.is_object()) {
    return patch;
  }
  Json::Object merged;
  if (target.is_object()) {
    for (const auto& [name, value] : target.object()) {
      if (patch.Find(name) == nullptr) {
        merged.emplace_back(name, value);
      }
    }
  }
  for (const auto& [name, value] : patch.object()) {
    if (!value.is_null()) {
      const Json* before = target.Find(name);
      merged.emplace_back(name, MergePatch(before == nullptr ? Json() : *before, value));
    }
  }
  return merged;
}

std::optional<std::string> Invalid(const Json& object, std::string_view kind) {
  if (std::optional<std::string> wrong = InvalidMetadata(object)) {
    return wrong;
  }
  if (kind == "ConfigMap") {
    return InvalidConfigMap(object);
  }
  if (kind == "Deployment" || kind == "ReplicaSet") {
    return InvalidWorkload(object);
  }
  if (kind == "Service") {
    return InvalidService(object);
  }
  if (kind == "Pod") {
    const Json* spec = object.Find("spec");
    return InvalidPodSpec(spec == nullptr ? Json(Json::Object{}) : *spec);
  }
  return kind == "Lease" ? InvalidLease(object) : std::nullopt;
}

void AddDefaults(Json& object, std::string_view kind) {
  const Json* found = object.Find("spec");
  if (found == nullptr || !found->is_object()) {
    return;
  }
  Json spec = *found;
  if (kind == "Pod") {
    DefaultPodSpec(spec);
  } else if (kind == "Deployment") {
    DefaultDeployment(spec);
    if (const Json* pods = At(spec, {"template", "spec"})) {
      Json complete = *pods;
      DefaultPodSpec(complete);
      Json whole = *spec.Find("template");
      whole.Set("spec", std::move(complete));
      spec.Set("template", std::move(whole));
    }
  } else if (kind == "Service") {
    SetDefault(spec, "type", "ClusterIP");
    SetDefault(spec, "sessionAffinity", "None");
    EachOf(spec, "ports", [](Json& port) { SetDefault(port, "protocol", "TCP"); });
  }
  object.Set("spec", std::move(spec));
}

std::optional<std::string> Immutable(const Json& before, const Json& object,
                                     std::string_view kind) {
  const auto changed = [&](std::initializer_list<std::string_view> path) {
    const Json* then = At(before, path);
    const Json* now = At(object, path);
    return Sorted(then == nullptr ? Json() : *then) != Sorted(now == nullptr ? Json() : *now);
  };
  if ((kind == "Deployment" || kind == "ReplicaSet") && changed({"spec", "selector"})) {
    return "spec.selector: field is immutable";
  }
  if (kind == "Service" && changed({"spec", "clusterIP"})) {
    return "spec.clusterIP: field is immutable";
  }
  return std::nullopt;
}

std::optional<bool> Matches(const Json& object, std::string_view selector) {
  const Json* labels = At(object, {"metadata", "labels"});
  bool all = true;
  while (!selector.empty()) {
    const std::size_t comma = selector.find(',');
    const std::optional<bool> one = MatchesOne(labels, selector.substr(0, comma));
    if (!one) {
      return std::nullopt;
    }
    all = all && *one;
    selector.remove_prefix(comma == std::string_view::npos ? selector.size() : comma + 1);
  }
  return all;
}

}  // namespace pixii::kube
