#include "control/kube_mirror.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

namespace pixii::control {

namespace {

using wire::Json;

constexpr std::size_t kWatchLineBytesMax = 16 * 1024 * 1024;

}  // namespace

KubeMirror::KubeMirror(rt::Loop& loop, rt::Net& net, KubeStoreOptions options,
                       std::function<void()> on_change)
    : loop_(loop),
      options_(std::move(options)),
      on_change_(std::move(on_change)),
      leases_{.kind = KubeKind::kLease,
              .client = KubeClient(loop, net, options_.access),
              .version = {},
              .trouble = {}},
      entries_{.kind = KubeKind::kConfigMap,
               .client = KubeClient(loop, net, options_.access),
               .version = {},
               .trouble = {}},
      sweeper_(loop, net, options_.access) {}

void KubeMirror::Start() {
  tasks_.Start(FollowLoop(leases_));
  tasks_.Start(FollowLoop(entries_));
  tasks_.Start(SweepLoop());
}

void KubeMirror::Stop() { tasks_.Clear(); }

std::optional<Error> KubeMirror::trouble() const {
  return leases_.trouble ? leases_.trouble : entries_.trouble;
}

bool KubeMirror::answered() const {
  return (leases_.listed && entries_.listed) || trouble().has_value();
}

StoreView KubeMirror::ViewUnder(std::string_view prefix) const {
  return StoreView{.values = picture_.ValuesUnder(prefix), .trouble = trouble()};
}

void KubeMirror::TellIfChanged() {
  const bool troubled = trouble().has_value();
  if (!answered() ||
      (told_ && told_changes_ == picture_.change_count() && told_trouble_ == troubled)) {
    return;
  }
  told_ = true;
  told_changes_ = picture_.change_count();
  told_trouble_ = troubled;
  on_change_();
}

// ---- following

rt::Task<void> KubeMirror::FollowLoop(Side& side) {
  rt::Duration backoff = options_.backoff_min;
  while (true) {
    const std::string before = side.version;
    auto following = Follow(side);
    const Result<void> followed = co_await std::move(following);
    if (!followed) {
      side.trouble = followed.error();
      side.was_away = true;
      TellIfChanged();
    }
    if (followed || side.version != before) {
      backoff = options_.backoff_min;
    }
    auto pause = loop_.SleepUntil(std::max(loop_.Now() + backoff, side.client.not_before()));
    co_await std::move(pause);
    backoff = std::min(backoff * 2, options_.backoff_max);
  }
}

/// Reads the state and follows its changes until that breaks. Errors: the server cannot be asked.
/// Without an error the state is to be read anew.
rt::Task<Result<void>> KubeMirror::Follow(Side& side) {
  auto listing = ListAll(side);
  PX_CO_CHECK_OK(co_await std::move(listing));
  while (true) {
    auto watching = WatchOnce(side);
    PX_CO_TRY(const Next next, co_await std::move(watching));
    if (next == Next::kList) {
      co_return Result<void>();
    }
    auto pause = loop_.SleepFor(options_.backoff_min);  // a server may end every watch at once
    co_await std::move(pause);
  }
}

rt::Task<Result<void>> KubeMirror::ListAll(Side& side) {
  auto listing = side.client.List(side.kind, KubeListOptions(), call_deadline());
  PX_CO_TRY(const KubeAnswer answer, co_await std::move(listing));
  if (!answer.ok()) {
    co_return Fail(Code::kUnavailable,
                   "kubernetes: a list is refused: " + TextAt(answer.body, {"message"}));
  }
  PX_CO_CHECK_OK(TakeList(side, answer.body));
  side.listed = true;
  side.trouble.reset();
  TellIfChanged();
  co_return Result<void>();
}

Result<void> KubeMirror::TakeList(Side& side, const Json& list) {
  const Json* items = list.Find("items");
  const std::string version = TextAt(list, {"metadata", "resourceVersion"});
  if (version.empty()) {
    return Fail(Code::kDataCorrupt, "kubernetes: a list without a resource version");
  }
  static const Json::Array kNone;  // an empty list may be null
  const Json::Array& objects = items != nullptr && items->is_array() ? items->array() : kNone;
  const rt::Time now = loop_.Now();
  if (side.kind == KubeKind::kLease) {
    std::vector<KubeLease> leases;
    for (const Json& object : objects) {
      if (std::optional<KubeLease> lease = ReadKubeLease(object)) {
        leases.push_back(std::move(*lease));
      }
    }
    picture_.SetLeases(std::move(leases), now);
    if (std::exchange(side.was_away, false)) {
      picture_.CountAnew(now);
    }
    picture_.Judge(now);
  } else {
    std::vector<KubeEntry> entries;
    for (const Json& object : objects) {
      if (std::optional<KubeEntry> entry = ReadKubeEntry(object)) {
        entries.push_back(std::move(*entry));
      }
    }
    picture_.SetEntries(std::move(entries), now);
  }
  side.version = version;
  return {};
}

/// How long a watch may be silent. Holders that may be dead are asked for, not only waited for.
rt::Time KubeMirror::PatienceOf(const Side& side) const {
  const rt::Time patience = loop_.Now() + beat();
  return side.kind == KubeKind::kLease ? std::min(patience, picture_.next_suspect_at()) : patience;
}

/// One watch, from what we know to its end.
rt::Task<Result<KubeMirror::Next>> KubeMirror::WatchOnce(Side& side) {
  auto opening = side.client.Watch(side.kind, side.version, options_.watch_length, call_deadline());
  Result<std::unique_ptr<HttpStream>> stream = co_await std::move(opening);
  if (!stream) {
    if (stream.error().code() == Code::kNotFound) {
      co_return Next::kList;
    }
    co_return Fail(stream.error());
  }
  std::string pending;
  while (true) {
    auto reading = (*stream)->Read(PatienceOf(side));
    const Result<std::string> piece = co_await std::move(reading);
    if (piece && piece->empty()) {
      co_return Next::kWatch;  // its time was over
    }
    if (piece) {
      if (!TakePiece(side, pending, *piece)) {
        co_return Next::kList;
      }
      TellIfChanged();
      continue;
    }
    if (piece.error().code() != Code::kDeadlineExceeded) {
      co_return Next::kList;
    }
    auto asking = AskIfSilent(side);
    co_return co_await std::move(asking);
  }
}

/// A server that hangs, or a connection that nobody knows of, is as silent as one without news.
rt::Task<Result<KubeMirror::Next>> KubeMirror::AskIfSilent(Side& side) {
  if (side.kind == KubeKind::kLease) {
    co_return Next::kList;  // silent leases are few, or dead
  }
  auto listing = side.client.List(side.kind, KubeListOptions{.limit = 1, .metadata_only = true},
                                  call_deadline());
  PX_CO_TRY(const KubeAnswer answer, co_await std::move(listing));
  const std::uint64_t there = ResourceNumber(TextAt(answer.body, {"metadata", "resourceVersion"}));
  // A server that was set back has nothing to say after our version.
  co_return answer.ok() && there >= ResourceNumber(side.version) ? Next::kWatch : Next::kList;
}

Result<void> KubeMirror::TakePiece(Side& side, std::string& pending, std::string_view piece) {
  pending += piece;
  std::size_t begin = 0;
  for (std::size_t end = pending.find('\n'); end != std::string::npos;
       begin = end + 1, end = pending.find('\n', begin)) {
    const std::string_view line = std::string_view(pending).substr(begin, end - begin);
    if (!line.empty()) {
      PX_TRY(const KubeEvent event, KubeClient::ReadWatchLine(line));
      PX_CHECK_OK(TakeEvent(side, event));
    }
  }
  pending.erase(0, begin);
  if (pending.size() > kWatchLineBytesMax) {
    return Fail(Code::kTooLarge, "kubernetes: an event of more than 16 MiB");
  }
  return {};
}

Result<void> KubeMirror::TakeEvent(Side& side, const KubeEvent& event) {
  const std::string name = TextAt(event.object, {"metadata", "name"});
  const std::string version = VersionOf(event.object).resource_version;
  if (version.empty() || ResourceNumber(version) < ResourceNumber(side.version)) {
    return Fail(Code::kDataCorrupt, "kubernetes: an event that is older than what we know");
  }
  const rt::Time now = loop_.Now();
  const bool is_put = event.type == KubeEvent::Type::kPut;
  if (event.type == KubeEvent::Type::kBookmark) {
    // Only the version.
  } else if (side.kind == KubeKind::kLease) {
    std::optional<KubeLease> lease = is_put ? ReadKubeLease(event.object) : std::nullopt;
    if (lease) {
      picture_.PutLease(std::move(*lease), now);
    } else {
      picture_.DropLease(name, now);
    }
  } else {
    std::optional<KubeEntry> entry = is_put ? ReadKubeEntry(event.object) : std::nullopt;
    if (entry) {
      picture_.PutEntry(std::move(*entry), now);
    } else {
      picture_.DropEntry(name);
    }
  }
  side.version = version;
  return {};
}

// ---- what the dead left

/// All readers do it; preconditions make the others' attempts harmless. The cluster's garbage
/// collector takes what a Lease owned, where one runs.
rt::Task<void> KubeMirror::SweepLoop() {
  const std::int64_t ttl = options_.lease.ttl.count();
  while (true) {
    auto pause = loop_.SleepFor(rt::Duration(loop_.random().Between(ttl, 2 * ttl)));
    co_await std::move(pause);
    if (!answered() || trouble() || loop_.Now() < sweeper_.not_before()) {
      continue;
    }
    const std::vector<KubeLeftover> leftovers =
        picture_.Leftovers(options_.lease.ttl * options_.sweep_after_leases, loop_.Now());
    for (const KubeLeftover& leftover : leftovers) {
      auto deleting =
          sweeper_.Delete(leftover.kind, leftover.name, leftover.version, call_deadline());
      const Result<KubeAnswer> deleted = co_await std::move(deleting);
      if (!deleted) {
        break;  // later, or another reader
      }
    }
  }
}

}  // namespace pixii::control
