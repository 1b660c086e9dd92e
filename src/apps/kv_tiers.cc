#include "apps/kv_tiers.h"

#include <algorithm>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "apps/version.h"
#include "base/digest.h"
#include "kv/tiers/disk_store.h"
#include "kv/tiers/host_store.h"
#include "kv/tiers/lmcache_service.h"
#include "kv/tiers/peer_files.h"
#include "kv/tiers/redis_service.h"
#include "kv/tiers/s3_service.h"
#include "kv/tiers/tiered_connector.h"
#include "rt/file.h"
#include "rt/http_client.h"
#include "rt/process.h"
#include "rt/random.h"

namespace pixii::apps {

namespace {

constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;
constexpr std::size_t kKeyBytes = 32;
constexpr std::uint32_t kObjectTimeoutMs = 4000;            // of one request to the object store
constexpr std::uint64_t kAuthoritiesBytesMax = 16U << 20U;  // of their PEM file
constexpr std::string_view kWorkerId = "{worker_id}";
constexpr std::uint32_t kProbeThreadsMax = 8;  // that measure the memory's bandwidth
constexpr std::uint64_t kSlotsMax = 1U << 28;

/// What says how large a tier is; the flags of one are the names of the others' counterparts.
struct TierSize {
  std::int64_t bytes = 0;
  double gib = 0;
  std::int64_t blocks = 0;
  const char* bytes_flag = "";
  const char* gib_flag = "";
  const char* blocks_flag = "";

  bool any() const { return bytes > 0 || gib > 0 || blocks > 0; }

  /// `fixed` bytes stand before the blocks.
  std::uint64_t BytesOf(std::uint64_t block_bytes, std::uint64_t fixed) const {
    if (blocks > 0) {
      return fixed + static_cast<std::uint64_t>(blocks) * block_bytes;
    }
    return bytes > 0 ? static_cast<std::uint64_t>(bytes) : static_cast<std::uint64_t>(gib * kGiB);
  }
};

TierSize HostSize(const EngineFlags& flags) {
  return {flags.kv_host_bytes, flags.kvbm_cpu_cache_gb, flags.kv_host_blocks,
          "kv-host-bytes",     "kvbm-cpu-cache-gb",     "kv-host-blocks"};
}

TierSize DiskSize(const EngineFlags& flags) {
  return {flags.kv_disk_bytes, flags.kvbm_disk_cache_gb, flags.kv_disk_blocks,
          "kv-disk-bytes",     "kvbm-disk-cache-gb",     "kv-disk-blocks"};
}

std::string DiskFolder(const EngineFlags& flags) {
  return flags.kv_disk.empty() ? "/tmp" : flags.kv_disk;
}

kv::EvictionPolicy PolicyOf(const EngineFlags& flags) {
  if (flags.kv_policy != "own") {
    return flags.kv_policy == "lru"       ? kv::EvictionPolicy::kLru
           : flags.kv_policy == "hicache" ? kv::EvictionPolicy::kLeafFirst
                                          : kv::EvictionPolicy::kLeafReward;
  }
  return flags.kv_eviction == "lru"         ? kv::EvictionPolicy::kLru
         : flags.kv_eviction == "frequency" ? kv::EvictionPolicy::kFrequency
                                            : kv::EvictionPolicy::kLeafFirst;
}

kv::TierIndexOptions IndexOptions(const EngineFlags& flags, std::uint64_t slots) {
  kv::TierIndexOptions options;
  options.slot_count = static_cast<std::uint32_t>(std::min(slots, kSlotsMax));
  options.policy = PolicyOf(flags);
  options.hit_reward = rt::Duration(flags.kv_hit_reward);
  if (flags.kv_tenant_share > 0) {
    options.tenant_slots_max =
        std::max(1U, static_cast<std::uint32_t>(flags.kv_tenant_share * options.slot_count));
  }
  return options;
}

bool HasLastTier(const EngineFlags& flags) {
  return flags.kv_object || !flags.kv_redis.empty() || !flags.kv_remote_store.empty();
}

Result<void> CheckSize(const TierSize& size) {
  if (size.bytes > 0 && size.gib > 0) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{}: {} says how much already; give one of them", size.gib_flag,
                            size.bytes_flag),
                size.gib_flag);
  }
  if (size.bytes > 0 && size.blocks > 0) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{}: {} blocks beside {} {}, which says how much already; give one of "
                            "them",
                            size.blocks_flag, size.blocks, size.bytes_flag, size.bytes),
                size.blocks_flag);
  }
  return {};
}

}  // namespace

