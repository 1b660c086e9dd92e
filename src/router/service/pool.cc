#include "router/service/pool.h"

#include <fmt/format.h>

namespace pixii::router {

namespace {

// Below the bit of requests of other routers.
constexpr std::uint32_t kNumberShift = 40;
constexpr std::uint32_t kNumberMask = (1U << 23U) - 1;

RouterOptions Telling(RouterOptions options) {
  options.tell_load_changes = true;
  return options;
}

}  // namespace

Pool::Pool(rt::Loop& loop, wire::PoolName name, RouterOptions options, std::uint64_t seed,
           ReplicaMesh* mesh, std::uint32_t number)
    : loop_(loop),
      name_(std::move(name)),
      router_(Telling(std::move(options)), seed),
      last_id_(std::uint64_t{number & kNumberMask} << kNumberShift),
      alarm_(loop, [this] { Pump(); }) {
  if (mesh != nullptr) {
    member_ = mesh->Join(name_, router_, [this] { Pump(); });
  }
}

RequestId Pool::Submit(RouteRequest request, DispatchHandler on_dispatch) {
  const RequestId id{++last_id_};
  request.id = id;
  waiting_.emplace(id, std::move(on_dispatch));
  router_.Submit(std::move(request), loop_.Now());
  Pump();
  return id;
}

std::optional<RequestId> Pool::Place(const Placement& placement) {
  const RequestId id{++last_id_};
  if (!router_.Place(id, placement, loop_.Now())) {
    return std::nullopt;
  }
  Pump();
  return id;
}

void Pool::OnFirstToken(RequestId id) {
  router_.OnFirstToken(id, loop_.Now());
  Pump();
}

void Pool::OnTokens(RequestId id, std::uint32_t count) { router_.OnTokens(id, count, loop_.Now()); }

void Pool::Withdraw(RequestId id) {
  waiting_.erase(id);
  router_.Withdraw(id, loop_.Now());
  Pump();
}

void Pool::Tell(std::vector<LoadChange>& changes,
                std::unordered_map<RequestId, Placement>& placed) {
  if (member_ && !changes.empty()) {
    member_->Tell(changes);
  }
  for (LoadChange& change : changes) {
    if (change.kind == LoadChange::Kind::kAdded && waiting_.contains(change.id)) {
      placed[change.id] = std::move(change.placement);
    } else if (change.kind == LoadChange::Kind::kFreed && on_freed_) {
      on_freed_(change.id);
    }
  }
}

void Pool::Pump() {
  if (pumping_) {
    return;  // the loop below goes on
  }
  pumping_ = true;
  std::unordered_map<RequestId, Placement> placed;
  while (true) {
    const std::vector<Dispatch> dispatches = router_.TakeDispatches(loop_.Now());
    std::vector<LoadChange> changes = router_.TakeLoadChanges();
    if (dispatches.empty() && changes.empty()) {
      break;
    }
    Tell(changes, placed);
    for (const Dispatch& dispatch : dispatches) {
      const auto waiting = waiting_.extract(dispatch.id);
      if (!waiting) {
        continue;
      }
      const auto placement = placed.extract(dispatch.id);
      waiting.mapped()(dispatch, placement ? &placement.mapped() : nullptr);
      if (!dispatch.target) {
        router_.Withdraw(dispatch.id, loop_.Now());
      }
    }
  }
  pumping_ = false;
  alarm_.Set(router_.next_time());
}

bool Pool::idle() const {
  return !pumping_ && waiting_.empty() && router_.outstanding_count() == 0 &&
         router_.Loads().empty();
}

bool PoolBook::DropIfUnused(Pools::iterator pool) {
  if (pool->second->held() || !pool->second->idle()) {
    return false;
  }
  if (on_dropped_) {
    on_dropped_(*pool->second);
  }
  pools_.erase(pool);
  return true;
}

Result<Pool*> PoolBook::Get(const wire::PoolName& name) {
  if (name.block_tokens == 0) {
    return Fail(Code::kInvalidArgument, "block_size: 0 tokens are no block", "block_size");
  }
  if (Pool* const known = Find(name)) {
    return known;
  }
  for (auto at = pools_.lower_bound(Key(name.model, name.group, 0));
       at != pools_.end() && std::get<0>(at->first) == name.model &&
       std::get<1>(at->first) == name.group;) {
    const auto other = at++;
    DropIfUnused(other);
  }
  for (auto at = pools_.begin(); pools_.size() >= kPoolsMax && at != pools_.end();) {
    const auto one = at++;
    DropIfUnused(one);
  }
  if (pools_.size() >= kPoolsMax) {
    return Fail(Code::kResourceExhausted,
                fmt::format("there are {} models and groups already", kPoolsMax));
  }
  RouterOptions options = options_;
  if (!policies_.empty()) {
    options.policy = policies_.For(name.model);
  }
  auto pool = std::make_unique<Pool>(loop_, name, std::move(options), loop_.random().Next(), mesh_,
                                     made_count_++);
  Pool* const out = pool.get();
  pools_.emplace(Key(name.model, name.group, name.block_tokens), std::move(pool));
  if (on_made_) {
    on_made_(*out);
  }
  return out;
}

Pool* PoolBook::Find(const wire::PoolName& name) const {
  const auto found = pools_.find(Key(name.model, name.group, name.block_tokens));
  return found == pools_.end() ? nullptr : found->second.get();
}

Pool* PoolBook::Find(std::string_view model, std::string_view group) const {
  Pool* out = nullptr;
  for (auto at = pools_.lower_bound(Key(model, group, 0));
       at != pools_.end() && std::get<0>(at->first) == model && std::get<1>(at->first) == group;
       ++at) {
    if (out == nullptr || at->second->router().rank_count() > out->router().rank_count()) {
      out = at->second.get();
    }
  }
  return out;
}

}  // namespace pixii::router
