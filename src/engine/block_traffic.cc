#include "engine/block_traffic.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace pixii::engine {

namespace {

/// Of all blocks, those that several loads together may hold at a time: the rest is for who
/// computes. One alone may take all that are free.
constexpr std::uint32_t kTargetShare = 2;
/// How long a request waits for room before it takes what there is: the queue goes on behind it.
constexpr rt::Duration kRoomTimeMax = std::chrono::seconds(5);
/// Requests that a connector is told to expect.
constexpr std::size_t kExpectedMax = 256;

}  // namespace

BlockTraffic::BlockTraffic(kv::BlockCache& cache, StepExecutor& executor,
                           std::unique_ptr<kv::Connector> connector)
    : cache_(cache), executor_(executor), connector_(std::move(connector)) {}

BlockTraffic::~BlockTraffic() { connector_.reset(); }

std::span<const TokenId> BlockTraffic::TokensOf(const kv::BlockChain& chain,
                                                std::size_t block) const {
  return std::span(chain.tokens).subspan(block * cache_.block_tokens(), cache_.block_tokens());
}

bool BlockTraffic::Begin(kv::ConnectorRequestRef request, std::uint32_t blocks_wanted,
                         const Rank& rank) {
  const kv::BlockChain& chain = request->chain;
  PX_ASSERT(blocks_wanted <= chain.hashes.size());
  const RequestId id = request->id;
  const bool knows_place = !request->handover.empty();
  Flight& flight = flights_
                       .emplace(id, Flight{.request = std::move(request),
                                           .blocks_wanted = blocks_wanted,
                                           .rank = rank,
                                           .knows_place = knows_place})
                       .first->second;
  kv::ChainPosition position = kv::StartOf(chain.root);
  std::uint32_t found = 0;
  while (found < blocks_wanted && cache_.Find(position, TokensOf(chain, found))) {
    ++found;
  }
  flight.first = found;
  if (found < blocks_wanted) {  // a load under way may want to hear what this request brings
    const bool matches = connector_->Match(flight.request, found) > 0;
    flight.waits = matches || coming_.contains(chain.hashes[found]);
  }
  if (flight.waits) {
    Await(id);
  }
  return flight.waits;
}

void BlockTraffic::Await(RequestId id) {
  const std::pair entry(flights_.at(id).rank, id);
  to_load_.insert(std::ranges::upper_bound(to_load_, entry.first, {},
                                           [](const auto& one) { return one.first; }),
                  entry);
  expected_changed_ = true;
  shortage_.reset();
}

// In order of rank: whoever does not fit is not overtaken. What another worker keeps for a time
// does not wait.
void BlockTraffic::StartLoads(const Scheduler& scheduler) {
  if (to_load_.empty() && !expected_changed_) {
    return;
  }
  std::vector<std::pair<Rank, RequestId>> left;
  const Shortage now{.available = cache_.available_count(),
                     .running = scheduler.running_count(),
                     .targets = target_count_};
  bool blocked = shortage_ && shortage_->LastsWith(now) && now_ < shortage_->until;
  if (!blocked) {
    shortage_.reset();
  }
  for (const auto& entry : std::exchange(to_load_, {})) {
    const auto found = flights_.find(entry.second);
    if (found == flights_.end() || !found->second.waits) {
      expected_changed_ = true;
      continue;
    }
    Flight& flight = found->second;
    const auto before = static_cast<std::uint32_t>(left.size() + loads_.size());
    blocked = blocked || (!flight.knows_place && !scheduler.IsNear(entry.first, before));
    if (blocked && !flight.knows_place) {
      left.push_back(entry);
      continue;
    }
    switch (TryLoad(flight, scheduler.running_count())) {
      case Try::kWaits:
        break;
      case Try::kNoRoom:
        blocked = true;
        shortage_ = now;
        shortage_->until = flight.short_of_room_since + kRoomTimeMax;
        left.push_back(entry);
        continue;
      case Try::kNothing:
        flight.waits = false;
        ready_.push_back(entry.second);
        break;
    }
    expected_changed_ = true;
  }
  to_load_ = std::move(left);
  TellExpected();
}

