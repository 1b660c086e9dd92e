#include "control/kube_mirror.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

namespace pixii::control {

KubeMirror::KubeMirror(rt::Loop& loop, rt::Net& net, KubeStoreOptions options,
                       std::function<void()> on_change)
    : loop_(loop),
      options_(std::move(options)),
      on_change_(std::move(on_change)),
      leases_(loop, net, FollowOptionsOf(KubeKind::kLease),
              {.on_list = [this](const wire::Json::Array& objects,
                                 bool was_away) { TakeLeases(objects, was_away); },
               .on_event = [this](const KubeEvent& event) { TakeLease(event); },
               .on_change = [this] { TellIfChanged(); },
               // Holders that may be dead are asked for, not only waited for.
               .patience = [this] { return picture_.next_suspect_at(); }}),
      entries_(loop, net, FollowOptionsOf(KubeKind::kConfigMap),
               {.on_list = [this](const wire::Json::Array& objects,
                                  bool /*was_away*/) { TakeEntries(objects); },
                .on_event = [this](const KubeEvent& event) { TakeEntry(event); },
                .on_change = [this] { TellIfChanged(); }}),
      sweeper_(loop, net, options_.access) {}

void KubeMirror::Start() {
  leases_.Start();
  entries_.Start();
  tasks_.Start(SweepLoop());
}

void KubeMirror::Stop() {
  leases_.Stop();
  entries_.Stop();
  tasks_.Clear();
}

std::optional<Error> KubeMirror::trouble() const {
  return leases_.trouble() ? leases_.trouble() : entries_.trouble();
}

bool KubeMirror::answered() const {
  return (leases_.listed() && entries_.listed()) || trouble().has_value();
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

KubeFollowOptions KubeMirror::FollowOptionsOf(KubeKind kind) const {
  return {.access = options_.access,
          .kind = kind,
          .beat = beat(),
          .backoff_min = options_.backoff_min,
          .backoff_max = options_.backoff_max,
          .watch_length = options_.watch_length,
          .list_if_silent = kind == KubeKind::kLease};  // silent leases are few, or dead
}

void KubeMirror::TakeLeases(const wire::Json::Array& objects, bool was_away) {
  const rt::Time now = loop_.Now();
  std::vector<KubeLease> leases;
  for (const wire::Json& object : objects) {
    if (std::optional<KubeLease> lease = ReadKubeLease(object)) {
      leases.push_back(std::move(*lease));
    }
  }
  picture_.SetLeases(std::move(leases), now);
  if (was_away) {
    picture_.CountAnew(now);
  }
  picture_.Judge(now);
}

void KubeMirror::TakeEntries(const wire::Json::Array& objects) {
  std::vector<KubeEntry> entries;
  for (const wire::Json& object : objects) {
    if (std::optional<KubeEntry> entry = ReadKubeEntry(object)) {
      entries.push_back(std::move(*entry));
    }
  }
  picture_.SetEntries(std::move(entries), loop_.Now());
}

void KubeMirror::TakeLease(const KubeEvent& event) {
  const bool is_put = event.type == KubeEvent::Type::kPut;
  if (std::optional<KubeLease> lease = is_put ? ReadKubeLease(event.object) : std::nullopt) {
    picture_.PutLease(std::move(*lease), loop_.Now());
  } else {
    picture_.DropLease(TextAt(event.object, {"metadata", "name"}), loop_.Now());
  }
}

void KubeMirror::TakeEntry(const KubeEvent& event) {
  const bool is_put = event.type == KubeEvent::Type::kPut;
  if (std::optional<KubeEntry> entry = is_put ? ReadKubeEntry(event.object) : std::nullopt) {
    picture_.PutEntry(std::move(*entry), loop_.Now());
  } else {
    picture_.DropEntry(TextAt(event.object, {"metadata", "name"}));
  }
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
