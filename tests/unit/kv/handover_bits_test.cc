// One bit that changes anywhere in a block on its way to another worker is found and counted, and
// the block is not used: over every transport.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kv/block_cache.h"
#include "kv/handover_connector.h"
#include "rt/memory_file.h"
#include "transport/agent_thread.h"
#include "transport/choice.h"
#include "transport/cluster_key.h"
#include "transport/faulty_transport.h"
#include "transport/memory_transport.h"
#include "unit/transport/agents.h"

namespace pixii::kv {
namespace {

constexpr std::uint32_t kCacheBlocks = 64;
constexpr std::uint32_t kBlockTokens = 4;
constexpr std::size_t kBlockBytes = 4096;
constexpr std::uint32_t kBlocks = 16;  // of a hand-over; each moves by itself
constexpr char kKey[] = "the key of a test's cluster, long";
constexpr std::array kTransports = {"memory", "shm", "tcp", "tls"};
constexpr std::uint64_t kPositions = 10'000;  // over all transports together
constexpr std::uint64_t kSeed = 20261122;

/// A cache with bytes and its connector, on threads of their own; what an engine would do with them
/// is done by the test.
struct Side {
  Side(const transport::AgentThread::Choose& choose, transport::Bell& bell)
      : cache(std::move(*BlockCache::Create({.block_count_max = kCacheBlocks,
                                             .block_tokens = kBlockTokens,
                                             .identity_key = kKey}))),
        identity(kKey),
        file(std::make_shared<const rt::MemoryFile>(
            *rt::MemoryFile::CreateSparse(kCacheBlocks * kBlockBytes))),
        memory(file->bytes().first(kCacheBlocks * kBlockBytes)) {
    HandoverOptions options;
    options.key = kKey;
    options.chunk_tokens = kBlockTokens;
    options.geometry = {.block_count = kCacheBlocks,
                        .block_tokens = kBlockTokens,
                        .block_size_bytes = kBlockBytes,
                        .slices = {},
                        .layout = std::nullopt,
                        .model_fingerprint = "model",
                        .numerics_id = "numerics",
                        .kv_dtype = "bf16",
                        .identity_key = kKey,
                        .memory = file};
    connector = std::move(*HandoverConnector::Create(
        std::move(options),
        [&](rt::Loop& /*loop*/,
            rt::Function<void()> wake) -> Result<std::shared_ptr<transport::Agent>> {
          transport::AgentOptions agent;
          agent.wake = std::move(wake);
          PX_TRY(std::shared_ptr<transport::AgentThread> thread,
                 transport::AgentThread::Start(std::move(agent), choose));
          return std::shared_ptr<transport::Agent>(thread, &thread->agent());
        }));
    connector->Start([&bell] { bell.Ring(); });
  }

  std::span<std::byte> Bytes(const BlockRef& ref) {
    return memory.subspan(std::size_t{Raw(ref.id)} * kBlockBytes, kBlockBytes);
  }

  ConnectorRequest Request(std::uint64_t id) {
    ConnectorRequest request;
    request.id = RequestId{id};
    request.chain.root = identity.MakeRoot(BlockRootFields());
    Hash128 hash = request.chain.root->hash;
    for (std::uint32_t i = 0; i < kBlocks * kBlockTokens; ++i) {
      request.chain.tokens.push_back(static_cast<TokenId>(i));
    }
    for (std::uint32_t i = 0; i < kBlocks; ++i) {
      hash = identity.Chain(
          hash,
          std::span(request.chain.tokens).subspan(std::size_t{i} * kBlockTokens, kBlockTokens));
      request.chain.hashes.push_back(hash);
    }
    return request;
  }

  std::unique_ptr<BlockCache> cache;
  BlockIdentity identity;
  std::shared_ptr<const rt::MemoryFile> file;  // so that shm can map it
  std::span<std::byte> memory;
  std::unique_ptr<HandoverConnector> connector;  // goes before the cache
};

class HandoverBits : public ::testing::TestWithParam<const char*> {
 protected:
  transport::AgentThread::Choose Chosen(std::optional<transport::FaultOptions> faults) {
    transport::AgentThread::Choose choose = [this](rt::Loop& /*loop*/, rt::Net& /*net*/) {
      std::vector<transport::TransportFactory> out;
      out.push_back(exchange_.factory());
      return out;
    };
    const std::string name = GetParam();
    if (name != "memory") {
      choose = transport::ChooseTransports(
          *transport::ClusterKey::FromSecret(kKey),
          {.backend = name == "shm" ? transport::Backend::kShm : transport::Backend::kTcp,
           .encrypted = name == "tls"});
    }
    return [choose = std::move(choose), faults](rt::Loop& loop, rt::Net& net) {
      std::vector<transport::TransportFactory> out = choose(loop, net);
      for (transport::TransportFactory& one : out) {
        one = faults ? transport::WithFaults(std::move(one), *faults) : std::move(one);
      }
      return out;
    };
  }