Result<bool> WantsKvTiers(const EngineFlags& flags) {
  PX_CHECK_OK(CheckSize(HostSize(flags)));
  PX_CHECK_OK(CheckSize(DiskSize(flags)));
  if (flags.kv_disk_bytes > 0 && flags.kv_disk.empty()) {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("kv-disk-bytes: {} bytes of which folder? give --kv-disk", flags.kv_disk_bytes),
        "kv-disk-bytes");
  }
  if (flags.kv_object && flags.kv_object_bucket.empty()) {
    return Fail(Code::kInvalidArgument,
                "kv-object: in which bucket? give --kv-object-bucket (and --kv-object-endpoint "
                "unless it is AWS)",
                "kv-object");
  }
  if (flags.kv_redis.empty() && !flags.kv_redis_password.empty()) {
    return Fail(Code::kInvalidArgument,
                "kv-redis-password: there is no store to say it to; give --kv-redis too",
                "kv-redis-password");
  }
  if (flags.kv_object + !flags.kv_redis.empty() + !flags.kv_remote_store.empty() > 1) {
    const char* second = flags.kv_remote_store.empty() ? "kv-redis" : "kv-remote-store";
    return Fail(Code::kInvalidArgument,
                fmt::format("{}: {} is the last tier already; give one of them", second,
                            flags.kv_object ? "kv-object" : "kv-redis"),
                second);
  }
  if (!flags.kv_remote_store.empty()) {
    if (auto address = kv::LmcacheService::ParseUrl(flags.kv_remote_store); !address) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("kv-remote-store: {}", address.error().detail()), "kv-remote-store");
    }
  }
  if (!flags.kv_redis.empty()) {
    if (auto url = kv::RedisService::CheckUrl(flags.kv_redis); !url) {
      const bool has_user = flags.kv_redis.find('@') != std::string::npos;
      return Fail(Code::kInvalidArgument,
                  fmt::format("kv-redis: {}{}", url.error().detail(),
                              has_user ? "; give --kv-redis-user and --kv-redis-password" : ""),
                  "kv-redis");
    }
  }
  if (!flags.kv_redis.empty() && flags.kv_key_file.empty() && flags.kv_redis_password.empty() &&
      !DiskSize(flags).any()) {
    return Fail(Code::kInvalidArgument,
                "kv-redis: without a password, from which the secret of the block hashes is made, "
                "nobody would find the blocks again; give --kv-redis-password or --kv-key-file",
                "kv-redis");
  }
  if (flags.kv_policy != "own" && (flags.kv_eviction != "leaf" || flags.kv_offload_all)) {
    return Fail(Code::kInvalidArgument,
                fmt::format("kv-policy: {} says already what --kv-eviction and --kv-offload-all do",
                            flags.kv_policy),
                "kv-policy");
  }
  const bool any = HostSize(flags).any() || DiskSize(flags).any() || HasLastTier(flags);
  if (!flags.kv_disk.empty() && !DiskSize(flags).any()) {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("kv-disk: how much of {} may be used? give --kv-disk-bytes", flags.kv_disk),
        "kv-disk");
  }
  if (!kWithKvbm && (flags.connector == "kvbm" || (any && flags.connector != "none"))) {
    return Fail(
        Code::kUnsupported,
        fmt::format("connector: {} needs the tiers behind the cache, which this program was "
                    "built without (ENABLE_KVBM=false)",
                    flags.connector),
        "connector");
  }
  if (flags.connector == "kvbm" && !any) {
    return Fail(Code::kInvalidArgument,
                "connector: kvbm has no tier to keep blocks in; give --kv-host-bytes, --kv-disk "
                "with --kv-disk-bytes, --kv-object, --kv-redis or --kv-remote-store",
                "connector");
  }
  if (any && flags.connector != "none" && !flags.prefix_cache) {
    return Fail(Code::kInvalidArgument,
                "prefix-cache: tiers keep blocks of earlier requests, which false forbids",
                "prefix-cache");
  }
  return any && flags.connector != "none";
}

