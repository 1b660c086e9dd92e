#include "engine/block_traffic.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace pixii::engine {

namespace {

/// Of all blocks, those that loads may hold at a time: the rest is for who computes.
constexpr std::uint32_t kTargetShare = 2;

}  // namespace

BlockTraffic::BlockTraffic(kv::BlockCache& cache, StepExecutor& executor,
                           std::unique_ptr<kv::Connector> connector)
    : cache_(cache), executor_(executor), connector_(std::move(connector)) {}

BlockTraffic::~BlockTraffic() { connector_.reset(); }

std::span<const TokenId> BlockTraffic::TokensOf(const kv::BlockChain& chain,
                                                std::size_t block) const {
  return std::span(chain.tokens).subspan(block * cache_.block_tokens(), cache_.block_tokens());
}

bool BlockTraffic::Begin(kv::ConnectorRequestRef request, std::uint32_t blocks_wanted) {
  const kv::BlockChain& chain = request->chain;
  PX_ASSERT(blocks_wanted <= chain.hashes.size());
  const RequestId id = request->id;
  Flight& flight =
      flights_.emplace(id, Flight{.request = std::move(request), .blocks_wanted = blocks_wanted})
          .first->second;
  kv::ChainPosition position = kv::StartOf(chain.root);
  std::uint32_t found = 0;
  while (found < blocks_wanted && cache_.Find(position, TokensOf(chain, found))) {
    ++found;
  }
  flight.waits = found < blocks_wanted && (coming_.contains(chain.hashes[found]) ||
                                           connector_->Match(flight.request, found) > 0);
  if (flight.waits) {
    to_load_.push_back(id);
  }
  return flight.waits;
}

void BlockTraffic::StartLoads() {
  for (const RequestId id : std::exchange(to_load_, {})) {
    const auto found = flights_.find(id);
    if (found != flights_.end() && found->second.waits && !TryLoad(found->second)) {
      found->second.waits = false;
      ready_.push_back(id);
    }
  }
}

// Whether it waits for a load from now on.
bool BlockTraffic::TryLoad(Flight& flight) {
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
    return false;
  }
  load.first_hash = chain.hashes[first];
  if (const auto other = coming_.find(load.first_hash); other != coming_.end()) {
    flight.load = other->second;
    loads_.at(other->second).waiting.push_back(flight.request->id);
    return true;
  }
  const std::uint32_t held_max = cache_.pool().block_count() / kTargetShare;
  const std::uint32_t room =
      std::min(cache_.available_count(), held_max - std::min(held_max, target_count_));
  const std::uint32_t count =
      std::min({connector_->Match(flight.request, first), flight.blocks_wanted - first, room});
  std::vector<kv::BlockMemory> memory;
  for (std::uint32_t i = 0; i < count; ++i) {
    std::optional<kv::BlockPin> pin = cache_.Allocate();
    PX_ASSERT(pin);
    memory.push_back({.ref = pin->ref(), .bytes = executor_.block_bytes(Raw(pin->id()))});
    load.targets.push_back(std::move(*pin));
  }
  if (count == 0) {
    return false;
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
  return true;
}

void BlockTraffic::Poll(rt::Time now, std::vector<RequestId>& ready) {
  ends_.clear();
  next_poll_ = connector_->Poll(now, ends_);
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
    for (const RequestId id : load.waiting) {
      const auto flight = flights_.find(id);
      if (flight == flights_.end() || flight->second.load != end.id) {
        continue;
      }
      flight->second.load = {};
      if (load.request->id == id) {
        flight->second.waits = false;
        ready.push_back(id);
      } else {
        to_load_.push_back(id);  // there may be more behind what was loaded for another
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

void BlockTraffic::End(RequestId id, std::span<const kv::BlockPin> blocks) {
  const auto found = flights_.find(id);
  if (found == flights_.end()) {
    return;
  }
  const Flight flight = std::move(found->second);
  flights_.erase(found);
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