  /// `side`'s turn to do what it does now and then.
  static std::vector<LoadEnd> Poll(Side& side) {
    std::vector<LoadEnd> ends;
    side.connector->Poll(transport::Now(), ends);
    return ends;
  }

  struct News {
    rt::Mutex mutex;
    std::optional<std::string> record PX_GUARDED_BY(mutex);
  };

  /// Blocks are kept; their record.
  std::string Offer(std::uint64_t id, std::vector<BlockRef>& refs) {
    auto request = std::make_shared<ConnectorRequest>(prefill_.Request(id));
    request->prefill_only = true;
    std::vector<BlockPin> pins;
    for (std::uint32_t i = 0; i < kBlocks; ++i) {
      pins.push_back(*prefill_.cache->Allocate());
      refs.push_back(pins.back().ref());
    }
    std::vector<PublishedBlock> published(1);  // tells where the memory is
    published[0].bytes = prefill_.Bytes(refs[0]);
    published[0].pin = pins[0].Share();
    prefill_.connector->Published(std::move(published));
    prefill_.connector->Finished(request, std::move(pins));
    auto news = std::make_shared<News>();
    prefill_.connector->Watch(RequestId{id}, [this, news](std::optional<std::string> record) {
      {
        const rt::MutexLock lock(news->mutex);
        news->record = record ? std::move(record) : news->record;
      }
      bell_.Ring();
    });
    std::string record;
    EXPECT_TRUE(bell_.WaitFor([&] {
      const rt::MutexLock lock(news->mutex);
      record = news->record.value_or("");
      return news->record.has_value();
    }));
    return record;
  }

  transport::Bell bell_;
  transport::MemoryExchange exchange_;
  Side prefill_{Chosen(std::nullopt), bell_};
  // Each transfer that it makes has one bit at a drawn place changed.
  Side decode_{Chosen(transport::FaultOptions{.seed = kSeed, .corrupt = 1}), bell_};
};

INSTANTIATE_TEST_SUITE_P(Over, HandoverBits, ::testing::ValuesIn(kTransports),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(HandoverBits, AChangedBitAnywhereInABlockOnItsWayIsFoundAndTheBlockIsNotUsed) {
  SCOPED_TRACE(::testing::Message() << "seed " << kSeed);
  std::mt19937_64 random(kSeed);
  for (std::byte& byte : prefill_.memory) {
    byte = static_cast<std::byte>(random());
  }
  const HandoverCounters& counters = decode_.connector->counters();
  std::uint64_t loads = 0;
  while (counters.corrupt_blocks < kPositions / kTransports.size() + 1 && !HasFailure()) {
    const std::uint64_t corrupt = counters.corrupt_blocks;
    const std::uint64_t id = ++loads;
    std::vector<BlockRef> refs;
    auto request = std::make_shared<ConnectorRequest>(decode_.Request(id));
    request->handover = Offer(id, refs);
    const ConnectorRequestRef asked = request;
    ASSERT_EQ(decode_.connector->Match(asked, 0), kBlocks);
    std::vector<BlockPin> pins;
    std::vector<BlockMemory> targets;
    for (std::uint32_t i = 0; i < kBlocks; ++i) {
      pins.push_back(*decode_.cache->Allocate());
      targets.push_back({.ref = pins.back().ref(), .bytes = decode_.Bytes(pins.back().ref())});
    }
    decode_.connector->Load(LoadId{id}, asked, 0, targets);
    std::vector<LoadEnd> ends;
    ASSERT_TRUE(bell_.WaitFor([&] {
      ends = Poll(decode_);
      return !ends.empty();
    }));
    // The first block of it is wrong already: nothing of it may be used.
    EXPECT_EQ(ends[0].blocks, 0U);
    ASSERT_TRUE(ends[0].error);
    EXPECT_EQ(ends[0].error->code(), Code::kDataCorrupt) << ends[0].error->ToString();
    EXPECT_GT(counters.corrupt_blocks, corrupt);
    ASSERT_TRUE(bell_.WaitFor([&] {
      Poll(prefill_);
      return prefill_.cache->pool().pinned_count() == 0;
    })) << "what was refused is not kept any longer";
  }
  EXPECT_EQ(counters.chunks, counters.corrupt_blocks) << "each transfer had one changed bit";
  EXPECT_EQ(counters.loaded_bytes, 0U);
  EXPECT_TRUE(decode_.connector->idle());
}

}  // namespace
}  // namespace pixii::kv