void BlockTraffic::TellExpected() {
  if (!std::exchange(expected_changed_, false)) {
    return;
  }
  std::vector<kv::ExpectedRequest> expected;
  for (std::size_t i = 0; i < std::min(to_load_.size(), kExpectedMax); ++i) {
    const Flight& flight = flights_.at(to_load_[i].second);
    expected.push_back({.request = flight.request, .first = flight.first});
  }
  connector_->Expect(expected);
  next_poll_ = {};
}

// Each that runs may need a block while the load does; several loads leave half of all.
std::uint32_t BlockTraffic::RoomForLoad(std::uint32_t running_count) const {
  const std::uint32_t available = cache_.available_count();
  const std::uint32_t room = available - std::min(available, running_count);
  const std::uint32_t held_max = cache_.pool().block_count() / kTargetShare;
  return target_count_ == 0 ? room : std::min(room, held_max - std::min(held_max, target_count_));
}

// Whether room may come, from those that run or load, and has been waited for not too long.
bool BlockTraffic::WaitsForRoom(Flight& flight, std::uint32_t running_count) {
  if (flight.knows_place || (running_count == 0 && target_count_ == 0)) {
    return false;
  }
  if (flight.short_of_room_since == rt::Time{}) {
    flight.short_of_room_since = now_;
  }
  return now_ < flight.short_of_room_since + kRoomTimeMax;
}

BlockTraffic::Try BlockTraffic::TryLoad(Flight& flight, std::uint32_t running_count) {
  const kv::BlockChain& chain = flight.request->chain;
  Load load;
  load.request = flight.request;
  load.position = kv::StartOf(chain.root);
  while (load.found.size() < flight.blocks_wanted) {
    kv::BlockPin pin = cache_.Find(load.position, TokensOf(chain, load.found.size()));
    if (!pin) {
      break;
    }
    load.found.push_back(std::move(pin));
  }
  const auto first = static_cast<std::uint32_t>(load.found.size());
  if (first == flight.blocks_wanted) {
    return Try::kNothing;
  }
  load.first_hash = chain.hashes[first];
  if (const auto other = coming_.find(load.first_hash); other != coming_.end()) {
    flight.load = other->second;
    loads_.at(other->second).waiting.push_back(flight.request->id);
    return Try::kWaits;
  }
  const std::uint32_t room = RoomForLoad(running_count);
  const std::uint32_t wanted =
      std::min(connector_->Match(flight.request, first), flight.blocks_wanted - first);
  if (wanted > room && WaitsForRoom(flight, running_count)) {
    while (!load.found.empty()) {
      load.found.pop_back();
    }
    return Try::kNoRoom;
  }
  const std::uint32_t count = std::min(wanted, room);
  std::vector<kv::BlockMemory> memory;
  for (std::uint32_t i = 0; i < count; ++i) {
    std::optional<kv::BlockPin> pin = cache_.Allocate();
    PX_ASSERT(pin);
    memory.push_back({.ref = pin->ref(), .bytes = executor_.block_bytes(Raw(pin->id()))});
    load.targets.push_back(std::move(*pin));
  }
  if (count == 0) {
    return Try::kNothing;
  }
  const kv::LoadId id{++last_load_};
  flight.load = id;
  load.waiting.push_back(flight.request->id);
  target_count_ += count;
  coming_.emplace(load.first_hash, id);
  loads_.emplace(id, std::move(load));
  ++counters_.loads;
  next_poll_ = {};
  connector_->Load(id, flight.request, first, memory);
  return Try::kWaits;
}

