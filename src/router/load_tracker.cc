#include "router/load_tracker.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace pixii::router {

namespace {

// Of a block at a rank.
std::uint64_t KeyOf(std::uint64_t chain, RankNumber rank) {
  return chain ^ (static_cast<std::uint64_t>(rank) + 1) * 0xbf58476d1ce4e5b9U;
}

}  // namespace

LoadTracker::LoadTracker(LoadTrackerOptions options)
    : options_(options), active_(KvIndexOptions{}) {}

RankLoad& LoadTracker::LoadAt(RankNumber rank) {
  const auto index = static_cast<std::size_t>(rank);
  if (index >= loads_.size()) {
    loads_.resize(index + 1);
  }
  return loads_[index];
}

void LoadTracker::Add(RequestId id, RankNumber rank, const AddedLoad& load, rt::Time now) {
  const auto [at, is_new] = requests_.try_emplace(id);
  PX_ASSERT(is_new);
  Request& request = at->second;
  request.rank = rank;
  request.prefill_tokens = load.prefill_tokens;
  request.prompt_tokens = load.prompt_tokens;
  request.block_tokens = load.block_tokens;
  request.expected_output_tokens = load.expected_output_tokens;
  request.expires = now + options_.expiry;
  request.place = by_expiry_.emplace(request.expires, id);
  RankLoad& state = LoadAt(rank);
  ++state.requests;
  state.prefill_tokens += load.prefill_tokens;
  if (!options_.track_blocks) {
    return;
  }
  const std::uint64_t blocks = (load.prompt_tokens + load.block_tokens - 1) / load.block_tokens;
  request.own_blocks = blocks;
  if (options_.dedup_blocks) {
    request.own_blocks = blocks - std::min<std::uint64_t>(blocks, load.block_hashes.size());
    request.chains.reserve(load.block_hashes.size());
    std::uint64_t chain = 0;
    for (const std::uint64_t block : load.block_hashes) {
      chain = ChainHashOf(chain, block);
      request.chains.push_back(chain);
    }
    Prefetch(request.chains, rank);
    wire::KvEvent stored;
    for (std::size_t i = 0; i < request.chains.size(); ++i) {
      if (options_.count_uses) {
        all_uses_.Add(request.chains[i]);
      }
      if (uses_.Add(KeyOf(request.chains[i], rank)) == 1) {
        ++state.prompt_blocks;
        if (stored.blocks.empty() && i > 0) {
          stored.parent = request.chains[i - 1];  // those before are in use: a prefix goes last
        }
        stored.blocks.push_back({request.chains[i], load.block_hashes[i]});
      }
    }
    if (!stored.blocks.empty()) {
      active_.Apply(rank, stored);
    }
  }
  state.prompt_blocks += request.own_blocks;
}

void LoadTracker::Prefetch(std::span<const std::uint64_t> chains, RankNumber rank) const {
  for (const std::uint64_t chain : chains) {
    uses_.Prefetch(KeyOf(chain, rank));
    if (options_.count_uses) {
      all_uses_.Prefetch(chain);
    }
  }
}

void LoadTracker::ForgetBlocks(const Request& request) {
  Prefetch(request.chains, request.rank);
  wire::KvEvent removed;
  removed.kind = wire::KvEvent::Kind::kRemoved;
  for (const std::uint64_t chain : request.chains) {
    if (options_.count_uses) {
      all_uses_.Remove(chain);
    }
    if (uses_.Remove(KeyOf(chain, request.rank)) == 0) {
      removed.removed.push_back(chain);
    }
  }
  RankLoad& state = LoadAt(request.rank);
  state.prompt_blocks -= request.own_blocks + removed.removed.size();
  if (!removed.removed.empty()) {
    active_.Apply(request.rank, removed);
  }
}

void LoadTracker::FindUses(std::span<const std::uint64_t> block_hashes,
                           std::vector<std::uint32_t>& out) const {
  out.clear();
  std::uint64_t chain = 0;
  for (const std::uint64_t block : block_hashes) {
    chain = ChainHashOf(chain, block);
    const std::uint32_t uses = all_uses_.count(chain);
    if (uses == 0) {
      return;  // who uses a block uses those before it
    }
    out.push_back(uses);
  }
}

void LoadTracker::Lives(Request& request, rt::Time now) const {
  request.expires = std::max(request.expires, now + options_.expiry);
}

bool LoadTracker::OnPrefillDone(RequestId id, rt::Time now) {
  const auto found = requests_.find(id);
  if (found == requests_.end()) {
    return false;
  }
  Lives(found->second, now);
  const std::uint64_t tokens = std::exchange(found->second.prefill_tokens, 0);
  LoadAt(found->second.rank).prefill_tokens -= tokens;
  return tokens > 0;
}

void LoadTracker::OnTokens(RequestId id, std::uint32_t count, rt::Time now) {
  const auto found = requests_.find(id);
  if (found == requests_.end()) {
    return;
  }
  Request& request = found->second;
  Lives(request, now);
  request.output_tokens += count;
  if (!options_.track_blocks || !options_.track_output_blocks) {
    return;
  }
  const auto blocks_of = [&](std::uint64_t tokens) {
    return (tokens + request.block_tokens - 1) / request.block_tokens;
  };
  auto blocks = static_cast<double>(blocks_of(request.prompt_tokens + request.output_tokens) -
                                    blocks_of(request.prompt_tokens));
  if (request.expected_output_tokens > 0) {
    // The nearer its end, the sooner they are free.
    blocks *= std::max(
        0.0, 1 - static_cast<double>(request.output_tokens) / request.expected_output_tokens);
  }
  LoadAt(request.rank).output_blocks += blocks - request.output_blocks;
  request.output_blocks = blocks;
}

void LoadTracker::OnOutputBlock(RequestId id, double weight, rt::Time now) {
  const auto found = requests_.find(id);
  if (found != requests_.end()) {
    Lives(found->second, now);
    found->second.output_blocks += weight;
    LoadAt(found->second.rank).output_blocks += weight;
  }
}

std::optional<RankNumber> LoadTracker::Remove(RequestId id) {
  const auto found = requests_.find(id);
  if (found == requests_.end()) {
    return std::nullopt;
  }
  Request request = std::move(found->second);
  by_expiry_.erase(request.place);
  requests_.erase(found);
  RankLoad& state = LoadAt(request.rank);
  --state.requests;
  state.prefill_tokens -= request.prefill_tokens;
  state.output_blocks =
      state.requests == 0 ? 0 : std::max(0.0, state.output_blocks - request.output_blocks);
  ForgetBlocks(request);
  return request.rank;
}

std::vector<RequestId> LoadTracker::RemoveRank(RankNumber rank) {
  std::vector<RequestId> out;
  for (auto at = requests_.begin(); at != requests_.end();) {
    if (at->second.rank == rank) {
      out.push_back(at->first);
      ForgetBlocks(at->second);
      by_expiry_.erase(at->second.place);
      at = requests_.erase(at);
    } else {
      ++at;
    }
  }
  LoadAt(rank) = {};
  active_.Clear(rank);
  return out;
}

std::vector<RequestId> LoadTracker::Expire(rt::Time now) {
  std::vector<RequestId> out;
  while (!by_expiry_.empty() && by_expiry_.begin()->first <= now) {
    const RequestId id = by_expiry_.begin()->second;
    Request& request = requests_.at(id);
    if (request.expires > now) {  // it gave signs of life since
      by_expiry_.erase(request.place);
      request.place = by_expiry_.emplace(request.expires, id);
    } else {
      Remove(id);
      out.push_back(id);
    }
  }
  return out;
}

}  // namespace pixii::router