// Two processes that make it at the same time may begin with two keys: they then share nothing
// until one of them starts again.
Result<std::string> IdentityKeyFile(const EngineFlags& flags) {
  PX_TRY(const bool wanted, WantsKvTiers(flags));
  if (!flags.kv_key_file.empty() || !wanted || !DiskSize(flags).any()) {
    return flags.kv_key_file;
  }
  std::string path = DiskFolder(flags) + "/kv-identity.key";
  PX_TRY(const std::optional<rt::FileInfo> found, rt::StatFile(path));
  if (!found) {
    PX_CHECK_OK(rt::CreateFolders(DiskFolder(flags)));
    std::string key(kKeyBytes, '\0');
    rt::FillFromSystem(std::as_writable_bytes(std::span(key)));
    PX_CHECK_OK(rt::WriteFileAtomic(path, key, 0600));
  }
  return path;
}

std::string SharedIdentityKey(const EngineFlags& flags) {
  const std::string& secret =
      flags.kv_object ? flags.kv_object_secret_key : flags.kv_redis_password;
  const bool shares = HasLastTier(flags) && flags.connector != "none" &&
                      flags.kv_key_file.empty() && !secret.empty();
  return shares ? Sha256Hex("pixii kv identity\n" + secret) : std::string();
}

Result<void> CheckRemoteStore(const EngineFlags& flags, const std::string& cluster_key) {
  if (flags.kv_remote_store.empty() || !flags.kv_key_file.empty() || !cluster_key.empty()) {
    return {};
  }
  return Fail(Code::kInvalidArgument,
              "kv-remote-store: blocks there are found by who has the same key; give --kv-key-file "
              "or a cluster key",
              "kv-key-file");
}

Result<std::shared_ptr<const kv::BlockSealer>> ReadSealKey(const std::string& path) {
  if (path.empty()) {
    return std::shared_ptr<const kv::BlockSealer>();
  }
  constexpr const char* kFlag = "kv-seal-key-file";
  const Result<std::string> secret = rt::ReadFile(path, 4096);
  if (!secret) {
    return Fail(secret.error().code(), fmt::format("{}: {}", kFlag, secret.error().detail()),
                kFlag);
  }
  if (secret->size() < 16) {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("{}: {} holds {} bytes; a secret has at least 16", kFlag, path, secret->size()),
        kFlag);
  }
  return std::make_shared<const kv::BlockSealer>(*secret);
}

// Once, for all ranks: they share the memory.
void KvTiers::MakePacer() {
  if (bandwidth_ > 0 || flags_.kv_tier_bandwidth_share >= 1) {
    return;
  }
  const kv::CopyPacer::Clock clock = [&loop = loop_] { return loop.Now(); };
  const Result<rt::MachineLimits> machine = rt::ReadMachineLimits();
  const std::uint32_t cores = machine ? machine->cpu_count : 1;
  bandwidth_ = kv::MeasureBandwidth({.threads = std::min(cores, kProbeThreadsMax)}, clock);
  pacer_ = std::make_shared<kv::CopyPacer>(
      kv::TrafficLimits{.bytes_per_second = bandwidth_ * flags_.kv_tier_bandwidth_share}, clock,
      kv::WaitOnThread);
  obs::Event(log_, obs::EventId::kKvTierBandwidth)
      .kv("bytes_per_second", static_cast<std::uint64_t>(bandwidth_))
      .kv("share", flags_.kv_tier_bandwidth_share);
}