void BlockTraffic::Poll(rt::Time now, std::vector<RequestId>& ready) {
  now_ = now;
  ends_.clear();
  next_poll_ = connector_->Poll(now, ends_);
  if (shortage_) {
    next_poll_ = std::min(next_poll_, std::max(shortage_->until, now));
  }
  for (const kv::LoadEnd& end : ends_) {
    const auto found = loads_.find(end.id);
    PX_ASSERT(found != loads_.end());
    Load load = std::move(found->second);
    loads_.erase(found);
    coming_.erase(load.first_hash);
    const auto targets = static_cast<std::uint32_t>(load.targets.size());
    PX_ASSERT(end.blocks <= targets);
    target_count_ -= targets;
    counters_.loaded_blocks += end.blocks;
    counters_.missed_blocks += targets - end.blocks;
    Publish(load, end.blocks);
    const std::uint64_t bytes = end.blocks * executor_.limits().block_size_bytes;
    for (const RequestId id : load.waiting) {
      const auto flight = flights_.find(id);
      if (flight == flights_.end() || flight->second.load != end.id) {
        continue;
      }
      flight->second.load = {};
      flight->second.brought_bytes += bytes;
      if (load.request->id == id) {
        flight->second.waits = false;
        ready.push_back(id);
      } else {
        Await(id);  // there may be more behind what was loaded for another
      }
    }
  }
  if (!published_.empty()) {
    connector_->Published(std::exchange(published_, {}));
  }
  std::ranges::copy(std::exchange(ready_, {}), std::back_inserter(ready));
}

// Last target first, as the scheduler gives blocks back: the end of a prefix is evicted first.
void BlockTraffic::Publish(Load& load, std::uint32_t count) {
  const kv::BlockChain& chain = load.request->chain;
  const std::size_t first = load.found.size();
  for (std::uint32_t i = 0; i < count; ++i) {
    const Hash128 parent = load.position.hash;
    const std::span<const TokenId> tokens = TokensOf(chain, first + i);
    kv::BlockCache::Published done =
        cache_.Publish(std::move(load.targets[i]), load.position, tokens);
    load.targets[i] = std::move(done.pin);
    if (!done.findable) {
      break;
    }
    const kv::BlockPin& pin = load.targets[i];
    published_.push_back({.hash = load.position.hash,
                          .parent = parent,
                          .root = chain.root,
                          .index = static_cast<std::uint32_t>(first + i),
                          .tokens = {tokens.begin(), tokens.end()},
                          .bytes = executor_.block_bytes(Raw(pin.id())),
                          .pin = pin.Share()});
  }
  while (!load.targets.empty()) {
    load.targets.pop_back();
  }
  while (!load.found.empty()) {
    load.found.pop_back();
  }
}

void BlockTraffic::Published(std::vector<kv::PublishedBlock> blocks) {
  for (kv::PublishedBlock& block : blocks) {
    block.bytes = executor_.block_bytes(Raw(block.pin.id()));
  }
  next_poll_ = {};
  connector_->Published(std::move(blocks));
}

void BlockTraffic::Distrust(std::span<const kv::BlockPin> blocks) {
  std::vector<Hash128> hashes;
  for (const kv::BlockPin& pin : blocks) {
    if (const std::optional<Hash128> hash = cache_.HashOf(pin)) {
      hashes.push_back(*hash);
    }
  }
  connector_->Distrust(hashes);
}

void BlockTraffic::Progress(RequestId id, std::span<const kv::BlockPin> blocks) {
  const auto found = flights_.find(id);
  if (found == flights_.end() || blocks.size() <= found->second.told) {
    return;
  }
  Flight& flight = found->second;
  const std::uint32_t first = flight.told;
  std::vector<kv::BlockPin> pins;
  for (const kv::BlockPin& block : blocks.subspan(first)) {
    pins.push_back(block.Share());
  }
  flight.told = static_cast<std::uint32_t>(blocks.size());
  next_poll_ = {};
  connector_->Progress(flight.request, first, std::move(pins));
}

void BlockTraffic::End(RequestId id, std::span<const kv::BlockPin> blocks) {
  const auto found = flights_.find(id);
  if (found == flights_.end()) {
    return;
  }
  const Flight flight = std::move(found->second);
  flights_.erase(found);
  if (flight.waits) {  // the next in turn may want less room
    expected_changed_ = true;
    shortage_.reset();
  }
  if (flight.load != kv::LoadId{}) {
    Load& load = loads_.at(flight.load);
    std::erase(load.waiting, id);
    if (load.waiting.empty()) {
      connector_->Cancel(flight.load);
    }
  }
  std::vector<kv::BlockPin> pins;
  for (std::size_t i = 0; i < std::min(blocks.size(), flight.request->chain.hashes.size()); ++i) {
    pins.push_back(blocks[i].Share());
  }
  next_poll_ = {};
  connector_->Finished(flight.request, std::move(pins));
}

}  // namespace pixii::engine
