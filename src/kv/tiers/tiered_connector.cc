#include "kv/tiers/tiered_connector.h"

#include <algorithm>
#include <cstring>
#include <string>

#include <fmt/format.h>

#include "base/assert.h"
#include "kv/tiers/tiered_state.h"

namespace pixii::kv {

namespace {

/// Of the time that a load may take, the part that a tier is believed to need for it.
constexpr double kTimeShare = 0.5;
/// Weight of the newest load in a tier's speed.
constexpr double kNewWeight = 0.25;
constexpr std::size_t kNamesMax = 1U << 18;
/// Of host memory's slots, those that waiting requests may fill before their turn.
constexpr std::uint32_t kAheadShare = 2;

/// Without host memory there is nowhere to bring blocks early.
PrefetchPlannerOptions PrefetchOptions(const TieredConnectorOptions& options,
                                       const TierSetup& first) {
  const bool brings = first.tier == Tier::kHost;
  return {.bytes_in_flight_max = brings ? options.prefetch_bytes_max : 0,
          .blocks_ahead_max = brings ? first.index.slot_count / kAheadShare : 0,
          .block_bytes = options.shape.payload_bytes()};
}

}  // namespace

TieredConnector::TieredConnector(const TieredConnectorOptions& options,
                                 std::vector<TierSetup> tiers,
                                 std::shared_ptr<TierCounters> counters)
    : options_(options),
      counters_(std::move(counters)),
      mailbox_(std::make_shared<Mailbox>()),
      filter_(options.filter_blocks_max),
      prefetches_(PrefetchOptions(options, tiers.front())),
      names_(kNamesMax),
      journal_(options.journal) {
  PX_ASSERT(!tiers.empty());
  for (TierSetup& setup : tiers) {
    const BlockFault foreign = setup.foreign;
    levels_.push_back(std::make_unique<Level>(std::move(setup), options_));
    Level& level = *levels_.back();
    TierCounters::Of& counts = counters_->of(level.tier);
    counts.slots = level.index.slot_count();
    journal_.SetSlots(level.tier, level.index.slot_count());
    if (foreign != BlockFault::kNone) {
      Add(counts.faults[static_cast<std::size_t>(foreign)]);
    }
  }
  counters_->has_host = levels_.front()->tier == Tier::kHost;
}

void TieredConnector::Start(rt::Function<void()> wake) {
  mailbox_->OnFirst(std::move(wake));
  for (const std::unique_ptr<Level>& level : levels_) {
    if (level->scanning) {
      Scan(*level);
    }
  }
}

TieredConnector::~TieredConnector() {
  for (const std::unique_ptr<Level>& level : levels_) {
    level->store->Stop();
  }
  for (const std::unique_ptr<Level>& level : levels_) {
    level->runner.reset();
  }
}

std::optional<TieredConnector::Place> TieredConnector::Locate(const Hash128& hash) const {
  for (const std::unique_ptr<Level>& level : levels_) {
    if (level->scanning || level->reads.rests(now_)) {
      continue;  // its thread would be long about it
    }
    if (const std::optional<TierPlace> place = level->index.Find(hash)) {
      return Place{.level = level.get(), .place = *place};
    }
  }
  return std::nullopt;
}

std::uint32_t TieredConnector::Match(const ConnectorRequestRef& request, std::uint32_t first) {
  const bool is_new = live_.insert(request->id).second;
  if (is_new) {
    Use(request->chain);
  }
  return CountFound(*request, first, is_new, false);
}

std::uint32_t TieredConnector::Guess(const ConnectorRequestRef& request, std::uint32_t first) {
  return CountFound(*request, first, false, true);
}

// Every block that a request begins with is used by it, whoever has it.
void TieredConnector::Use(const BlockChain& chain) {
  for (const Hash128& hash : chain.hashes) {
    filter_.Hit(hash);
    for (const std::unique_ptr<Level>& level : levels_) {
      level->index.Touch(hash);
    }
    OfferDown(hash);
  }
  for (std::size_t i = 1; i < levels_.size(); ++i) {
    PumpDown(*levels_[i]);
  }
}

// Behind a block that is known those follow that may be there, if no other worker keeps the
// request's: it knows what it has.
std::uint32_t TieredConnector::CountFound(const ConnectorRequest& request, std::uint32_t first,
                                          bool is_counted, bool guesses) {
  const BlockChain& chain = request.chain;
  const auto size = static_cast<std::uint32_t>(chain.hashes.size());
  std::array<std::uint32_t, kTierCount> from{};
  std::uint32_t count = 0;
  while (first + count < size && count < options_.load_blocks_max) {
    const Hash128& hash = chain.hashes[first + count];
    const std::optional<Place> place = Locate(hash);
    if (is_counted) {
      CountAsked(place);
    }
    const bool may_guess = (guesses || count > 0) && request.handover.empty();
    const Level* const level = place ? place->level : may_guess ? WhoMayHave(hash) : nullptr;
    if (level == nullptr || from[static_cast<std::size_t>(level->tier)] >= BlocksInTime(*level)) {
      break;
    }
    ++from[static_cast<std::size_t>(level->tier)];
    ++count;
  }
  return count;
}

// Who cannot say without being read whether it has the block; null: nobody.
TieredConnector::Level* TieredConnector::WhoMayHave(const Hash128& hash) const {
  if (doubted_.contains(hash)) {
    return nullptr;
  }
  for (const std::unique_ptr<Level>& level : levels_) {
    if (level->is_asked && !level->reads.rests(now_) && !level->index.contains(hash)) {
      return level.get();
    }
  }
  return nullptr;
}

// Takes the block for one that is there; its reader finds out.
std::optional<TieredConnector::Place> TieredConnector::Assume(const BlockChain& chain,
                                                              std::uint32_t number) {
  Level* const level = WhoMayHave(chain.hashes[number]);
  if (level == nullptr) {
    return std::nullopt;
  }
  const std::optional<TierPlace> place =
      Reserve(*level, {.hash = chain.hashes[number],
                       .parent = number == 0 ? chain.root->hash : chain.hashes[number - 1]});
  if (!place) {
    return std::nullopt;
  }
  level->index.Commit(place->slot);
  return Place{.level = level, .place = *place};
}

void TieredConnector::CountAsked(const std::optional<Place>& place) {
  for (const std::unique_ptr<Level>& level : levels_) {
    Add(counters_->of(level->tier).asked);
    if (place && place->level == level.get()) {
      Add(counters_->of(level->tier).found);
      return;
    }
  }
}

// A slow tier is asked for no more than it can bring while somebody waits.
std::uint32_t TieredConnector::BlocksInTime(const Level& level) const {
  if (level.block_seconds <= 0) {
    return options_.load_blocks_max;
  }
  const double seconds = kTimeShare * std::chrono::duration<double>(options_.load_time_max).count();
  // One at least: else nobody would notice that it has become faster.
  return static_cast<std::uint32_t>(
      std::clamp(seconds / level.block_seconds, 1.0, double{1U << 24U}));
}

std::vector<bool> TieredConnector::Find(std::span<const Hash128> hashes) const {
  std::vector<bool> found;
  for (const Hash128& hash : hashes) {
    found.push_back(Locate(hash).has_value());
  }
  return found;
}

void TieredConnector::Load(LoadId id, const ConnectorRequestRef& request, std::uint32_t first,
                           std::span<const BlockMemory> targets) {
  const BlockChain& chain = request->chain;
  auto owned = std::make_unique<LoadState>();
  LoadState& load = *owned;
  load.id = id;
  load.deadline = request->deadline;
  load.brought.resize(targets.size());
  loads_.emplace(id, std::move(owned));
  std::vector<LoadItem> batch;
  std::uint64_t located = 0;
  Level* level = nullptr;
  auto flush = [&] {
    if (batch.empty()) {
      return;
    }
    ++load.jobs_of[level];
    level->runner->Post(
        true, [this, id, level, ticket = load.ticket, mailbox = mailbox_, store = level->store,
               shape = options_.shape, items = std::move(batch),
               pace = PaceOf(*level, BlockTrafficCost::kCopy + BlockTrafficCost::kCheck,
                             CopyHaste::kNow)] {
          std::vector<Outcome> outcomes;
          std::vector<BlockStore::Ask> asks;
          for (const LoadItem& item : items) {
            Outcome& outcome = outcomes.emplace_back();
            outcome.number = item.number;
            outcome.hash = item.wanted.hash;
            outcome.place = item.place;
            outcome.is_guess = item.is_guess;
            asks.push_back({.slot = item.place.slot, .hash = item.wanted.hash});
          }
          const auto wanted = [&](std::size_t i) {  // of no use behind a hole
            const bool is_wanted =
                ticket->first_bad.load(std::memory_order_relaxed) >= items[i].number;
            if (is_wanted) {
              pace.Pass();
            }
            return is_wanted;
          };
          store->ReadMany(asks, wanted,
                          [&](std::size_t i, BlockFault fault, const StoredBlock& block,
                              std::span<const std::byte> payload) {
                            Take(*ticket, items[i], shape, fault, block, payload, outcomes[i]);
                          });
          mailbox->Put([this, id, level, outcomes = std::move(outcomes)] {
            JobEnded(id, *level, outcomes);
          });
        });
    batch.clear();
  };
  for (std::uint32_t i = 0; i < targets.size(); ++i) {
    const std::uint32_t number = first + i;
    std::optional<Place> place = Locate(chain.hashes[number]);
    const bool is_guess = !place;
    if (is_guess && request->handover.empty()) {
      place = Assume(chain, number);
    }
    if (!place) {
      break;  // it went since Match
    }
    if (place->level != level || batch.size() >= options_.batch_blocks) {
      flush();
      level = place->level;
    }
    located += is_guess ? 0 : 1;
    level->index.BeginRead(place->place.slot);
    LoadItem& item = batch.emplace_back();
    item.number = i;
    item.place = place->place;
    item.target = targets[i].bytes;
    item.is_guess = is_guess;
    item.wanted = WantedOf(chain, number);
    item.wanted.generation = level->has_slots ? place->place.generation : 0;
  }
  flush();
  Add(counters_->matched_tokens, located * options_.shape.block_tokens());
  if (load.jobs_of.empty()) {
    EndLoad(load, std::nullopt);
    loads_.erase(id);
  }
  mailbox_->Wake();  // for its deadline, or its end
}

TieredConnector::Pace TieredConnector::PaceOf(const Level& level, std::uint64_t passes,
                                              CopyHaste haste) const {
  passes += level.tier == Tier::kHost ? 0 : BlockTrafficCost::kDevice;
  return {.counters = counters_,
          .pacer = options_.pacer,
          .tier = level.tier,
          .bytes = passes * options_.shape.payload_bytes(),
          .haste = haste};
}

// On the tier's thread.
void TieredConnector::Take(LoadTicket& ticket, const LoadItem& item, const BlockShape& shape,
                           BlockFault fault, const StoredBlock& block,
                           std::span<const std::byte> payload, Outcome& outcome) {
  outcome.fault = fault == BlockFault::kNone ? CompareHeader(block, item.wanted, shape) : fault;
  if (outcome.fault == BlockFault::kNone) {
    const rt::MutexLock lock(ticket.mutex);
    if (ticket.wanted) {
      // The copy is what is checked: what happens on the way is seen, too.
      std::memcpy(item.target.data(), payload.data(), payload.size());
      outcome.fault = CheckPayload(block, item.target);
      outcome.brought = outcome.fault == BlockFault::kNone;
    }
  }
  if (!outcome.brought) {
    std::uint32_t seen = ticket.first_bad.load(std::memory_order_relaxed);
    while (item.number < seen && !ticket.first_bad.compare_exchange_weak(seen, item.number)) {
    }
  }
}

void TieredConnector::JobEnded(LoadId id, Level& level, const std::vector<Outcome>& outcomes) {
  LoadState& load = *loads_.at(id);
  std::uint32_t brought = 0;
  for (const Outcome& outcome : outcomes) {
    level.index.EndRead(outcome.place.slot);
    load.brought[outcome.number] = outcome.brought;
    brought += outcome.brought ? 1 : 0;
    Account(level, outcome);
    if (outcome.is_guess && outcome.brought) {
      Add(counters_->matched_tokens, options_.shape.block_tokens());
      Add(counters_->of(level.tier).asked);
      Add(counters_->of(level.tier).found);
      CountStored(level);
    }
  }
  const auto jobs = load.jobs_of.find(&level);
  if (--jobs->second == 0) {
    load.jobs_of.erase(jobs);
  }
  if (load.jobs_of.empty()) {
    PumpUp();
  }
  if (brought > 0 && load.began != rt::Time{}) {
    const double seconds = std::chrono::duration<double>(now_ - load.began).count() / brought;
    level.block_seconds = level.block_seconds <= 0
                              ? seconds
                              : level.block_seconds + kNewWeight * (seconds - level.block_seconds);
  }
  if (load.jobs_of.empty()) {
    EndLoad(load, std::nullopt);
    loads_.erase(id);
  }
}

void TieredConnector::Account(Level& level, const Outcome& outcome) {
  TierCounters::Of& counts = counters_->of(level.tier);
  if (outcome.brought) {
    level.reads.Succeeded();
    Add(counts.brought);
    Add(counts.brought_bytes, options_.shape.payload_bytes());
    return;
  }
  if (outcome.is_guess &&
      (outcome.fault == BlockFault::kNone || outcome.fault == BlockFault::kMissing)) {
    if (outcome.fault == BlockFault::kMissing) {
      level.reads.Succeeded();  // it said so
    }
    level.index.Remove(outcome.hash, outcome.place);
    CountStored(level);
    return;
  }
  if (outcome.fault == BlockFault::kNone) {
    return;  // nobody wanted it any more
  }
  Failed(level, outcome.hash, outcome.place, outcome.fault);
}

void TieredConnector::Failed(Level& level, const Hash128& hash, const TierPlace& place,
                             BlockFault fault) {
  TierCounters::Of& counts = counters_->of(level.tier);
  Add(counts.faults[static_cast<std::size_t>(fault)]);
  if (fault == BlockFault::kIo) {
    Add(counts.read_failures);
    level.reads.Failed(now_, false, level.store->trouble());
  }
  Forget(level, hash, place);
}

void TieredConnector::Forget(Level& level, const Hash128& hash, const TierPlace& place) {
  if (level.index.Remove(hash, place)) {
    CountStored(level);
    journal_.Removed(level.tier, place.slot);
    if (!level.read_only) {
      level.runner->Post(false,
                         [store = level.store, place, hash] { store->Drop(place.slot, hash); });
    }
  }
}

void TieredConnector::CountStored(Level& level) {
  counters_->of(level.tier).stored.store(level.index.stored_count(), std::memory_order_relaxed);
}

void TieredConnector::Cancel(LoadId id) {
  const auto found = loads_.find(id);
  if (found != loads_.end()) {
    EndLoad(*found->second, Error(Code::kCancelled, "nobody wants the blocks any more"));
    mailbox_->Wake();
  }
}

// Its jobs may go on; they write to no target any more.
void TieredConnector::EndLoad(LoadState& load, std::optional<Error> error) {
  if (load.told) {
    return;
  }
  load.told = true;
  {
    const rt::MutexLock lock(load.ticket->mutex);
    load.ticket->wanted = false;
  }
  load.ticket->first_bad.store(0, std::memory_order_relaxed);
  LoadEnd& end = ended_.emplace_back();
  end.id = load.id;
  while (end.blocks < load.brought.size() && load.brought[end.blocks]) {
    ++end.blocks;
  }
  end.error = std::move(error);
}

void TieredConnector::Published(std::vector<PublishedBlock> blocks) {
  for (PublishedBlock& block : blocks) {
    filter_.Seen(block.hash);
    const auto pin = std::make_shared<BlockPin>(std::move(block.pin));
    const std::optional<PublicBlock> name = Name(block);
    // Without a first tier in memory nobody keeps a block until it is used again.
    const std::size_t count = levels_.front()->tier == Tier::kHost ? 1 : levels_.size();
    for (std::size_t i = 0; i < count; ++i) {
      WriteFromCache(*levels_[i], block, name, pin);
    }
    if (count == 1) {
      OfferDown(block.hash);
    }
  }
}

void TieredConnector::Distrust(std::span<const Hash128> hashes) {
  for (const Hash128& hash : hashes) {
    for (const std::unique_ptr<Level>& level : levels_) {
      if (level->is_asked) {
        doubted_.Insert(hash);  // it may be there still
      }
      if (const std::optional<TierPlace> place = level->index.Find(hash)) {
        Forget(*level, hash, *place);
      } else if (level->index.contains(hash)) {
        level->distrusted.insert(hash);
      }
    }
  }
}

void TieredConnector::Finished(const ConnectorRequestRef& request, std::vector<BlockPin> pins) {
  pins.clear();
  prefetches_.Forget(request->id);
  if (live_.erase(request->id) == 0) {
    Use(request->chain);  // the cache had all of it
  }
  const std::int32_t priority = std::clamp(request->priority, 0, kPriorityMax);
  for (std::size_t i = 0; priority > 0 && i < request->chain.hashes.size(); ++i) {
    for (const std::unique_ptr<Level>& level : levels_) {
      level->index.Raise(request->chain.hashes[i], priority);
    }
  }
}

rt::Time TieredConnector::Poll(rt::Time now, std::vector<LoadEnd>& ended) {
  now_ = now;
  for (const std::unique_ptr<Level>& level : levels_) {
    level->index.AdvanceTo(now);
  }
  mailbox_->RunAll();
  if (next_decay_ == rt::kNever) {
    next_decay_ = now + options_.decay_period;
  }
  if (now >= next_decay_) {
    next_decay_ = now + options_.decay_period;
    filter_.Decay();
    for (const std::unique_ptr<Level>& level : levels_) {
      level->index.LowerPriorities();
    }
  }
  rt::Time next = next_decay_;
  for (auto& [id, load] : loads_) {
    if (load->began == rt::Time{}) {
      load->began = now;
      load->deadline = std::min(load->deadline, now + options_.load_time_max);
    }
    if (load->told) {
      continue;
    }
    if (now >= load->deadline) {
      const std::string why = fmt::format("KV blocks did not come within {} ms",
                                          options_.load_time_max / std::chrono::milliseconds(1));
      Add(counters_->timed_out_loads);
      EndLoad(*load, Error(Code::kDeadlineExceeded, why));
      for (const std::unique_ptr<Level>& level : levels_) {
        const bool is_awaited = load->jobs_of.contains(level.get());
        if (is_awaited && level->tier != Tier::kHost) {
          level->reads.Failed(now, false, why);
        }
      }
      continue;
    }
    next = std::min(next, load->deadline);
  }
  for (const std::unique_ptr<Level>& level : levels_) {
    if (!level->has_slots && level->next_list == rt::kNever) {
      level->next_list = now + options_.list_period;
    }
    if (now >= level->next_list && !level->is_listing) {
      level->next_list = now + options_.list_period;
      level->is_listing = true;
      Scan(*level);
    }
    next = std::min(next, level->next_list);
    const bool degraded = level->reads.failing() || level->writes.failing() ||
                          (level->read_only && level->tier != Tier::kPeer);
    counters_->of(level->tier).degraded.store(degraded ? 1 : 0, std::memory_order_relaxed);
    const std::string_view name = TierName(level->tier);
    level->reads_log.Update(options_.log, name, options_.rank, "reads", level->reads.failing(),
                            level->reads.why());
    level->writes_log.Update(options_.log, name, options_.rank, "writes", level->writes.failing(),
                             level->writes.why());
  }
  ended.insert(ended.end(), std::make_move_iterator(ended_.begin()),
               std::make_move_iterator(ended_.end()));
  ended_.clear();
  return next;
}

bool TieredConnector::DrainEvents(CacheChanges& out, bool everything) {
  return journal_.Drain(out, everything);
}

bool TieredConnector::idle() const {
  return cache_writes_ == 0 &&
         std::ranges::all_of(loads_, [](const auto& entry) { return entry.second->told; });
}

void TieredConnector::CheckInvariants() const {
  for (const std::unique_ptr<Level>& level : levels_) {
    level->index.CheckInvariants();
    if (loads_.empty() && cache_writes_ == 0 && level->planner.moving() == 0 &&
        prefetches_.moving_count() == 0) {
      PX_ASSERT(level->index.busy_count() == 0 && level->coming == 0);
    }
  }
}

}  // namespace pixii::kv