Result<std::unique_ptr<kv::ObjectService>> KvTiers::MakeService(std::uint32_t rank) {
  auto named = [](const Error& error, const char* flag) {
    return Fail(error.code(), fmt::format("{}: {}", flag, error.detail()), flag);
  };
  if (!flags_.kv_redis.empty()) {
    if (!flags_.kv_redis_ca.empty()) {  // says better than OpenSSL why it cannot be read
      if (const auto file = rt::ReadFile(flags_.kv_redis_ca, kAuthoritiesBytesMax); !file) {
        return named(file.error(), "kv-redis-ca");
      }
    }
    auto redis =
        kv::RedisService::Create({.url = flags_.kv_redis,
                                  .user = flags_.kv_redis_user,
                                  .password = flags_.kv_redis_password,
                                  .authorities = flags_.kv_redis_ca,
                                  .expiry = rt::Duration(flags_.kv_redis_expiry),
                                  .call_time_max = std::chrono::milliseconds(kObjectTimeoutMs)});
    if (!redis) {
      const bool by_file = redis.error().param() == "authorities";
      return named(redis.error(), by_file ? "kv-redis-ca" : "kv-redis");
    }
    return std::move(*redis);
  }
  if (!flags_.kv_remote_store.empty()) {
    PX_TRY(const rt::Address address, kv::LmcacheService::ParseUrl(flags_.kv_remote_store));
    return std::make_unique<kv::LmcacheService>(kv::LmcacheOptions{.address = address});
  }
  kv::S3Options s3;
  s3.endpoint = flags_.kv_object_endpoint.empty()
                    ? fmt::format("https://s3.{}.amazonaws.com", flags_.kv_object_region)
                    : flags_.kv_object_endpoint;
  s3.bucket = flags_.kv_object_bucket;
  if (const std::size_t at = s3.bucket.find(kWorkerId); at != std::string::npos) {
    s3.bucket.replace(at, kWorkerId.size(), std::to_string(rank));
  }
  s3.credentials = {.access_key = flags_.kv_object_access_key,
                    .secret_key = flags_.kv_object_secret_key,
                    .region = flags_.kv_object_region};
  auto service = kv::S3Service::Create(s3,
                                       rt::MakeCurlClient({.connect_timeout_ms = kObjectTimeoutMs,
                                                           .stall_timeout_s = 5,
                                                           .timeout_ms = kObjectTimeoutMs}),
                                       [&loop = loop_] { return loop.WallNow().unix_seconds; });
  if (!service) {
    return named(service.error(), "kv-object-endpoint");
  }
  return std::move(*service);
}

