#include "sim/kube_api_state.h"

#include <fmt/format.h>

#include <charconv>
#include <set>

#include "control/kube_objects.h"
#include "sim/kube_objects_check.h"
#include "sim/kube_schema.h"
#include "wire/http.h"

namespace pixii::kube {

namespace {

using wire::Json;

constexpr std::size_t kHistoryMax = 10'000;
constexpr std::size_t kBodyBytesMax = 3 * 1024 * 1024;

Reply Failure(int code, std::string_view reason, std::string message) {
  return Reply{.status = code, .body = MakeStatus(code, reason, std::move(message))};
}

Reply NotFound(const Target& target) {
  return Failure(404, "NotFound",
                 fmt::format("{} \"{}\" not found", target.resource.plural, target.name));
}

Reply Conflict(const Target& target, std::string_view why) {
  return Failure(409, "Conflict",
                 fmt::format("Operation cannot be fulfilled on {} \"{}\": {}",
                             target.resource.plural, target.name, why));
}

std::vector<std::string> Segments(std::string_view path) {
  std::vector<std::string> segments;
  while (!path.empty()) {
    path.remove_prefix(1);  // the slash
    const std::size_t slash = path.find('/');
    segments.emplace_back(path.substr(0, slash));
    path.remove_prefix(slash == std::string_view::npos ? path.size() : slash);
  }
  return segments;
}

std::map<std::string, std::string> QueryOf(std::string_view query) {
  std::map<std::string, std::string> parameters;
  while (!query.empty()) {
    const std::size_t end = query.find('&');
    const std::string_view item = query.substr(0, end);
    const std::size_t equals = item.find('=');
    parameters[std::string(item.substr(0, equals))] =
        equals == std::string_view::npos
            ? ""
            : wire::PercentDecode(item.substr(equals + 1)).value_or("");
    query.remove_prefix(end == std::string_view::npos ? query.size() : end + 1);
  }
  return parameters;
}

bool IsTrue(const std::map<std::string, std::string>& query, const std::string& name) {
  const auto found = query.find(name);
  return found != query.end() && (found->second == "1" || found->second == "true");
}

std::string ParameterOf(const Target& target, const std::string& name) {
  const auto found = target.query.find(name);
  return found == target.query.end() ? std::string() : found->second;
}

std::string VerbOf(const std::string& method, bool named, bool watch) {
  if (method == "GET") {
    return named ? "get" : watch ? "watch" : "list";
  }
  return method == "POST"     ? "create"
         : method == "PUT"    ? "update"
         : method == "PATCH"  ? "patch"
         : method == "DELETE" ? "delete"
                              : "";
}

bool Selected(const Target& target, const Json& object) {
  const std::string field = ParameterOf(target, "fieldSelector");
  return Matches(object, ParameterOf(target, "labelSelector")).value_or(false) &&
         (field.empty() || field == "metadata.name=" + Text(object, {"metadata", "name"}));
}

Json NamesOf(const Resource& resource) {
  Json entry{Json::Object{}};
  entry.Set("name", resource.plural);
  entry.Set("singularName", "");
  entry.Set("namespaced", true);
  entry.Set("kind", resource.kind);
  entry.Set("verbs", Json::Array{"create", "delete", "get", "list", "patch", "update", "watch"});
  return entry;
}

Json Of(std::string_view api_version, std::string_view kind) {
  Json object{Json::Object{}};
  object.Set("kind", kind);
  object.Set("apiVersion", api_version);
  return object;
}

Json OnlyMetadata(const Json& object) {
  Json out = Of("meta.k8s.io/v1", "PartialObjectMetadata");
  out.Set("metadata", *object.Find("metadata"));
  return out;
}

}  // namespace

Json MakeStatus(int code, std::string_view reason, std::string message) {
  Json status = Of("v1", "Status");
  status.Set("metadata", Json::Object{});
  status.Set("status", code < 300 ? "Success" : "Failure");
  status.Set("message", std::move(message));
  status.Set("reason", reason);
  status.Set("code", code);
  return status;
}

ApiState::ApiState()
    : resources_{{.group_version = "v1", .plural = "configmaps", .kind = "ConfigMap"},
                 {.group_version = "coordination.k8s.io/v1", .plural = "leases", .kind = "Lease"},
                 {.group_version = "v1", .plural = "services", .kind = "Service"},
                 {.group_version = "v1", .plural = "pods", .kind = "Pod", .has_status = true},
                 {.group_version = "apps/v1",
                  .plural = "replicasets",
                  .kind = "ReplicaSet",
                  .has_status = true},
                 {.group_version = "apps/v1",
                  .plural = "deployments",
                  .kind = "Deployment",
                  .has_status = true}} {}

std::optional<Target> ApiState::Locate(const Request& request) const {
  for (const Resource& resource : resources_) {
    const bool is_core = resource.group_version.find('/') == std::string::npos;
    const std::string root = (is_core ? "/api/" : "/apis/") + resource.group_version;
    if (!request.path.starts_with(root + "/")) {
      continue;
    }
    std::vector<std::string> rest = Segments(std::string_view(request.path).substr(root.size()));
    Target target{.resource = resource, .query = QueryOf(request.query)};
    if (rest.size() >= 2 && rest[0] == "namespaces") {
      target.space = rest[1];
      rest.erase(rest.begin(), rest.begin() + 2);
    }
    target.status = rest.size() == 3 && rest[2] == "status" && resource.has_status;
    if (rest.empty() || rest.size() > (target.status ? 3 : 2) || rest[0] != resource.plural) {
      continue;
    }
    target.name = rest.size() >= 2 ? rest[1] : "";
    target.verb = VerbOf(request.method, !target.name.empty(), IsTrue(target.query, "watch"));
    const bool on_all = target.space.empty() && target.verb != "list" && target.verb != "watch";
    const bool on_collection = target.name.empty() && target.verb != "list" &&
                               target.verb != "watch" && target.verb != "create";
    const bool of_status =
        target.status && target.verb != "get" && target.verb != "update" && target.verb != "patch";
    if (on_all || on_collection || of_status || (target.verb == "create" && !target.name.empty())) {
      target.verb.clear();
    }
    return target;
  }
  return std::nullopt;
}

/// What kinds there are, for clients that ask.
std::optional<Reply> ApiState::Discover(const Request& request) const {
  Json reply;
  Json::Array names;
  if (request.path == "/version") {
    reply.Set("major", "1");
    reply.Set("minor", "32");
    reply.Set("gitVersion", "v1.32.0");
    return Reply{.body = std::move(reply)};
  }
  if (request.path == "/api") {
    reply = Of("v1", "APIVersions");
    reply.Set("versions", Json::Array{"v1"});
    return Reply{.body = std::move(reply)};
  }
  if (request.path == "/apis") {
    std::set<std::string> seen;
    for (const Resource& resource : resources_) {
      const std::size_t slash = resource.group_version.find('/');
      if (slash == std::string::npos || !seen.insert(resource.group_version).second) {
        continue;
      }
      Json version{Json::Object{}};
      version.Set("groupVersion", resource.group_version);
      version.Set("version", resource.group_version.substr(slash + 1));
      Json group{Json::Object{}};
      group.Set("name", resource.group_version.substr(0, slash));
      group.Set("versions", Json::Array{version});
      group.Set("preferredVersion", version);
      names.push_back(std::move(group));
    }
    reply = Of("v1", "APIGroupList");
    reply.Set("groups", std::move(names));
    return Reply{.body = std::move(reply)};
  }
  for (const Resource& resource : resources_) {
    if (request.path == "/api/" + resource.group_version ||
        request.path == "/apis/" + resource.group_version) {
      names.push_back(NamesOf(resource));
      reply = Of("v1", "APIResourceList");
      reply.Set("groupVersion", resource.group_version);
    }
  }
  if (names.empty()) {
    return std::nullopt;
  }
  reply.Set("resources", std::move(names));
  return Reply{.body = std::move(reply)};
}

Reply ApiState::Handle(const Request& request, rt::WallTime now) {
  now_ = now;
  const std::optional<Target> target = Locate(request);
  if (!target) {
    if (std::optional<Reply> names = Discover(request); names && request.method == "GET") {
      return std::move(*names);
    }
    return Failure(404, "NotFound", "the server could not find the requested resource");
  }
  if (request.body.size() > kBodyBytesMax) {
    return Failure(413, "RequestEntityTooLarge", "limit is 3145728");
  }
  if (target->verb == "list") {
    return List(*target, request);
  }
  if (target->verb == "create") {
    return Create(*target, request, now);
  }
  if (target->verb == "delete") {
    return Delete(*target, request);
  }
  if (target->verb == "patch") {
    return Patch(*target, request);
  }
  if (target->verb == "update") {
    Result<Json> object = wire::ParseJson(request.body);
    if (!object || !object->is_object()) {
      return Failure(400, "BadRequest", "the body is no JSON object");
    }
    return Update(*target, std::move(*object));
  }
  if (target->verb == "get") {
    const auto found = objects_.find(KeyOf(*target));
    return found == objects_.end() ? NotFound(*target) : Reply{.body = found->second};
  }
  return Failure(405, "MethodNotAllowed", "the server does not allow this method on the resource");
}

// ---- verbs

Reply ApiState::Create(const Target& target, const Request& request, rt::WallTime now) {
  Result<Json> object = wire::ParseJson(request.body);
  if (!object || !object->is_object() || Text(*object, {"kind"}) != target.resource.kind ||
      Text(*object, {"apiVersion"}) != target.resource.group_version) {
    return Failure(400, "BadRequest",
                   fmt::format("the body is no {} of {}", target.resource.kind,
                               target.resource.group_version));
  }
  const std::string space = Text(*object, {"metadata", "namespace"});
  if ((!space.empty() && space != target.space) ||
      !Text(*object, {"metadata", "resourceVersion"}).empty()) {
    return Failure(400, "BadRequest",
                   "the namespace is another one, or resourceVersion is set on a new object");
  }
  if (std::optional<Reply> wrong = Complete(target, *object)) {
    return std::move(*wrong);
  }
  Target named = target;
  named.name = Text(*object, {"metadata", "name"});
  if (objects_.contains(KeyOf(named))) {
    return Failure(409, "AlreadyExists",
                   fmt::format("{} \"{}\" already exists", target.resource.plural, named.name));
  }
  SetMeta(*object, "namespace", target.space);
  SetMeta(*object, "uid", fmt::format("00000000-0000-4000-8000-{:012}", ++last_uid_));
  SetMeta(*object, "creationTimestamp", control::KubeMicroTime(now).substr(0, 19) + "Z");
  if (target.resource.has_status) {
    SetMeta(*object, "generation", 1);
    std::erase_if(object->object(), [](const auto& member) { return member.first == "status"; });
  }
  if (target.resource.kind == "Service" && Text(*object, {"spec", "clusterIP"}).empty()) {
    Json spec = *object->Find("spec");
    spec.Set("clusterIP", fmt::format("10.96.{}.{}", last_uid_ / 250, last_uid_ % 250 + 1));
    object->Set("spec", std::move(spec));
  }
  return Reply{.status = 201, .body = Store(KeyOf(named), std::move(*object))};
}

/// Defaults, and what is wrong with it.
std::optional<Reply> ApiState::Complete(const Target& target, Json& object) const {
  if (target.resource.schema != nullptr) {
    Json known = Completed(*target.resource.schema, object);
    for (const char* always : {"apiVersion", "kind", "metadata"}) {
      if (const Json* there = object.Find(always)) {
        known.Set(always, *there);
      }
    }
    object = std::move(known);
    const std::vector<std::string> faults = SchemaFaults(*target.resource.schema, object);
    if (!faults.empty()) {
      return Failure(422, "Invalid",
                     fmt::format("{} \"{}\" is invalid: {}", target.resource.kind,
                                 Text(object, {"metadata", "name"}), fmt::join(faults, ", ")));
    }
  } else {
    AddDefaults(object, target.resource.kind);
  }
  if (const std::optional<std::string> wrong = Invalid(object, target.resource.kind)) {
    return Failure(422, "Invalid", *wrong);
  }
  return std::nullopt;
}

Reply ApiState::Update(const Target& target, Json object) {
  const auto found = objects_.find(KeyOf(target));
  if (found == objects_.end()) {
    return NotFound(target);
  }
  const Json& before = found->second;
  if (Text(object, {"metadata", "name"}) != target.name) {
    return Failure(400, "BadRequest", "the name of the object is another one");
  }
  const std::string version = Text(object, {"metadata", "resourceVersion"});
  const std::string uid = Text(object, {"metadata", "uid"});
  if (!uid.empty() && uid != Text(before, {"metadata", "uid"})) {
    return Conflict(target, "Precondition failed: UID in precondition: " + uid);
  }
  if (!version.empty() && version != Text(before, {"metadata", "resourceVersion"})) {
    return Conflict(target,
                    "the object has been modified; please apply your changes to the latest "
                    "version and try again");
  }
  if (target.status) {
    const Json* status = object.Find("status");
    Json told = status == nullptr ? Json() : *status;
    object = before;
    object.Set("status", std::move(told));
  } else if (target.resource.has_status) {
    const Json* status = before.Find("status");
    object.Set("status", status == nullptr ? Json() : *status);
  }
  if (const Json* status = object.Find("status"); status != nullptr && status->is_null()) {
    std::erase_if(object.object(), [](const auto& member) { return member.first == "status"; });
  }
  if (std::optional<Reply> wrong = Complete(target, object)) {
    return std::move(*wrong);
  }
  if (const std::optional<std::string> changed = Immutable(before, object, target.resource.kind)) {
    return Failure(422, "Invalid", *changed);
  }
  for (const std::string_view kept :
       {"uid", "namespace", "creationTimestamp", "resourceVersion", "generation",
        "deletionTimestamp", "deletionGracePeriodSeconds"}) {
    if (const Json* there = At(before, {"metadata", kept})) {
      SetMeta(object, kept, *there);
    }
  }
  const Json* spec = object.Find("spec");
  const Json* spec_before = before.Find("spec");
  if (target.resource.has_status && spec != nullptr && spec_before != nullptr &&
      Sorted(*spec) != *spec_before) {
    SetMeta(object, "generation",
            At(before, {"metadata", "generation"})->AsInt().value_or(0) + std::int64_t{1});
  }
  if (Sorted(object) == before) {
    return Reply{.body = before};  // nothing changed: no new version
  }
  return Reply{.body = Store(KeyOf(target), std::move(object))};
}

Reply ApiState::Patch(const Target& target, const Request& request) {
  if (!request.content_type.starts_with("application/merge-patch+json")) {
    return Failure(415, "UnsupportedMediaType", "only application/merge-patch+json is served");
  }
  const Result<Json> patch = wire::ParseJson(request.body);
  const auto found = objects_.find(KeyOf(target));
  if (!patch || !patch->is_object()) {
    return Failure(400, "BadRequest", "the body is no merge patch");
  }
  return found == objects_.end() ? NotFound(target)
                                 : Update(target, MergePatch(found->second, *patch));
}

Reply ApiState::Delete(const Target& target, const Request& request) {
  const Result<Json> options = request.body.empty() ? Json() : wire::ParseJson(request.body);
  const auto found = objects_.find(KeyOf(target));
  if (!options) {
    return Failure(400, "BadRequest", "the body is no DeleteOptions");
  }
  if (found == objects_.end()) {
    return NotFound(target);
  }
  for (const std::string_view member : {"uid", "resourceVersion"}) {
    const std::string wanted = Text(*options, {"preconditions", member});
    if (!wanted.empty() && wanted != Text(found->second, {"metadata", member})) {
      return Conflict(
          target, fmt::format("the {} in the precondition ({}) does not match", member, wanted));
    }
  }
  Reply reply{.body = MakeStatus(200, "", "")};
  Json details{Json::Object{}};
  details.Set("name", target.name);
  details.Set("kind", target.resource.plural);
  details.Set("uid", Text(found->second, {"metadata", "uid"}));
  reply.body.Set("details", std::move(details));
  const Json* asked = options->Find("gracePeriodSeconds");
  const Json* usual = At(found->second, {"spec", "terminationGracePeriodSeconds"});
  const std::int64_t grace = asked != nullptr   ? asked->AsInt().value_or(30)
                             : usual != nullptr ? usual->AsInt().value_or(30)
                                                : 30;
  if (target.resource.kind == "Pod" && grace > 0) {
    MarkDeleted(KeyOf(target), grace);
    return Reply{.body = objects_.at(KeyOf(target))};
  }
  Remove(KeyOf(target));
  return reply;
}

/// A pod ends when its kubelet says so ("Termination of Pods"). False: it was marked before.
bool ApiState::MarkDeleted(const ObjectKey& key, std::int64_t grace_seconds) {
  Json object = objects_.at(key);
  if (At(object, {"metadata", "deletionTimestamp"}) != nullptr) {
    return false;
  }
  rt::WallTime until = now_;
  until.unix_seconds += grace_seconds;
  SetMeta(object, "deletionTimestamp", control::KubeMicroTime(until).substr(0, 19) + "Z");
  SetMeta(object, "deletionGracePeriodSeconds", grace_seconds);
  Store(key, std::move(object));
  return true;
}

Reply ApiState::List(const Target& target, const Request& request) const {
  if (!Matches(Json(), ParameterOf(target, "labelSelector"))) {
    return Failure(400, "BadRequest", "unable to parse the label selector");
  }
  const bool partial = request.accept.find("as=PartialObjectMetadataList") != std::string::npos;
  const std::string limit_text = ParameterOf(target, "limit");
  std::size_t limit = 0;
  std::from_chars(limit_text.data(), limit_text.data() + limit_text.size(), limit);
  const std::string from = ParameterOf(target, "continue");
  Json metadata{Json::Object{}};
  metadata.Set("resourceVersion", std::to_string(revision_));
  Json::Array items;
  std::string last;
  for (const auto& [key, object] : objects_) {
    const std::string place = std::get<1>(key) + "/" + std::get<2>(key);
    if (std::get<0>(key) != target.resource.plural || !Selected(target, object) ||
        (!target.space.empty() && std::get<1>(key) != target.space) ||
        (!from.empty() && place <= from)) {
      continue;
    }
    if (limit > 0 && items.size() == limit) {
      metadata.Set("continue", last);
      break;
    }
    last = place;
    Json item = partial ? OnlyMetadata(object) : object;
    if (!partial) {  // items of a typed list do not say their kind
      std::erase_if(item.object(), [](const wire::JsonMember& member) {
        return member.first == "kind" || member.first == "apiVersion";
      });
    }
    items.push_back(std::move(item));
  }
  Json list = partial ? Of("meta.k8s.io/v1", "PartialObjectMetadataList")
                      : Of(target.resource.group_version, target.resource.kind + "List");
  list.Set("metadata", std::move(metadata));
  list.Set("items", std::move(items));
  return Reply{.body = std::move(list)};
}

// ---- changes

Json ApiState::Store(const ObjectKey& key, Json object) {
  SetMeta(object, "resourceVersion", std::to_string(++revision_));
  Change change{.revision = revision_, .key = key};
  Json& there = objects_[key];
  if (there.is_object()) {
    change.before = there;
  }
  there = Sorted(object);
  change.after = there;
  history_.push_back(std::move(change));
  if (history_.size() > kHistoryMax) {
    compacted_ = history_.front().revision;
    history_.pop_front();
  }
  return there;
}

void ApiState::Remove(const ObjectKey& key) {
  auto found = objects_.extract(key);
  Change change{.revision = ++revision_, .key = key, .before = found.mapped()};
  change.last = std::move(found.mapped());
  SetMeta(change.last, "resourceVersion", std::to_string(revision_));
  history_.push_back(std::move(change));
}

void ApiState::Compact() {
  history_.clear();
  compacted_ = revision_;
}

void ApiState::Wipe() {
  objects_.clear();
  history_.clear();
  revision_ = 1;
  compacted_ = 0;
}

bool ApiState::CollectGarbage() {
  std::set<std::string> uids;
  for (const auto& [key, object] : objects_) {
    uids.insert(Text(object, {"metadata", "uid"}));
  }
  std::vector<ObjectKey> orphans;
  for (const auto& [key, object] : objects_) {
    const Json* owners = At(object, {"metadata", "ownerReferences"});
    bool owned = owners == nullptr || !owners->is_array() || owners->array().empty();
    if (!owned) {
      for (const Json& owner : owners->array()) {
        owned = owned || uids.contains(Text(owner, {"uid"}));
      }
    }
    if (!owned) {
      orphans.push_back(key);
    }
  }
  bool any = false;
  for (const ObjectKey& key : orphans) {
    if (std::get<0>(key) == "pods") {
      const Json* usual = At(objects_.at(key), {"spec", "terminationGracePeriodSeconds"});
      any = MarkDeleted(key, usual == nullptr ? 30 : usual->AsInt().value_or(30)) || any;
    } else {
      Remove(key);
      any = true;
    }
  }
  return any;
}

const Json* ApiState::Find(std::string_view plural, std::string_view space,
                           std::string_view name) const {
  const auto found = objects_.find({std::string(plural), std::string(space), std::string(name)});
  return found == objects_.end() ? nullptr : &found->second;
}

void ApiState::Each(std::string_view plural, const std::function<void(const Json&)>& look) const {
  for (auto at = objects_.lower_bound({std::string(plural), "", ""});
       at != objects_.end() && std::get<0>(at->first) == plural; ++at) {
    look(at->second);
  }
}

std::vector<Json> ApiState::Objects(std::string_view plural,
                                    const std::function<bool(const Json&)>& wanted) const {
  std::vector<Json> all;
  Each(plural, [&](const Json& object) {
    if (wanted(object)) {
      all.push_back(object);
    }
  });
  return all;
}

std::vector<Json> ApiState::Objects(std::string_view plural) const {
  return Objects(plural, [](const Json& /*object*/) { return true; });
}

// ---- watches

std::optional<std::vector<Event>> ApiState::EventsAfter(const Target& target,
                                                        std::uint64_t& revision) const {
  if (revision < compacted_) {
    return std::nullopt;
  }
  std::vector<Event> events;
  for (const Change& change : history_) {
    const auto& [plural, space, name] = change.key;
    if (change.revision <= revision || plural != target.resource.plural ||
        (!target.space.empty() && space != target.space)) {
      continue;
    }
    const bool before = change.before && Selected(target, *change.before);
    const bool after = change.after && Selected(target, *change.after);
    if (after) {
      events.push_back({.type = before ? "MODIFIED" : "ADDED", .object = *change.after});
    } else if (before && change.after) {  // its labels do not match any more
      Json last = *change.before;
      SetMeta(last, "resourceVersion", std::to_string(change.revision));
      events.push_back({.type = "DELETED", .object = std::move(last)});
    } else if (before) {
      events.push_back({.type = "DELETED", .object = change.last});
    }
  }
  revision = std::max(revision, revision_);
  return events;
}

std::vector<Event> ApiState::InitialEvents(const Target& target) const {
  std::vector<Event> events;
  for (const auto& [key, object] : objects_) {
    if (std::get<0>(key) == target.resource.plural && Selected(target, object) &&
        (target.space.empty() || std::get<1>(key) == target.space)) {
      events.push_back({.type = "ADDED", .object = object});
    }
  }
  return events;
}

Event ApiState::Bookmark(const Target& target, std::uint64_t revision) const {
  Json object = Of(target.resource.group_version, target.resource.kind);
  SetMeta(object, "resourceVersion", std::to_string(revision));
  SetMeta(object, "creationTimestamp", Json());
  return {.type = "BOOKMARK", .object = std::move(object)};
}

}  // namespace pixii::kube
