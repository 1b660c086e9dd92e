// Workers that somebody registered, with the listeners to their KV events: the other source of a
// router's workers beside discovery.
//
// Thread: one loop. docs/router_service.md
// A worker without an endpoint for requests is known for what it has cached alone: nothing is sent
// there. Ids are the registrar's; those of discovered workers are not given again.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "router/service/kv_listener.h"
#include "router/service/pool.h"

namespace pixii::router {

/// What is said of a worker.
struct Registered {
  InstanceId id{};
  wire::PoolName pool;
  std::string endpoint;  // for requests; empty: none are sent there
  std::uint32_t rank_first = 0;
  std::uint32_t rank_count = 1;
  std::optional<std::uint32_t> batch_tokens_max;
  std::optional<std::uint32_t> block_count;
  std::vector<std::string> taints;
  std::map<std::uint32_t, std::string> kv_endpoints;  // by rank
  std::string replay_endpoint;
};

class Catalog final {
 public:
  static constexpr std::size_t kWorkersMax = 16'384;
  static constexpr std::uint32_t kRankCountMax = 1024;  // of one worker
  static constexpr std::size_t kHeldMax = 65'536;       // batches behind the gate; more are lost

  struct Listener {
    std::string endpoint;
    std::unique_ptr<KvListener> listener;
  };

  struct Worker {
    Registered said;
    Pool* pool = nullptr;
    std::map<std::uint32_t, Listener> listeners;  // by rank
    bool is_guest = false;                        // known by a peer's dump alone: it is not listed
  };

  using Key = std::pair<std::pair<std::string, std::string>, InstanceId>;
  using Workers = std::map<Key, Worker>;

  /// `is_taken`: whether an id is one of discovery's. All outlive it.
  Catalog(PoolBook& pools, KvListenerFactory listen, std::function<bool(InstanceId)> is_taken);

  Catalog(const Catalog&) = delete;
  Catalog& operator=(const Catalog&) = delete;
  ~Catalog();

  /// One more rank to listen to (`said.kv_endpoints` has it). Errors: kInvalidArgument if it is
  /// listened to already, or of other blocks; those of the factory.
  Result<void> AddListener(const Registered& said);

  /// The worker as it is from now on; what is cached stays for the ranks that stay, listeners begin
  /// anew. An id is of one worker in all pools. Errors: likewise.
  Result<void> Put(const Registered& said);

  /// Nothing: all groups, all ranks. Errors: kNotFound.
  Result<void> Remove(std::string_view model, const std::optional<std::string>& group,
                      InstanceId id, std::optional<std::uint32_t> rank);

  const Worker* Find(InstanceId id) const;

  const Workers& workers() const { return workers_; }

  /// Events wait until OpenGate: something else is to be applied before.
  void CloseGate() { gate_open_ = false; }

  void OpenGate();

  /// What a peer's index says; a worker that is not known becomes a guest. Discovered ones tell of
  /// themselves. Errors: kInvalidArgument, kResourceExhausted.
  Result<void> Import(const wire::PoolName& pool, InstanceId id, const wire::KvEvent& event);

 private:
  static Key KeyOf(const Registered& said) { return {{said.pool.model, said.pool.group}, said.id}; }

  Result<Pool*> PoolFor(const wire::PoolName& name);
  Result<Worker*> Make(const Registered& said);
  Result<Listener> Listen(const Registered& said, std::uint32_t rank);
  void OnEvents(const Key& key, std::vector<wire::KvEvent> events);
  void Apply(Worker& worker, const std::vector<wire::KvEvent>& events);
  bool Reach(Worker& worker, std::uint32_t rank);
  void Tell(Worker& worker);
  void Drop(Workers::iterator worker);

  PoolBook& pools_;
  KvListenerFactory listen_;
  std::function<bool(InstanceId)> is_taken_;
  Workers workers_;
  bool gate_open_ = true;
  std::vector<std::pair<Key, std::vector<wire::KvEvent>>> held_;  // behind the gate
};

}  // namespace pixii::router
