#include "router/service/reservations.h"

#include <fmt/format.h>

#include <memory>

namespace pixii::router {

namespace {

Error Taken(const std::string& selection) {
  return Error(Code::kInvalidArgument, fmt::format("selection {} is reserved already", selection),
               "selection_id");
}

tl::unexpected<Error> NoSuch(const std::string& selection) {
  return Fail(Code::kNotFound, fmt::format("there is no reservation {}", selection),
              "selection_id");
}

}  // namespace

Reservations::Reservations(rt::Loop& loop, PoolBook& pools, ReservationsOptions options)
    : loop_(loop), pools_(pools), options_(options) {
  for (const auto& [name, pool] : pools.pools()) {
    Watch(*pool);
  }
  pools.OnMade([this](Pool& pool) { Watch(pool); });
  pools.OnDropped([this](Pool& pool) { Drop(pool); });
}

Reservations::~Reservations() {
  pools_.OnMade(nullptr);
  pools_.OnDropped(nullptr);
  for (const auto& [name, pool] : pools_.pools()) {
    pool->OnFreed(nullptr);
  }
  for (const auto& [name, reserved] : std::exchange(reserved_, {})) {
    reserved.pool->Withdraw(reserved.request);
  }
}

void Reservations::Watch(Pool& pool) {
  pool.OnFreed([this, &pool](RequestId request) { OnFreed(pool, request); });
}

// It has no requests; another one may stand at its place in memory.
void Reservations::Drop(const Pool& pool) {
  std::erase_if(remembered_, [&](const auto& one) { return one.second.pool == &pool; });
}

// May it count from now on?
Result<void> Reservations::CheckNew(const std::string& selection) const {
  if (selection.size() > kNameBytesMax) {
    return Fail(Code::kInvalidArgument,
                fmt::format("selection_id: has {} bytes, at most {} are allowed", selection.size(),
                            kNameBytesMax),
                "selection_id");
  }
  if (reserved_.contains(selection)) {
    return Fail(Taken(selection));
  }
  if (reserved_.size() >= options_.reserved_max) {
    return Fail(Code::kResourceExhausted,
                fmt::format("there are {} reservations already", options_.reserved_max));
  }
  return {};
}

void Reservations::OnFreed(const Pool& pool, RequestId request) {
  if (const auto name = names_.extract(std::pair(&pool, request))) {
    reserved_.erase(name.mapped());
  }
}

void Reservations::Keep(Pool& pool, const std::string& selection, RequestId request) {
  reserved_[selection] = {&pool, request};
  names_[{&pool, request}] = selection;
}

Result<std::string> Reservations::Select(Pool& pool, std::string selection, RouteRequest request,
                                         bool reserve, ChosenHandler on_chosen) {
  Expire();
  const bool named = !selection.empty();
  if (!named) {
    selection = fmt::format("sel-{:016x}", loop_.random().Next());
  }
  PX_CHECK_OK(CheckNew(selection));

  struct Asked {
    bool in_call = true;
    bool over = false;
  };

  const auto asked = std::make_shared<Asked>();
  const RequestId id =
      pool.Submit(std::move(request),
                  [this, &pool, selection, reserve, named, asked, on_chosen = std::move(on_chosen)](
                      const Dispatch& dispatch, const Placement* placement) {
                    asked->over = !dispatch.target || !reserve;
                    if (!asked->in_call && asked->over) {
                      names_.erase({&pool, dispatch.id});
                      reserved_.erase(selection);
                    }
                    if (!dispatch.target) {
                      on_chosen(Fail(dispatch.target.error()));
                      return;
                    }
                    Chosen chosen{selection, *placement};
                    if (!reserve) {
                      pool.Withdraw(dispatch.id);
                      if (named) {
                        Remember(pool, selection, chosen.placement);
                      }
                    } else {
                      remembered_.erase(selection);
                    }
                    on_chosen(std::move(chosen));
                  });
  asked->in_call = false;
  if (!asked->over) {
    Keep(pool, selection, id);  // reserved, or it waits: then Free withdraws it
  }
  return selection;
}

void Reservations::Remember(Pool& pool, const std::string& selection, const Placement& placement) {
  const std::uint64_t number = ++last_number_;
  remembered_[selection] = {&pool, placement, number};
  oldest_.emplace_back(loop_.Now() + options_.selection_ttl, std::pair(selection, number));
  Expire();
}

void Reservations::Expire() {
  while (!oldest_.empty() &&
         (oldest_.front().first <= loop_.Now() || remembered_.size() > options_.selections_max ||
          oldest_.size() > 2 * options_.selections_max)) {
    const auto& [selection, number] = oldest_.front().second;
    const auto found = remembered_.find(selection);
    if (found != remembered_.end() && found->second.number == number) {
      remembered_.erase(found);
    }
    oldest_.pop_front();
  }
}

Result<Chosen> Reservations::Reserve(const Pool& pool, const std::string& selection) {
  Expire();
  PX_CHECK_OK(CheckNew(selection));
  const auto found = remembered_.find(selection);
  if (found == remembered_.end() || found->second.pool != &pool) {
    return Fail(Code::kNotFound, fmt::format("no pending selection {}", selection), "selection_id");
  }
  const std::optional<RequestId> request = found->second.pool->Place(found->second.placement);
  if (!request) {
    return Fail(Code::kUnavailable, "the worker that was chosen is gone");
  }
  Keep(*found->second.pool, selection, *request);
  Chosen out{selection, std::move(found->second.placement)};
  remembered_.erase(found);
  return out;
}

Result<void> Reservations::Place(Pool& pool, std::string selection, const Placement& placement) {
  PX_CHECK_OK(CheckNew(selection));
  const std::optional<RequestId> request = pool.Place(placement);
  if (!request) {
    return Fail(Code::kNotFound,
                fmt::format("worker {} has no rank {} here", Raw(placement.target.instance),
                            placement.target.rank),
                "worker_id");
  }
  remembered_.erase(selection);
  Keep(pool, selection, *request);
  return {};
}

Result<void> Reservations::OnPrefillDone(const std::string& selection) {
  const auto found = reserved_.find(selection);
  if (found == reserved_.end()) {
    return NoSuch(selection);
  }
  found->second.pool->OnFirstToken(found->second.request);
  return {};
}

Result<void> Reservations::OnOutputBlock(const std::string& selection, double weight) {
  const auto found = reserved_.find(selection);
  if (found == reserved_.end()) {
    return NoSuch(selection);
  }
  found->second.pool->router().OnOutputBlock(found->second.request, weight, loop_.Now());
  return {};
}

Result<void> Reservations::Free(const std::string& selection) {
  const auto found = reserved_.find(selection);
  if (found == reserved_.end()) {
    return NoSuch(selection);
  }
  const Reserved reserved = found->second;
  reserved_.erase(found);
  names_.erase({reserved.pool, reserved.request});
  reserved.pool->Withdraw(reserved.request);
  return {};
}

}  // namespace pixii::router
