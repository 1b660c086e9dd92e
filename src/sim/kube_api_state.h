// What a Kubernetes API server knows and how it answers, without I/O: objects with versions, label
// selectors, merge patches, preconditions, owner references, a history to watch.
//
// Thread: values. It is strict where a real server is, so that a client that passes here does not
// rely on favours; what no client of ours asks for is refused with the status a server would use.
// Written after: Kubernetes API concepts and reference (ConfigMap, Service and Pod v1, Lease
// coordination.k8s.io/v1, Deployment and ReplicaSet apps/v1), "Custom Resources" (status
// subresource, generation, pruning, defaulting). Unlike a server: no managed fields, no server-side
// apply, a list's later pages show the state of their own time, no finalizers; only pods take time
// to end.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "rt/time.h"
#include "wire/json.h"

namespace pixii::kube {

/// A kind of objects that is served, in namespaces.
struct Resource {
  std::string group_version;  // "v1", "coordination.k8s.io/v1"
  std::string plural;
  std::string kind;
  /// It has a generation that counts changes of its spec, and a status that is written apart.
  bool has_status = false;
  std::shared_ptr<const wire::Json> schema = {};  // of a custom resource; null: built in
};

struct Request {
  std::string method;
  std::string path;   // without the query
  std::string query;  // encoded
  std::string accept;
  std::string content_type;
  std::string body;
};

struct Reply {
  int status = 200;
  wire::Json body;
};

/// {"kind": "Status", ...}, as errors are told.
wire::Json MakeStatus(int code, std::string_view reason, std::string message);

/// Which objects a request is about.
struct Target {
  Resource resource;
  std::string space = {};  // empty: all
  std::string name = {};   // empty: the collection
  bool status = false;     // its status alone
  std::string verb = {};   // as rules name them: get, list, watch, create, update, patch, delete
  std::map<std::string, std::string> query = {};  // decoded
};

/// A change as a watch of `Target` says it.
struct Event {
  std::string type;
  wire::Json object;
};

class ApiState {
 public:
  ApiState();

  void AddResource(Resource resource) { resources_.push_back(std::move(resource)); }

  /// What the request is about, or why not.
  std::optional<Target> Locate(const Request& request) const;
  /// Answers everything but watches. `now`: for creation times.
  Reply Handle(const Request& request, rt::WallTime now);

  /// Events after `revision`, which then is the state they lead to; nothing if that is too old.
  std::optional<std::vector<Event>> EventsAfter(const Target& target,
                                                std::uint64_t& revision) const;
  /// All there is, as a watch without a version begins.
  std::vector<Event> InitialEvents(const Target& target) const;
  /// An event that says only how far a watch is.
  Event Bookmark(const Target& target, std::uint64_t revision) const;

  std::uint64_t revision() const { return revision_; }

  /// Forgets the history: watches of older versions are refused.
  void Compact();
  /// Deletes what hangs on owners that are gone. Returns whether there was any.
  bool CollectGarbage();
  /// As if the data had been lost: nothing is there, and versions begin anew.
  void Wipe();

  /// The object there, or null.
  const wire::Json* Find(std::string_view plural, std::string_view space,
                         std::string_view name) const;
  /// Copies of objects, in order of namespace and name.
  std::vector<wire::Json> Objects(std::string_view plural) const;
  /// Of these, those that `wanted` wants.
  std::vector<wire::Json> Objects(std::string_view plural,
                                  const std::function<bool(const wire::Json&)>& wanted) const;
  /// Calls `look` with each, in that order.
  void Each(std::string_view plural, const std::function<void(const wire::Json&)>& look) const;

 private:
  using ObjectKey = std::tuple<std::string, std::string, std::string>;  // plural, namespace, name

  struct Change {
    std::uint64_t revision = 0;
    ObjectKey key;
    std::optional<wire::Json> before = {};
    std::optional<wire::Json> after = {};
    wire::Json last = {};  // of a deletion: with the deletion's version
  };

  std::optional<Reply> Discover(const Request& request) const;
  Reply Create(const Target& target, const Request& request, rt::WallTime now);
  Reply List(const Target& target, const Request& request) const;
  Reply Update(const Target& target, wire::Json object);
  Reply Patch(const Target& target, const Request& request);
  Reply Delete(const Target& target, const Request& request);
  std::optional<Reply> Complete(const Target& target, wire::Json& object) const;
  bool MarkDeleted(const ObjectKey& key, std::int64_t grace_seconds);
  wire::Json Store(const ObjectKey& key, wire::Json object);
  void Remove(const ObjectKey& key);

  static ObjectKey KeyOf(const Target& target) {
    return {target.resource.plural, target.space, target.name};
  }

  std::vector<Resource> resources_;
  std::map<ObjectKey, wire::Json> objects_;
  std::uint64_t revision_ = 1;
  std::uint64_t compacted_ = 0;  // changes up to here are forgotten
  std::uint64_t last_uid_ = 0;   // never used twice, whatever is lost
  rt::WallTime now_{};           // of the last request
  std::deque<Change> history_;
};

}  // namespace pixii::kube
