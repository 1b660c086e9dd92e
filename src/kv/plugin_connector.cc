#include "kv/plugin_connector.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "base/assert.h"

namespace pixii::kv {

namespace {

constexpr std::size_t kBatchBytes = 32U << 20;  // of records that the plug-in fills in one call
constexpr std::size_t kBroughtMax = 1U << 16;

}  // namespace

/// Shared with all jobs: one that never returns keeps it.
struct PluginConnector::Side {
  Side(std::shared_ptr<ConnectorPlugin> loaded, BlockRecord codec,
       std::shared_ptr<PluginCounters> counts, std::shared_ptr<Mailbox> box)
      : plugin(std::move(loaded)),
        record(std::move(codec)),
        counters(std::move(counts)),
        mailbox(std::move(box)) {}

  /// To the engine's thread, unless there is none any more.
  void Tell(Job call) {
    const rt::MutexLock lock(mutex);
    if (!is_over) {
      mailbox->Put(std::move(call));
    }
  }

  bool CountThrown(const Result<void>& called) const {
    Add(counters->threw, called ? 0 : 1);
    return called.has_value();
  }

  std::shared_ptr<ConnectorPlugin> plugin;
  BlockRecord record;
  std::shared_ptr<PluginCounters> counters;
  std::shared_ptr<Mailbox> mailbox;
  std::atomic<std::uint64_t> bytes_in_flight{0};
  rt::Mutex mutex;
  bool is_over PX_GUARDED_BY(mutex) = false;
};

struct PluginConnector::Ticket {
  /// Proves the record and copies its block. Whether it was brought.
  BlockFault Take(const Side& side, std::span<std::byte> bytes, const WantedBlock& wanted,
                  std::span<std::byte> target) {
    StoredBlock block;
    std::span<const std::byte> payload;
    BlockFault fault = side.record.Decode(bytes, block, payload);
    if (fault == BlockFault::kNone) {
      fault = CompareHeader(block, wanted, side.record.shape());
    }
    if (fault == BlockFault::kNone) {
      const rt::MutexLock lock(mutex);
      if (!is_wanted) {
        return BlockFault::kMissing;
      }
      std::memcpy(target.data(), payload.data(), payload.size());
      fault = CheckPayload(block, target);
    }
    return fault;
  }

  bool wanted() {
    const rt::MutexLock lock(mutex);
    return is_wanted;
  }

  void Drop() {
    const rt::MutexLock lock(mutex);
    is_wanted = false;
  }

