#include "wire/engine_kv_translator.h"

#include <span>
#include <utility>

#include "wire/public_hash.h"

namespace pixii::wire {

namespace {

constexpr std::size_t kGroupsMax = 4096;  // of layers, whose kind is remembered

}  // namespace

// Layers that keep everything decide what can be reused; a window's blocks come and go.
bool EngineKvTranslator::IsKept(const EngineKvEvent& event) {
  if (!event.attention.empty()) {
    const bool kept = event.attention == "full_attention" || event.attention == "mla_attention" ||
                      event.attention == "sink_full_attention";
    if (event.group && (groups_.size() < kGroupsMax || groups_.contains(*event.group))) {
      groups_[*event.group] = kept;
    }
    return kept;
  }
  if (!event.group) {
    return true;
  }
  const auto known = groups_.find(*event.group);
  return known == groups_.end() ? *event.group == 0 : known->second;
}

// Engines tell of a salt with the first block alone; those behind it have the same.
std::uint64_t EngineKvTranslator::SeedOf(const EngineKvEvent& event) {
  const std::uint64_t plain = PublicHashSeed("", event.adapter);
  std::uint64_t seed = plain;
  if (!event.salt.empty()) {
    seed = PublicHashSeed(event.salt, event.adapter);
  } else if (event.parent) {
    const auto found = salted_.find(*event.parent);
    seed = found == salted_.end() ? plain : found->second;
  }
  for (const std::uint64_t hash : event.hashes) {
    if (seed == plain) {
      salted_.erase(hash);
    } else if (salted_.size() < options_.salted_blocks_max) {
      salted_[hash] = seed;
    }
  }
  return seed;
}

void EngineKvTranslator::Translate(const EngineKvEvent& event, std::uint32_t rank,
                                   std::vector<KvEvent>& out) {
  KvEvent told;
  told.rank = rank;
  told.tier = event.tier;
  told.kind = static_cast<KvEvent::Kind>(event.kind);
  if (event.kind == EngineKvEvent::Kind::kCleared) {
    told.tier = KvTier::kDevice;  // nothing is kept of a rank that was cleared in part
    out.push_back(std::move(told));
    return;
  }
  if (!IsKept(event)) {
    ++counters_.odd_group;
    return;
  }
  if (event.hashes.empty()) {
    return;
  }
  if (event.kind == EngineKvEvent::Kind::kRemoved) {
    told.removed = event.hashes;
    for (const std::uint64_t hash : event.hashes) {
      salted_.erase(hash);
    }
    out.push_back(std::move(told));
    return;
  }
  if (event.block_tokens != options_.block_tokens) {
    ++counters_.odd_size;
    return;
  }
  if (event.tokens.size() != event.hashes.size() * event.block_tokens) {
    ++counters_.incomplete;
    return;
  }
  const std::uint64_t seed = SeedOf(event);
  told.parent = event.parent;
  const std::span<const TokenId> tokens(event.tokens);
  for (std::size_t i = 0; i < event.hashes.size(); ++i) {
    const std::span<const std::uint64_t> media =
        i < event.media.size() ? std::span<const std::uint64_t>(event.media[i])
                               : std::span<const std::uint64_t>();
    const std::uint64_t hash =
        PublicBlockHash(tokens.subspan(i * event.block_tokens, event.block_tokens), seed, media);
    told.blocks.push_back({event.hashes[i], hash});
  }
  counters_.blocks += told.blocks.size();
  out.push_back(std::move(told));
}

}  // namespace pixii::wire