Result<std::unique_ptr<kv::Connector>> KvTiers::Make(const kv::BlockGeometry& geometry,
                                                     std::uint32_t rank) {
  PX_TRY(const bool wanted, WantsKvTiers(flags_));
  if (!wanted) {
    return std::unique_ptr<kv::Connector>();
  }
  if (geometry.block_size_bytes == 0) {
    return Fail(Code::kUnsupported,
                "connector: this engine's KV blocks have no bytes that could be kept elsewhere",
                "connector");
  }
  kv::TieredConnectorOptions options;
  options.shape = kv::BlockShape(geometry.block_tokens, geometry.slices);
  options.filter =
      flags_.kv_policy == "own" ? !flags_.kv_offload_all : flags_.kv_policy == "hicache";
  options.batch_blocks = static_cast<std::uint32_t>(flags_.kv_transfer_batch);
  options.bytes_in_flight_max = static_cast<std::uint64_t>(flags_.kv_transfer_bytes);
  options.prefetch_bytes_max = static_cast<std::uint64_t>(flags_.kv_prefetch_bytes);
  options.load_time_max = rt::Duration(flags_.kv_load_time);
  options.journal = journal_;
  options.log = &log_;
  options.rank = rank;
  MakePacer();
  options.pacer = pacer_;
  options.list_period = rt::Duration(flags_.kv_list_time);
  PX_TRY(const std::shared_ptr<const kv::BlockSealer> sealer, ReadSealKey(flags_.kv_seal_key_file));
  std::vector<kv::TierSetup> tiers;
  std::uint64_t faster = geometry.block_count;
  std::string_view faster_name = "the cache";
  auto add = [&](kv::TierSetup setup) {
    const std::uint32_t slots = setup.index.slot_count;
    obs::Event(log_, obs::EventId::kKvTierReady)
        .kv("tier", kv::TierName(setup.tier))
        .kv("rank", rank)
        .kv("blocks", slots)
        .kv("block_bytes", geometry.block_size_bytes);
    if (setup.tier != kv::Tier::kPeer) {  // others' room is none of ours
      if (slots < faster) {
        obs::Event(log_, obs::EventId::kKvTierSmall)
            .kv("tier", kv::TierName(setup.tier))
            .kv("blocks", slots)
            .kv("faster", faster_name)
            .kv("faster_blocks", faster);
      }
      faster = slots;
      faster_name = kv::TierName(setup.tier);
    }
    setup.runner = std::make_unique<kv::JobThread>(fmt::format("kv-{}", kv::TierName(setup.tier)));
    tiers.push_back(std::move(setup));
  };
  if (const TierSize size = HostSize(flags_); size.any()) {
    const std::uint64_t slots =
        size.BytesOf(geometry.block_size_bytes, 0) / geometry.block_size_bytes;
    if (slots == 0) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("{}: one KV block takes {} bytes", size.bytes_flag,
                              geometry.block_size_bytes),
                  size.bytes_flag);
    }
    kv::TierSetup host;
    host.tier = kv::Tier::kHost;
    host.index = IndexOptions(flags_, slots);
    host.store = std::make_unique<kv::HostStore>(options.shape, host.index.slot_count);
    add(std::move(host));
  }
  if (const TierSize size = DiskSize(flags_); size.any()) {
    kv::DiskModel model{.model_fingerprint = geometry.model_fingerprint,
                        .numerics_id = geometry.numerics_id,
                        .kv_dtype = geometry.kv_dtype};
    const std::uint64_t slot_bytes =
        kv::MakeDiskHeader(options.shape, {}, sealer != nullptr).slot_bytes();
    auto store =
        kv::DiskStore::Open(options.shape, std::move(model),
                            {.folder = DiskFolder(flags_),
                             .size_bytes = size.BytesOf(slot_bytes, kv::kStoredBlockAlignment),
                             .direct = !flags_.kv_disk_buffered,
                             .sealer = sealer,
                             .open = {}});
    if (!store) {
      return Fail(store.error().code(), fmt::format("kv-disk: {}", store.error().detail()),
                  "kv-disk");
    }
    obs::Event(log_, obs::EventId::kKvDiskOpened)
        .kv("path", (*store)->path())
        .kv("direct", (*store)->direct())
        .kv("batches", (*store)->batch_trouble() ? (*store)->batch_trouble()->ToString()
                                                 : std::string("io_uring"))
        .kv("sealed", (*store)->header().sealed)
        .kv("read_only", (*store)->read_only())
        .kv("foreign", kv::FaultName((*store)->foreign()));
    kv::TierSetup disk;
    disk.tier = kv::Tier::kDisk;
    disk.index = IndexOptions(flags_, (*store)->slot_count());
    disk.scan = true;
    disk.foreign = (*store)->foreign();
    disk.read_only = (*store)->read_only();
    disk.store = std::move(*store);
    const kv::DiskHeader header = static_cast<kv::DiskStore&>(*disk.store).header();
    const std::string path = static_cast<kv::DiskStore&>(*disk.store).path();
    const std::uint64_t slots = disk.index.slot_count;
    add(std::move(disk));
    if (flags_.kv_disk_shared) {
      kv::TierSetup peer;
      peer.tier = kv::Tier::kPeer;
      peer.index = IndexOptions(flags_, slots);
      peer.scan = true;
      peer.has_slots = false;
      peer.read_only = true;
      peer.store = std::make_unique<kv::PeerFiles>(
          kv::PeerFilesOptions{.own_path = path, .header = header, .sealer = sealer});
      add(std::move(peer));
    }
  }
  if (HasLastTier(flags_)) {
    PX_TRY(std::unique_ptr<kv::ObjectService> service, MakeService(rank));
    const kv::DiskModel model{.model_fingerprint = geometry.model_fingerprint,
                              .numerics_id = geometry.numerics_id,
                              .kv_dtype = geometry.kv_dtype};
    kv::TierSetup object;
    object.tier = kv::Tier::kObject;
    object.index = IndexOptions(flags_, static_cast<std::uint64_t>(flags_.kv_object_blocks));
    object.has_slots = false;
    object.is_asked = !flags_.kv_remote_store.empty();
    object.scan = !object.is_asked;
    object.forgets_itself = !flags_.kv_object;
    // A server of LMCache knows nobody's name: what it holds is always sealed, without a key for
    // that by the one that its readers share anyhow.
    object.store = std::make_unique<kv::ObjectStore>(
        std::move(service), options.shape, model,
        object.is_asked && !sealer ? std::make_shared<const kv::BlockSealer>(geometry.identity_key)
                                   : sealer,
        kv::ListLimits{.clock = [&loop = loop_] { return loop.Now(); }});
    add(std::move(object));
  }
  counters_.push_back(std::make_shared<kv::TierCounters>());
  return std::make_unique<kv::TieredConnector>(options, std::move(tiers), counters_.back());
}

