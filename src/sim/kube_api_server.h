// A Kubernetes API server over a Net, real or simulated: REST and watches as clients see them, and
// what can go wrong with them. Its objects and rules: kube_api_state.h.
//
// Thread: one loop; everything here is called on it.
// A request is answered at once; changes reach watches at once, the garbage collector comes a
// little later, as in a cluster.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "rt/loop.h"
#include "rt/net.h"
#include "rt/sync.h"
#include "sim/kube_api_state.h"
#include "wire/http.h"

namespace pixii::kube {

/// Verbs that a client may use, by plural name of the kind; nothing: all.
using Rules = std::optional<std::map<std::string, std::set<std::string>>>;

struct ServerOptions {
  rt::Address listen = {.host = "127.0.0.1", .port = 0};
  std::set<std::string> tokens;  // bearer tokens that are let in; none: everybody is
  Rules rules;
  rt::Duration bookmark_every = std::chrono::seconds(2);
  rt::Duration collect_after = std::chrono::milliseconds(300);  // a deletion
};

/// What some of the next requests get instead of their answer.
struct Fault {
  std::string verb = {};    // empty: any
  std::string plural = {};  // empty: any
  int status = 500;
  std::string reason = "InternalError";
  int retry_after_s = 0;   // 0: the field is left out
  bool also_done = false;  // the request has its effect all the same
  int count = 1;           // requests
};

enum class WatchEnd : std::uint8_t {
  kClean,    // as after timeoutSeconds
  kBroken,   // the connection breaks
  kExpired,  // an ERROR event with 410 Gone
};

class ApiServer final {
 public:
  /// `loop` and `net` outlive it.
  ApiServer(rt::Loop& loop, rt::Net& net, ServerOptions options);
  ApiServer(const ApiServer&) = delete;
  ApiServer& operator=(const ApiServer&) = delete;
  ~ApiServer();

  /// Listens, again at the address that it had before.
  Result<void> Start();
  /// All connections break; what is stored stays.
  void Stop();

  const rt::Address& address() const { return options_.listen; }

  const ApiState& state() const { return state_; }

  void AddResource(Resource resource) { state_.AddResource(std::move(resource)); }

  /// Called, not from within a request, whenever something changed.
  void OnChange(std::function<void()> on_change) { on_change_ = std::move(on_change); }

  /// A copy to be set back to later.
  ApiState Save() const { return state_; }

  /// Watches see nothing of this.
  void Restore(ApiState state) { state_ = std::move(state); }

  void Wipe() { state_.Wipe(); }

  void Compact() { state_.Compact(); }

  /// As if a client had asked, with all rights.
  Reply Handle(const Request& request);

  void EndWatches(WatchEnd how);
  /// Takes connections and requests but answers nothing.
  void Hang(bool hangs);
  /// Watches open now say nothing any more; all else works.
  void FreezeWatches();

  void Inject(Fault fault) { faults_.push_back(std::move(fault)); }

  void SetTokens(std::set<std::string> tokens) { options_.tokens = std::move(tokens); }

  void SetRules(Rules rules) { options_.rules = std::move(rules); }

  /// Requests so far, faulty ones too. Lists of metadata alone are "list-metadata".
  int CountOf(const std::string& verb, const std::string& plural) const;

  std::size_t watch_count() const { return watches_open_; }

 private:
  rt::Task<void> AcceptLoop(rt::Listener& listener);
  rt::Task<void> Serve(std::unique_ptr<rt::Stream> stream);
  rt::Task<Result<void>> ServeOne(rt::Stream& stream, std::string& unread, bool& keep_alive);
  rt::Task<Result<void>> ServeWatch(rt::Stream& stream, Target target);
  rt::Task<Result<void>> FollowChanges(rt::Stream& stream, const Target& target);
  std::optional<std::string> LinesAfter(const Target& target, std::uint64_t& revision,
                                        bool bookmark) const;
  std::optional<Reply> Refuse(const wire::HttpRequest& request,
                              const std::optional<Target>& target) const;
  std::optional<Fault> TakeFault(const Target& target);
  void Changed();

  rt::Loop& loop_;
  rt::Net& net_;
  ServerOptions options_;
  ApiState state_;
  std::deque<Fault> faults_;
  std::map<std::string, int> counts_;
  bool hangs_ = false;
  std::uint64_t watch_epoch_ = 0;  // watches of an older one end
  WatchEnd watch_end_ = WatchEnd::kClean;
  std::uint64_t frozen_epoch_ = 0;  // watches opened up to here are silent
  std::uint64_t last_watch_ = 0;
  std::size_t watches_open_ = 0;
  std::function<void()> on_change_;
  rt::TimerId collection_ = rt::TimerId::kNone;
  rt::WaitList changed_;
  std::unique_ptr<rt::Listener> listener_;
  rt::SpawnedTasks accepting_;
  rt::SpawnedTasks serving_;  // last: their frames use what stands above
};

}  // namespace pixii::kube
