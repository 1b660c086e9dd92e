#include "router/service/catalog.h"

#include <fmt/format.h>

#include <algorithm>

namespace pixii::router {

namespace {

Result<void> CheckBlocks(const Pool& known, const wire::PoolName& said) {
  if (known.name().block_tokens == said.block_tokens) {
    return {};
  }
  return Fail(Code::kInvalidArgument,
              fmt::format("block_size: {} tokens, where {} of group {} has {}", said.block_tokens,
                          said.model, said.group, known.name().block_tokens),
              "block_size");
}

}  // namespace

Catalog::Catalog(PoolBook& pools, KvListenerFactory listen,
                 std::function<bool(InstanceId)> is_taken)
    : pools_(pools), listen_(std::move(listen)), is_taken_(std::move(is_taken)) {}

Catalog::~Catalog() = default;

Result<Catalog::Listener> Catalog::Listen(const Registered& said, std::uint32_t rank) {
  const KvListenerSpec spec{.endpoint = said.kv_endpoints.at(rank),
                            .replay_endpoint = said.replay_endpoint,
                            .rank = rank,
                            .block_tokens = said.pool.block_tokens};
  PX_TRY(std::unique_ptr<KvListener> listener,
         listen_(spec, [this, key = KeyOf(said)](std::vector<wire::KvEvent> events) {
           OnEvents(key, std::move(events));
         }));
  return Listener{spec.endpoint, std::move(listener)};
}

// One who registers by hand is told that his blocks are not those of the rest.
Result<Pool*> Catalog::PoolFor(const wire::PoolName& name) {
  if (const Pool* const known = pools_.Find(name.model, name.group);
      known != nullptr && known->has_workers()) {
    PX_CHECK_OK(CheckBlocks(*known, name));
  }
  return pools_.Get(name);
}

Result<Catalog::Worker*> Catalog::Make(const Registered& said) {
  if (is_taken_(said.id)) {
    return Fail(Code::kInvalidArgument,
                fmt::format("worker {} is known from discovery", Raw(said.id)), "instance_id");
  }
  if (said.rank_count == 0 || said.rank_count > kRankCountMax ||
      said.rank_first > kRankCountMax - said.rank_count) {
    return Fail(Code::kInvalidArgument,
                fmt::format("ranks are 0 to {}, and a worker has at least one", kRankCountMax - 1),
                "data_parallel_size");
  }
  const auto known = workers_.find(KeyOf(said));
  if (known != workers_.end()) {
    PX_CHECK_OK(CheckBlocks(*known->second.pool, said.pool));
    return &known->second;
  }
  if (workers_.size() >= kWorkersMax) {
    return Fail(Code::kResourceExhausted, fmt::format("there are {} workers", kWorkersMax));
  }
  PX_TRY(Pool * pool, PoolFor(said.pool));
  Worker& worker = workers_[KeyOf(said)];
  worker.said = said;
  worker.said.kv_endpoints.clear();
  worker.pool = pool;
  pool->Hold();
  return &worker;
}

void Catalog::Tell(Worker& worker) {
  const Registered& said = worker.said;
  control::Instance instance;
  instance.id = said.id;
  instance.rank_first = said.rank_first;
  instance.rank_count = said.rank_count;
  instance.taints = said.taints;
  instance.draining = said.endpoint.empty();
  instance.card.name = said.pool.model;
  instance.card.block_tokens = said.pool.block_tokens;
  instance.card.block_count = said.block_count.value_or(0);
  instance.card.batch_tokens_max = said.batch_tokens_max.value_or(0);
  worker.pool->router().SetWorker(instance);
  worker.pool->Pump();
}

// Its ranks become as many as are needed for this one. False: there cannot be so many.
bool Catalog::Reach(Worker& worker, std::uint32_t rank) {
  Registered& said = worker.said;
  if (rank >= kRankCountMax) {
    return false;
  }
  const std::uint32_t first = std::min(said.rank_first, rank);
  const std::uint32_t end = std::max(said.rank_first + said.rank_count, rank + 1);
  if (first != said.rank_first || end - first != said.rank_count) {
    said.rank_first = first;
    said.rank_count = end - first;
    Tell(worker);
  }
  return true;
}

Result<void> Catalog::AddListener(const Registered& said) {
  const std::uint32_t rank = said.kv_endpoints.begin()->first;
  const auto known = workers_.find(KeyOf(said));
  if (known != workers_.end() && known->second.listeners.contains(rank)) {
    return Fail(Code::kInvalidArgument,
                fmt::format("rank {} of instance {} is registered already", rank, Raw(said.id)),
                "instance_id");
  }
  PX_TRY(Listener listener, Listen(said, rank));
  PX_TRY(Worker * worker, Make(said));
  if (!Reach(*worker, rank)) {
    return Fail(Code::kInvalidArgument, fmt::format("dp_rank: {} is too much", rank), "dp_rank");
  }
  worker->is_guest = false;
  worker->said.kv_endpoints[rank] = listener.endpoint;
  worker->listeners.insert_or_assign(rank, std::move(listener));
  Tell(*worker);
  return {};
}

Result<void> Catalog::Put(const Registered& said) {
  std::map<std::uint32_t, Listener> listeners;
  for (const auto& [rank, endpoint] : said.kv_endpoints) {
    PX_TRY(listeners[rank], Listen(said, rank));
  }
  PX_TRY(Worker * worker, Make(said));
  for (auto at = workers_.begin(); at != workers_.end();) {
    const auto other = at++;
    if (other->first.second == said.id && &other->second != worker) {
      Drop(other);  // it moved to another pool
    }
  }
  for (const auto& [rank, listener] : worker->listeners) {
    wire::KvEvent cleared;
    cleared.kind = wire::KvEvent::Kind::kCleared;
    cleared.rank = rank;
    worker->pool->router().OnKvEvents(said.id, {cleared}, {});
  }
  worker->is_guest = false;
  worker->said = said;
  worker->listeners = std::move(listeners);
  Tell(*worker);
  return {};
}

void Catalog::Drop(Workers::iterator worker) {
  Pool& pool = *worker->second.pool;
  const InstanceId id = worker->first.second;
  workers_.erase(worker);
  pool.router().RemoveWorker(id);
  pool.Pump();
  pool.Release();
}

Result<void> Catalog::Remove(std::string_view model, const std::optional<std::string>& group,
                             InstanceId id, std::optional<std::uint32_t> rank) {
  bool found = false;
  for (auto at = workers_.begin(); at != workers_.end();) {
    const auto one = at++;
    const auto& [pool, worker_id] = one->first;
    if (worker_id != id || (!model.empty() && pool.first != model) ||
        (group && pool.second != *group)) {
      continue;
    }
    Worker& worker = one->second;
    if (!rank) {
      found = true;
      Drop(one);
      continue;
    }
    if (worker.listeners.erase(*rank) == 0) {
      continue;
    }
    found = true;
    worker.said.kv_endpoints.erase(*rank);
    if (worker.listeners.empty() && worker.said.endpoint.empty()) {
      Drop(one);
    } else {
      wire::KvEvent cleared;
      cleared.kind = wire::KvEvent::Kind::kCleared;
      cleared.rank = *rank;
      worker.pool->router().OnKvEvents(id, {cleared}, {});
    }
  }
  return found ? Result<void>()
               : Fail(Code::kNotFound, fmt::format("there is no such worker {}", Raw(id)),
                      "instance_id");
}

const Catalog::Worker* Catalog::Find(InstanceId id) const {
  const auto found = std::ranges::find_if(
      workers_, [&](const auto& one) { return one.first.second == id && !one.second.is_guest; });
  return found == workers_.end() ? nullptr : &found->second;
}

void Catalog::OnEvents(const Key& key, std::vector<wire::KvEvent> events) {
  if (!gate_open_) {
    if (held_.size() < kHeldMax) {
      held_.emplace_back(key, std::move(events));
    }
    return;
  }
  if (const auto worker = workers_.find(key); worker != workers_.end()) {
    Apply(worker->second, events);
  }
}

void Catalog::Apply(Worker& worker, const std::vector<wire::KvEvent>& events) {
  for (const wire::KvEvent& event : events) {
    if (!Reach(worker, event.rank)) {
      return;
    }
  }
  worker.pool->router().OnKvEvents(worker.said.id, events, {});
}

void Catalog::OpenGate() {
  gate_open_ = true;
  for (auto& [key, events] : std::exchange(held_, {})) {
    OnEvents(key, std::move(events));
  }
}

Result<void> Catalog::Import(const wire::PoolName& pool, InstanceId id,
                             const wire::KvEvent& event) {
  if (is_taken_(id)) {
    return {};
  }
  const Key key{{pool.model, pool.group}, id};
  if (!workers_.contains(key)) {
    Registered said;
    said.id = id;
    said.pool = pool;
    said.rank_first = std::min(event.rank, kRankCountMax - 1);
    PX_TRY(Worker * guest, Make(said));
    guest->is_guest = true;
    Tell(*guest);
  }
  Apply(workers_.at(key), {event});
  return {};
}

}  // namespace pixii::router