std::uint64_t KvTiers::traffic_bytes() const {
  std::uint64_t bytes = 0;
  for (const std::shared_ptr<kv::TierCounters>& counters : counters_) {
    for (const kv::TierCounters::Of& tier : counters->tiers) {
      bytes += tier.traffic_bytes.load(std::memory_order_relaxed);
    }
  }
  return bytes;
}

void KvTiers::Export(obs::Registry& registry, const std::string& model) const {
  using obs::MetricId;
  if (counters_.empty()) {
    return;
  }
  auto sum = [&](auto&& of) {
    std::uint64_t total = 0;
    for (const std::shared_ptr<kv::TierCounters>& counters : counters_) {
      total += of(*counters).load(std::memory_order_relaxed);
    }
    return total;
  };
  auto tier_sum = [&](kv::Tier tier, kv::TierCounters::Count kv::TierCounters::Of::* field) {
    return sum([&](const kv::TierCounters& counters) -> const kv::TierCounters::Count& {
      return counters.of(tier).*field;
    });
  };
  auto total = [&](MetricId id, std::uint64_t value) {
    registry.GetCounter(id, {model}).SetTotal(value);
  };
  using Of = kv::TierCounters::Of;
  using kv::Tier;
  const bool has_host = counters_.front()->has_host;
  const std::uint64_t to_disk = tier_sum(Tier::kDisk, &Of::written);
  total(MetricId::kKvbmMatchedTokens,
        sum([](const kv::TierCounters& counters) -> const kv::TierCounters::Count& {
          return counters.matched_tokens;
        }));
  total(MetricId::kKvbmOffloadD2h, tier_sum(Tier::kHost, &Of::written));
  total(MetricId::kKvbmOffloadH2d, has_host ? to_disk : 0);
  total(MetricId::kKvbmOffloadD2d, has_host ? 0 : to_disk);
  total(MetricId::kKvbmOffloadD2o, tier_sum(Tier::kObject, &Of::written));
  total(MetricId::kKvbmOnboardH2d, tier_sum(Tier::kHost, &Of::brought));
  total(MetricId::kKvbmOnboardD2d,
        tier_sum(Tier::kDisk, &Of::brought) + tier_sum(Tier::kPeer, &Of::brought));
  total(MetricId::kKvbmOnboardO2d, tier_sum(Tier::kObject, &Of::brought));
  total(MetricId::kKvbmOnboardD2h, tier_sum(Tier::kDisk, &Of::prefetched) +
                                       tier_sum(Tier::kPeer, &Of::prefetched) +
                                       tier_sum(Tier::kObject, &Of::prefetched));
  total(MetricId::kKvbmOffloadBytesObject, tier_sum(Tier::kObject, &Of::written_bytes));
  total(MetricId::kKvbmOnboardBytesObject, tier_sum(Tier::kObject, &Of::brought_bytes));
  total(MetricId::kKvbmObjectReadFailures, tier_sum(Tier::kObject, &Of::read_failures));
  total(MetricId::kKvbmObjectWriteFailures, tier_sum(Tier::kObject, &Of::write_failures));
  total(MetricId::kKvLoadsTimedOutTotal,
        sum([](const kv::TierCounters& counters) -> const kv::TierCounters::Count& {
          return counters.timed_out_loads;
        }));
  if (pacer_) {
    registry.GetGauge(MetricId::kKvTierBandwidth, {model}).Set(bandwidth_);
    registry.GetGauge(MetricId::kKvTierBandwidthShare, {model}).Set(flags_.kv_tier_bandwidth_share);
    registry.GetCounter(MetricId::kKvTierWaitedMsTotal, {model})
        .SetTotal(pacer_->waited_ns() / 1'000'000);
  }
  auto rate = [&](MetricId id, Tier tier) {
    const std::uint64_t asked = tier_sum(tier, &Of::asked);
    const auto found = static_cast<double>(tier_sum(tier, &Of::found));
    registry.GetGauge(id, {model}).Set(asked == 0 ? 0 : found / static_cast<double>(asked));
  };
  rate(MetricId::kKvbmHostHitRate, Tier::kHost);
  rate(MetricId::kKvbmDiskHitRate, Tier::kDisk);
  rate(MetricId::kKvbmObjectHitRate, Tier::kObject);
  for (const Tier tier : {Tier::kHost, Tier::kDisk, Tier::kPeer, Tier::kObject}) {
    if (tier_sum(tier, &Of::slots) == 0) {
      continue;
    }
    const std::string_view name = kv::TierName(tier);
    auto count = [&](MetricId id, kv::TierCounters::Count Of::* field) {
      registry.GetCounter(id, {model, name}).SetTotal(tier_sum(tier, field));
    };
    auto gauge = [&](MetricId id, kv::TierCounters::Count Of::* field) {
      registry.GetGauge(id, {model, name}).Set(static_cast<double>(tier_sum(tier, field)));
    };
    gauge(MetricId::kKvTierSlots, &Of::slots);
    gauge(MetricId::kKvTierBlocks, &Of::stored);
    gauge(MetricId::kKvTierDegraded, &Of::degraded);
    count(MetricId::kKvTierEvictionsTotal, &Of::evicted);
    count(MetricId::kKvTierTrafficBytesTotal, &Of::traffic_bytes);
    count(MetricId::kKvTierPrefetchedTotal, &Of::prefetched);
    count(MetricId::kKvTierRefusedTotal, &Of::refused);
    count(MetricId::kKvTierReadFailuresTotal, &Of::read_failures);
    count(MetricId::kKvTierWriteFailuresTotal, &Of::write_failures);
    for (std::size_t fault = 0; fault < kv::kFaultCount; ++fault) {
      if (kv::IsIntegrityFault(static_cast<kv::BlockFault>(fault))) {
        const std::uint64_t value =
            sum([&](const kv::TierCounters& counters) -> const kv::TierCounters::Count& {
              return counters.of(tier).faults[fault];
            });
        registry
            .GetCounter(MetricId::kKvIntegrityFailuresTotal,
                        {model, name, kv::FaultName(static_cast<kv::BlockFault>(fault))})
            .SetTotal(value);
      }
    }
  }
}

}  // namespace pixii::apps
