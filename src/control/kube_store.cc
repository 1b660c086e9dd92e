#include "control/kube_store.h"

#include <fmt/format.h>

#include <utility>
#include <vector>

namespace pixii::control {

namespace {

using wire::Json;

constexpr int kAttemptsMax = 4;  // against others who change the same object, before a pause

Error Refused(std::string_view what, const KubeAnswer& last) {
  return Error(Code::kUnavailable, fmt::format("kubernetes: {} is refused: {} {}", what,
                                               last.status, TextAt(last.body, {"message"})));
}

Json WithVersion(Json object, const KubeVersion& version) {
  Json metadata = *object.Find("metadata");
  metadata.Set("uid", version.uid);
  metadata.Set("resourceVersion", version.resource_version);
  object.Set("metadata", std::move(metadata));
  return object;
}

}  // namespace

KubeStore::KubeStore(rt::Loop& loop, rt::Net& net, KubeStoreOptions options)
    : HeldStore(loop, {options.lease, options.backoff_min, options.backoff_max}),
      options_(std::move(options)),
      holder_(fmt::format("{:016x}", loop.random().Next())),
      client_(loop, net, options_.access),
      mirror_(loop, net, options_, [this] { TellAll(); }) {
  StartHolding();
}

KubeStore::~KubeStore() {
  *alive_ = false;
  StopHolding();
  mirror_.Stop();
}

// ---- what we hold

rt::Task<Result<void>> KubeStore::Hold() {
  if (!has_lease() && wanted().empty()) {
    co_return Result<void>();
  }
  if (!has_lease() || is_due()) {
    const bool is_new = !has_lease();
    auto having = HaveLease();
    PX_CO_CHECK_OK(co_await std::move(having));
    if (!is_new) {
      auto checking = CheckPut();
      PX_CO_CHECK_OK(co_await std::move(checking));
    }
  }
  auto putting = PutWanted();
  co_return co_await std::move(putting);
}

/// Renews the Lease, or makes it if it is not there (any more).
rt::Task<Result<void>> KubeStore::HaveLease() {
  KubeAnswer last;
  bool create = !has_lease();
  for (int attempt = 0; attempt < kAttemptsMax; ++attempt) {
    const rt::Time asked_at = loop().Now();
    const rt::WallTime wall = loop().WallNow();
    auto asking =
        create ? client_.Create(KubeKind::kLease, MakeKubeLease(holder_, options_.lease.ttl, wall),
                                call_deadline())
               : client_.MergePatch(KubeKind::kLease, KubeLeaseName(holder_), MakeKubeRenewal(wall),
                                    call_deadline());
    PX_CO_TRY(last, co_await std::move(asking));
    if (last.ok()) {
      std::string uid = VersionOf(last.body).uid;
      if (uid != lease_uid_) {
        put_.clear();  // they hang on another one, and go with it
        lease_uid_ = std::move(uid);
      }
      SetRenewed(asked_at);
      co_return Result<void>();
    }
    create = !create;  // somebody deleted it; or an answer to us was lost
  }
  co_return Fail(Refused("the lease", last));
}

/// A server that was set back may have old values of our keys, or keys that we deleted; and
/// somebody may have changed one. Forgets what is not as it was put.
rt::Task<Result<void>> KubeStore::CheckPut() {
  auto listing = client_.List(
      KubeKind::kConfigMap,
      KubeListOptions{.selector = fmt::format("{},{}={}", kKubeSelector, kKubeHolderLabel, holder_),
                      .metadata_only = true},
      call_deadline());
  PX_CO_TRY(const KubeAnswer answer, co_await std::move(listing));
  if (!answer.ok()) {
    co_return Fail(Refused("a list", answer));
  }
  const Json* items = answer.body.Find("items");
  std::map<std::string, KubeVersion> there;
  for (const Json& item : items != nullptr && items->is_array() ? items->array() : Json::Array()) {
    std::string key = TextAt(item, {"metadata", "annotations", kKubeKeyAnnotation});
    if (TextAt(item, {"metadata", "name"}) == KubeEntryName(key)) {
      there[std::move(key)] = VersionOf(item);
    }
  }
  std::erase_if(put_, [&](const auto& item) { return !there.contains(item.first); });
  for (const auto& [key, version] : there) {
    Standing& standing = put_[key];
    if (standing.version != version) {
      standing = Standing{.value = std::nullopt, .version = version};
    }
  }
  co_return Result<void>();
}

rt::Task<Result<void>> KubeStore::PutWanted() {
  const std::map<std::string, std::string> wanted = this->wanted();  // it may change while we wait
  for (const auto& [key, value] : wanted) {
    if (const auto there = put_.find(key); there != put_.end() && there->second.value == value) {
      continue;
    }
    auto putting = PutEntry(key, value);
    PX_CO_CHECK_OK(co_await std::move(putting));
  }
  std::vector<std::string> unwanted;
  for (const auto& [key, standing] : put_) {
    if (!wanted.contains(key)) {
      unwanted.push_back(key);
    }
  }
  for (const std::string& key : unwanted) {
    auto deleting = DeleteEntry(key);
    PX_CO_CHECK_OK(co_await std::move(deleting));
  }
  co_return Result<void>();
}

rt::Task<Result<KubeAnswer>> KubeStore::Read(std::string key) {
  return client_.Get(KubeKind::kConfigMap, KubeEntryName(key), call_deadline());
}

/// Whatever stands there, and whoever put it: the last one counts.
rt::Task<Result<void>> KubeStore::PutEntry(std::string key, std::string value) {
  std::optional<KubeVersion> version;
  if (const auto there = put_.find(key); there != put_.end()) {
    version = there->second.version;
  }
  KubeAnswer last;
  for (int attempt = 0; attempt < kAttemptsMax; ++attempt) {
    Json entry = MakeKubeEntry(key, value, holder_, {.uid = lease_uid_, .resource_version = {}});
    auto writing = version
                       ? client_.Replace(KubeKind::kConfigMap, KubeEntryName(key),
                                         WithVersion(std::move(entry), *version), call_deadline())
                       : client_.Create(KubeKind::kConfigMap, std::move(entry), call_deadline());
    PX_CO_TRY(last, co_await std::move(writing));
    if (last.ok()) {
      put_[key] = Standing{.value = value, .version = VersionOf(last.body)};
      co_return Result<void>();
    }
    version.reset();
    if (last.status == 409) {  // there already, or changed
      auto reading = Read(key);
      PX_CO_TRY(const KubeAnswer there, co_await std::move(reading));
      if (there.ok()) {
        version = VersionOf(there.body);
      }
    }
  }
  co_return Fail(Refused(key, last));
}

/// Unless it is another holder's by now.
rt::Task<Result<void>> KubeStore::DeleteEntry(std::string key) {
  KubeVersion version = put_[key].version;
  KubeAnswer last;
  for (int attempt = 0; attempt < kAttemptsMax; ++attempt) {
    auto deleting =
        client_.Delete(KubeKind::kConfigMap, KubeEntryName(key), version, call_deadline());
    PX_CO_TRY(last, co_await std::move(deleting));
    if (last.ok() || last.status == 404) {
      put_.erase(key);
      co_return Result<void>();
    }
    auto reading = Read(key);
    PX_CO_TRY(const KubeAnswer there, co_await std::move(reading));
    if (!there.ok() || TextAt(there.body, {"metadata", "labels", kKubeHolderLabel}) != holder_) {
      put_.erase(key);
      co_return Result<void>();
    }
    version = VersionOf(there.body);
  }
  co_return Fail(Refused(key, last));
}

// ---- what we see

WatchId KubeStore::Watch(std::string prefix, WatchHandler on_view) {
  const std::uint64_t id = ++last_watch_;
  watches_[id] =
      PrefixWatch{.prefix = std::move(prefix), .on_view = std::move(on_view), .told = std::nullopt};
  if (!std::exchange(mirroring_, true)) {
    mirror_.Start();
  }
  loop().Post([this, id, alive = alive_] {
    if (*alive) {
      Tell(id);
    }
  });
  return WatchId{id};
}

void KubeStore::Unwatch(WatchId watch) { watches_.erase(static_cast<std::uint64_t>(watch)); }

void KubeStore::TellAll() {
  std::vector<std::uint64_t> ids;  // a handler may end watches
  for (const auto& [id, watch] : watches_) {
    ids.push_back(id);
  }
  for (const std::uint64_t id : ids) {
    Tell(id);
  }
}

void KubeStore::Tell(std::uint64_t id) {
  const auto found = watches_.find(id);
  if (found == watches_.end() || closing() || !mirror_.answered()) {
    return;
  }
  PrefixWatch& watch = found->second;
  const StoreView view = mirror_.ViewUnder(watch.prefix);
  if (watch.told && *watch.told == view) {
    return;
  }
  watch.told = view;
  const WatchHandler on_view = watch.on_view;
  on_view(view);
}

// ---- the end

void KubeStore::EndWatches() {
  mirror_.Stop();
  watches_.clear();
}

// Readers take all keys as gone with it; the cluster deletes what it owned.
rt::Task<Result<void>> KubeStore::GiveBack() {
  auto deleting = client_.Delete(KubeKind::kLease, KubeLeaseName(holder_),
                                 {.uid = lease_uid_, .resource_version = {}}, call_deadline());
  PX_CO_TRY(const KubeAnswer answer, co_await std::move(deleting));
  co_return answer.ok() ? Result<void>() : Fail(Refused("the lease's end", answer));
}

}  // namespace pixii::control
