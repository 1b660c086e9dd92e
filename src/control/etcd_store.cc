#include "control/etcd_store.h"

#include <algorithm>
#include <utility>

namespace pixii::control {

namespace {

constexpr std::size_t kWatchLineBytesMax = 64 * 1024 * 1024;

}  // namespace

EtcdStore::EtcdStore(rt::Loop& loop, rt::Net& net, EtcdStoreOptions options)
    : HeldStore(loop, {options.lease, options.backoff_min, options.backoff_max}),
      net_(net),
      options_(std::move(options)),
      client_(net, options_.endpoints) {
  StartHolding();
}

EtcdStore::~EtcdStore() {
  StopHolding();
  EndWatches();
  DropEnded();
  *alive_ = false;
}

void EtcdStore::DropEnded() {
  for (const std::shared_ptr<PrefixWatch>& watch : ended_) {
    watch->tasks.Clear();
  }
  ended_.clear();
}

// ---- what we hold

rt::Task<Result<void>> EtcdStore::Hold() {
  if (lease_ == EtcdLease::kNone) {
    if (wanted().empty()) {
      co_return Result<void>();
    }
    put_.clear();
    auto granting = client_.Grant(options_.lease.ttl, call_deadline());
    PX_CO_TRY(lease_, co_await std::move(granting));
    SetRenewed(loop().Now());
  } else if (is_due()) {
    auto renewing = RenewLease();
    PX_CO_CHECK_OK(co_await std::move(renewing));
  }
  auto putting = PutWanted();
  Result<void> put = co_await std::move(putting);
  if (!put && put.error().code() == Code::kNotFound) {
    lease_ = EtcdLease::kNone;
  }
  co_return put;
}

rt::Task<Result<void>> EtcdStore::RenewLease() {
  auto keeping = client_.KeepAlive(lease_, call_deadline());
  Result<void> kept = co_await std::move(keeping);
  if (!kept) {
    if (kept.error().code() == Code::kNotFound) {
      lease_ = EtcdLease::kNone;
    }
    co_return kept;
  }
  auto checking = CheckPut();
  PX_CO_CHECK_OK(co_await std::move(checking));
  SetRenewed(loop().Now());
  co_return Result<void>();
}

// A store that was set back may know the lease but not the keys, or old values of them; and an
// operator may have deleted one. Forgets what is not as it was put.
rt::Task<Result<void>> EtcdStore::CheckPut() {
  std::vector<EtcdKey> all;
  for (const auto& [key, standing] : put_) {
    all.push_back({.key = key, .revision = standing.revision});
  }
  for (std::size_t begin = 0; begin < all.size(); begin += kEtcdKeysMax) {
    const std::size_t end = std::min(all.size(), begin + kEtcdKeysMax);
    const std::vector<EtcdKey> some(all.begin() + static_cast<std::ptrdiff_t>(begin),
                                    all.begin() + static_cast<std::ptrdiff_t>(end));
    auto asking = client_.AreAt(some, call_deadline());
    PX_CO_TRY(const bool as_put, co_await std::move(asking));
    for (const EtcdKey& key : some) {
      if (!as_put && wanted().contains(key.key)) {  // what is to be deleted must still be
        put_.erase(key.key);
      }
    }
  }
  co_return Result<void>();
}

rt::Task<Result<void>> EtcdStore::PutWanted() {
  const std::map<std::string, std::string> wanted = this->wanted();  // it may change while we wait
  for (const auto& [key, value] : wanted) {
    if (const auto there = put_.find(key); there != put_.end() && there->second.value == value) {
      continue;
    }
    auto putting = client_.Put(key, value, lease_, call_deadline());
    PX_CO_TRY(const std::int64_t revision, co_await std::move(putting));
    put_[key] = Standing{.value = value, .revision = revision};
  }
  const std::map<std::string, Standing> put = put_;
  for (const auto& [key, standing] : put) {
    if (!wanted.contains(key)) {
      auto deleting = client_.Delete(key, lease_, call_deadline());
      PX_CO_CHECK_OK(co_await std::move(deleting));
      put_.erase(key);
    }
  }
  co_return Result<void>();
}

// ---- what we see

WatchId EtcdStore::Watch(std::string prefix, WatchHandler on_view) {
  const auto watch = std::make_shared<PrefixWatch>(net_, options_);
  watch->prefix = std::move(prefix);
  watch->on_view = std::move(on_view);
  watches_[++last_watch_] = watch;
  watch->tasks.Start(WatchLoop(watch));
  return WatchId{last_watch_};
}

void EtcdStore::Unwatch(WatchId watch) {
  const auto found = watches_.extract(static_cast<std::uint64_t>(watch));
  if (!found.empty()) {
    // Its own handler may be what calls: the frame ends later.
    found.mapped()->on_view = nullptr;
    ended_.push_back(found.mapped());
    loop().Post([this, alive = alive_] {
      if (*alive) {
        DropEnded();
      }
    });
  }
}

rt::Task<void> EtcdStore::WatchLoop(std::shared_ptr<PrefixWatch> watch) {
  rt::Duration backoff = options_.backoff_min;
  while (true) {
    const std::int64_t before = watch->revision;
    auto following = Follow(watch);
    const Result<void> followed = co_await std::move(following);
    if (!followed) {
      watch->view.trouble = followed.error();
      Tell(*watch);
    }
    if (followed || watch->revision != before) {
      backoff = options_.backoff_min;
    }
    auto pause = loop().SleepFor(backoff);
    co_await std::move(pause);
    backoff = std::min(backoff * 2, options_.backoff_max);
  }
}

/// Reads the state and follows its changes until that breaks. Errors: the store cannot be asked.
/// Without an error only the watch broke; the state is to be read anew.
rt::Task<Result<void>> EtcdStore::Follow(std::shared_ptr<PrefixWatch> watch) {
  auto ranging = watch->client.Range(watch->prefix, call_deadline());
  PX_CO_TRY(EtcdRange range, co_await std::move(ranging));
  watch->revision = range.revision;
  watch->view = StoreView{.values = std::move(range.values), .trouble = std::nullopt};
  Tell(*watch);
  auto opening = watch->client.Watch(watch->prefix, watch->revision + 1, call_deadline());
  Result<std::unique_ptr<HttpStream>> stream = co_await std::move(opening);
  std::string pending;
  while (stream) {
    auto reading = (*stream)->Read(loop().Now() + beat());
    Result<std::string> piece = co_await std::move(reading);
    if (piece && !piece->empty()) {
      if (!Apply(*watch, pending, std::move(*piece))) {
        break;
      }
      Tell(*watch);
    } else if (!piece && piece.error().code() == Code::kDeadlineExceeded) {
      // A server that hangs is as silent as one without news.
      auto asking = IsUpToDate(watch);
      PX_CO_TRY(const bool up_to_date, co_await std::move(asking));
      if (!up_to_date) {
        break;
      }
    } else {
      break;
    }
  }
  co_return Result<void>();
}

/// Whether the store has nothing newer, and was not set back.
rt::Task<Result<bool>> EtcdStore::IsUpToDate(std::shared_ptr<PrefixWatch> watch) {
  auto asking = watch->client.NewsAfter(watch->prefix, watch->revision, call_deadline());
  PX_CO_TRY(const EtcdClient::News news, co_await std::move(asking));
  co_return !news.any && news.revision >= watch->revision;
}

Result<void> EtcdStore::Apply(PrefixWatch& watch, std::string& pending, std::string piece) {
  pending += piece;
  std::size_t begin = 0;
  for (std::size_t end = pending.find('\n'); end != std::string::npos;
       begin = end + 1, end = pending.find('\n', begin)) {
    const std::string_view line = std::string_view(pending).substr(begin, end - begin);
    if (line.empty()) {
      continue;
    }
    PX_TRY(EtcdEvents events, EtcdClient::ReadWatchLine(line));
    for (EtcdEvent& event : events.events) {
      if (event.deleted) {
        watch.view.values.erase(event.key);
      } else {
        watch.view.values[event.key] = std::move(event.value);
      }
    }
    watch.revision = std::max(watch.revision, events.revision);
  }
  pending.erase(0, begin);
  if (pending.size() > kWatchLineBytesMax) {
    return Fail(Code::kTooLarge, "etcd: an event of more than 64 MiB");
  }
  return {};
}

void EtcdStore::Tell(PrefixWatch& watch) {
  if (!watch.on_view || closing() || (watch.told && *watch.told == watch.view)) {
    return;
  }
  watch.told = watch.view;
  const WatchHandler on_view = watch.on_view;
  const StoreView view = watch.view;
  on_view(view);
}

// ---- the end

void EtcdStore::EndWatches() {
  for (auto& [id, watch] : watches_) {
    watch->tasks.Clear();
  }
  watches_.clear();
}

rt::Task<Result<void>> EtcdStore::GiveBack() { return client_.Revoke(lease_, call_deadline()); }

}  // namespace pixii::control