  rt::Mutex mutex;
  bool is_wanted PX_GUARDED_BY(mutex) = true;  // targets may be written
};

PluginConnector::PluginConnector(const PluginConnectorOptions& options,
                                 std::shared_ptr<ConnectorPlugin> plugin, BlockRecord record,
                                 std::shared_ptr<PluginCounters> counters)
    : options_(options),
      counters_(std::move(counters)),
      mailbox_(std::make_shared<Mailbox>()),
      side_(std::make_shared<Side>(std::move(plugin), std::move(record), counters_, mailbox_)),
      foreign_(std::make_unique<rt::ForeignThread>("kv-connector")),
      copier_(std::make_unique<JobThread>("kv-records")) {}

PluginConnector::~PluginConnector() {
  copier_.reset();
  {
    const rt::MutexLock lock(side_->mutex);
    side_->is_over = true;
  }
  for (auto& [id, load] : loads_) {
    load.ticket->Drop();
  }
  mailbox_->RunAll();  // what holds pins
  foreign_->Stop(options_.stop_time_max, [side = side_] { side->plugin.reset(); });
}

void PluginConnector::Start(rt::Function<void()> wake) { mailbox_->OnFirst(std::move(wake)); }

std::uint32_t PluginConnector::Match(const ConnectorRequestRef& /*request*/,
                                     std::uint32_t /*first*/) {
  return 0;
}

std::uint32_t PluginConnector::Guess(const ConnectorRequestRef& request, std::uint32_t first) {
  if (rests() || !request->handover.empty()) {
    return 0;
  }
  const std::vector<Hash128>& hashes = request->chain.hashes;
  std::uint32_t count = 0;
  while (first + count < hashes.size() && count < options_.load_blocks_max &&
         !distrusted_.contains(hashes[first + count])) {
    ++count;
  }
  return count;
}

void PluginConnector::Load(LoadId id, const ConnectorRequestRef& request, std::uint32_t first,
                           std::span<const BlockMemory> targets) {
  LoadState& load = loads_[id];
  load.ticket = std::make_shared<Ticket>();
  load.deadline = request->deadline;
  told_of_.insert(request->id);
  const std::size_t count = std::min<std::size_t>(Guess(request, first), targets.size());
  std::vector<std::span<std::byte>> memory;
  for (std::size_t i = 0; i < count; ++i) {
    memory.push_back(targets[i].bytes);
  }
  const bool posted = foreign_->Post(
      [this, id, side = side_, ticket = load.ticket, request, first, memory = std::move(memory)] {
        std::vector<Hash128> brought;
        const bool is_well = Bring(*side, *ticket, *request, first, memory, brought);
        side->Tell([this, id, brought = std::move(brought), is_well] {
          LoadReturned(id, brought, is_well);
        });
      });
  if (!posted) {
    Tell(id, load, {}, std::nullopt);
    loads_.erase(id);
  }
  mailbox_->Wake();  // for its deadline, or its end
}

// On the plug-in's thread. False: it threw.
bool PluginConnector::Bring(Side& side, Ticket& ticket, const ConnectorRequest& request,
                            std::uint32_t first, std::span<const std::span<std::byte>> memory,
                            std::vector<Hash128>& brought) {
  if (memory.empty() || !ticket.wanted()) {
    return true;
  }
  const BlockChain& chain = request.chain;
  const std::size_t block_tokens = side.record.shape().block_tokens();
  const std::size_t record_bytes = side.record.size_bytes();
  const PluginRequest told(request);
  const Result<std::size_t> matched = side.plugin->MatchedTokens(told, first * block_tokens);
  if (!matched) {
    Add(side.counters->threw);
    return false;
  }
  const std::size_t count = std::min(*matched / block_tokens, memory.size());
  const std::size_t batch_max = std::max<std::size_t>(1, kBatchBytes / record_bytes);
  std::vector<std::byte> records;
  std::vector<pixii_kv_target> targets;
  while (brought.size() < count && ticket.wanted()) {
    const std::size_t done = brought.size();
    const std::size_t batch = std::min(count - done, batch_max);
    records.assign(batch * record_bytes, std::byte{0});
    targets.clear();
    for (std::size_t i = 0; i < batch; ++i) {
      targets.push_back({.key = KeyOf(chain.hashes[first + done + i]),
                         .record = records.data() + i * record_bytes,
                         .record_capacity = record_bytes,
                         .record_size = 0});
    }
    if (!side.CountThrown(side.plugin->Allocated(told, (first + done) * block_tokens, targets))) {
      return false;
    }
    for (std::size_t i = 0; i < batch; ++i) {
      const std::size_t number = first + done + i;
      if (targets[i].record_size == 0) {
        return true;  // it has forgotten it
      }
      WantedBlock wanted;
      wanted.hash = chain.hashes[number];
      wanted.parent = number == 0 ? chain.root->hash : chain.hashes[number - 1];
      wanted.root = chain.root;
      wanted.index = static_cast<std::uint32_t>(number);
      const auto tokens = std::span(chain.tokens).subspan(number * block_tokens, block_tokens);
      wanted.tokens.assign(tokens.begin(), tokens.end());
      const std::size_t said = targets[i].record_size;
      const auto bytes = std::span(records).subspan(i * record_bytes, std::min(said, record_bytes));
      const BlockFault fault = said > record_bytes
                                   ? BlockFault::kShape
                                   : ticket.Take(side, bytes, wanted, memory[done + i]);
      if (fault != BlockFault::kNone) {
        Add(side.counters->faults[static_cast<std::size_t>(fault)]);
        return true;
      }
      brought.push_back(wanted.hash);
    }
  }
  return true;
}

void PluginConnector::LoadReturned(LoadId id, const std::vector<Hash128>& brought, bool is_well) {
  const auto found = loads_.find(id);
  PX_ASSERT(found != loads_.end());
  LoadState& load = found->second;
  stuck_ -= load.is_stuck ? 1 : 0;
  if (is_well) {
    health_.Succeeded();
  } else {
    health_.Failed(now_, false, "a call threw");
  }
  Tell(id, load, brought, std::nullopt);
  loads_.erase(found);
}

void PluginConnector::Tell(LoadId id, LoadState& load, std::span<const Hash128> brought,
                           std::optional<Error> error) {
  if (load.told) {
    return;
  }
  load.told = true;
  load.ticket->Drop();
  Add(counters_->brought, brought.size());
  if (brought_.size() > kBroughtMax) {
    brought_.clear();  // then some are offered once more
  }
  brought_.insert(brought.begin(), brought.end());
  ended_.push_back(
      {.id = id, .blocks = static_cast<std::uint32_t>(brought.size()), .error = std::move(error)});
}

void PluginConnector::Cancel(LoadId id) {
  if (const auto found = loads_.find(id); found != loads_.end()) {
    Tell(id, found->second, {}, Error(Code::kCancelled, "nobody wants the blocks any more"));
    mailbox_->Wake();
  }
}

// Copies are made elsewhere; pins come back with them, whatever the plug-in does.
void PluginConnector::Published(std::vector<PublishedBlock> blocks) {
  std::erase_if(blocks, [&](const PublishedBlock& block) {
    return brought_.erase(block.hash) > 0 || distrusted_.contains(block.hash);
  });
  const std::uint64_t bytes = blocks.size() * side_->record.size_bytes();
  if (blocks.empty()) {
    return;
  }
  if (rests() || side_->bytes_in_flight.load() + bytes > options_.bytes_in_flight_max) {
    Add(counters_->refused, blocks.size());
    return;
  }
  side_->bytes_in_flight += bytes;
  ++copies_;
  auto shared = std::make_shared<std::vector<PublishedBlock>>(std::move(blocks));
  copier_->Post(false, [this, side = side_, shared, bytes] {
    auto records = std::make_shared<std::vector<std::string>>();
    auto told = std::make_shared<std::vector<pixii_kv_block>>();
    for (const PublishedBlock& block : *shared) {
      StoredBlock stored;
      stored.hash = block.hash;
      stored.parent = block.parent;
      stored.root = block.root;
      stored.index = block.index;
      stored.shape = side->record.shape();
      stored.tokens.assign(block.tokens.begin(), block.tokens.end());
      std::string record;
      if (side->record.Encode(std::move(stored), block.bytes, record)) {
        records->push_back(std::move(record));
        told->push_back({.key = KeyOf(block.hash),
                         .parent = KeyOf(block.parent),
                         .index = block.index,
                         .record = nullptr,
                         .record_size = 0});
      }
    }
    side->Tell([this, shared] {
      shared->clear();  // pins go where they came from
      --copies_;
    });
    for (std::size_t i = 0; i < records->size(); ++i) {
      (*told)[i].record = (*records)[i].data();
      (*told)[i].record_size = (*records)[i].size();
    }
    const bool posted = foreign_->Post([side, records, told, bytes] {
      const bool is_well = side->CountThrown(side->plugin->Step(*told));
      Add(side->counters->offered, is_well ? told->size() : 0);
      side->bytes_in_flight -= bytes;
    });
    if (!posted) {
      Add(side->counters->refused, told->size());
      side->bytes_in_flight -= bytes;
    }
  });
}

void PluginConnector::Distrust(std::span<const Hash128> hashes) {
  for (const Hash128& hash : hashes) {
    distrusted_.Insert(hash);
  }
}

void PluginConnector::Finished(const ConnectorRequestRef& request, std::vector<BlockPin> pins) {
  pins.clear();
  if (told_of_.erase(request->id) > 0) {
    foreign_->Post(
        [side = side_, id = request->id] { side->CountThrown(side->plugin->Finished(id)); });
  }
}

rt::Time PluginConnector::Poll(rt::Time now, std::vector<LoadEnd>& ended) {
  now_ = now;
  mailbox_->RunAll();
  rt::Time next = rt::kNever;
  for (auto& [id, load] : loads_) {
    if (load.began == rt::Time{}) {
      load.began = now;
      load.deadline = std::min(load.deadline, now + options_.load_time_max);
    }
    if (!load.told && now >= load.deadline) {
      Add(counters_->late);
      load.is_stuck = true;
      ++stuck_;
      Tell(id, load, {},
           Error(Code::kDeadlineExceeded,
                 fmt::format("the connector did not bring its KV blocks "
                             "within {} ms",
                             options_.load_time_max / std::chrono::milliseconds(1))));
    } else if (!load.told) {
      next = std::min(next, load.deadline);
    }
  }
  const bool failing = stuck_ > 0 || health_.failing();
  counters_->degraded.store(failing ? 1 : 0, std::memory_order_relaxed);
  health_log_.Update(options_.log, "connector", options_.rank, "loads", failing,
                     stuck_ > 0 ? "a load has not returned" : health_.why());
  ended.insert(ended.end(), std::make_move_iterator(ended_.begin()),
               std::make_move_iterator(ended_.end()));
  ended_.clear();
  return next;
}

bool PluginConnector::idle() const {
  return copies_ == 0 &&
         std::ranges::all_of(loads_, [](const auto& entry) { return entry.second.told; });
}

}  // namespace pixii::kv
