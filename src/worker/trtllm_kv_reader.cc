#include "worker/trtllm_kv_reader.h"

#include <fmt/format.h>

#include <charconv>
#include <limits>
#include <string>
#include <utility>

namespace pixii::worker {

using wire::Json;

namespace {

constexpr std::size_t kRanksMax = 4096;

tl::unexpected<Error> Corrupt(std::string_view field) {
  return Fail(Code::kDataCorrupt,
              fmt::format("a KV event of the engine has no {} that can be read", field));
}

// Up to 2^64 - 1, or negative.
std::optional<std::uint64_t> HashOf(const Json* value) {
  if (value == nullptr || !value->is_number()) {
    return std::nullopt;
  }
  if (const auto small = value->AsInt()) {
    return static_cast<std::uint64_t>(*small);
  }
  const std::string& digits = value->digits();
  std::uint64_t hash = 0;
  const auto [end, fault] = std::from_chars(digits.data(), digits.data() + digits.size(), hash);
  return fault == std::errc() && end == digits.data() + digits.size() ? std::optional(hash)
                                                                      : std::nullopt;
}

std::optional<std::int64_t> IntOf(const Json* value) {
  return value != nullptr && value->is_number() ? value->AsInt() : std::nullopt;
}

wire::KvTier TierOf(std::int64_t cache_level) {
  return cache_level == 0   ? wire::KvTier::kDevice
         : cache_level == 1 ? wire::KvTier::kHost
                            : wire::KvTier::kDisk;
}

// [5, ...] or [{"token_id": 5}, ...]
std::optional<std::vector<TokenId>> TokensOf(const Json* tokens) {
  if (tokens == nullptr || !tokens->is_array()) {
    return std::nullopt;
  }
  std::vector<TokenId> out;
  for (const Json& token : tokens->array()) {
    const auto id = IntOf(token.is_object() ? token.Find("token_id") : &token);
    if (!id || *id < 0 || *id > std::numeric_limits<TokenId>::max()) {
      return std::nullopt;
    }
    out.push_back(static_cast<TokenId>(*id));
  }
  return out;
}

}  // namespace

Result<void> TrtllmKvReader::Read(std::string_view body, std::vector<wire::KvEvent>& out) {
  const auto read = [&]() -> Result<void> {
    PX_TRY(const Json events, wire::ParseJson(body));
    if (!events.is_array()) {
      return Corrupt("list");
    }
    for (const Json& event : events.array()) {
      PX_CHECK_OK(ReadEvent(event, out));
    }
    return {};
  };
  Result<void> done = read();
  if (!done) {
    for (const auto& [rank, known] : ranks_) {
      Clear(rank, out);
    }
    return Fail(Code::kDataCorrupt, done.error().detail());
  }
  return {};
}

void TrtllmKvReader::Clear(std::uint32_t rank, std::vector<wire::KvEvent>& out) {
  ranks_[rank].held.clear();
  wire::KvEvent& cleared = out.emplace_back();
  cleared.kind = wire::KvEvent::Kind::kCleared;
  cleared.rank = rank;
}

Result<void> TrtllmKvReader::ReadEvent(const Json& event, std::vector<wire::KvEvent>& out) {
  const Json* data = event.Find("data");
  const Json* type = data == nullptr ? nullptr : data->Find("type");
  const auto id = IntOf(event.Find("event_id"));
  const std::int64_t rank_given = IntOf(event.Find("attention_dp_rank")).value_or(0);
  if (type == nullptr || !type->is_string() || !id || rank_given < 0 ||
      rank_given >= static_cast<std::int64_t>(kRanksMax)) {
    return Corrupt("event_id, rank or type");
  }
  const auto rank = static_cast<std::uint32_t>(rank_given);
  Rank& known = ranks_[rank];
  const bool began_anew = type->string() == "created" && known.last_id;
  const bool missed = known.last_id && *id != *known.last_id + 1;
  gaps_ += missed && !began_anew ? 1 : 0;
  known.last_id = id;
  if (began_anew || missed) {
    Clear(rank, out);
  }
  const std::int64_t window = IntOf(event.Find("window_size")).value_or(0);
  if (window < known.window_max) {
    return {};
  }
  if (window > known.window_max && !known.held.empty()) {
    Clear(rank, out);  // what was told of were blocks of a shorter one
  }
  known.window_max = window;
  if (type->string() == "stored") {
    return ReadStored(rank, *data, out);
  }
  if (type->string() == "removed") {
    return ReadRemoved(rank, *data, out);
  }
  return type->string() == "updated" ? ReadUpdated(rank, *data, out) : Result<void>();
}

// Only whole blocks: a part of one becomes another block when it is full.
Result<void> TrtllmKvReader::ReadStored(std::uint32_t rank, const Json& data,
                                        std::vector<wire::KvEvent>& out) {
  const Json* blocks = data.Find("blocks");
  if (blocks == nullptr || !blocks->is_array()) {
    return Corrupt("blocks");
  }
  std::optional<std::uint64_t> parent = HashOf(data.Find("parent_hash"));
  for (const Json& block : blocks->array()) {
    const auto hash = HashOf(block.Find("block_hash"));
    auto tokens = TokensOf(block.Find("tokens"));
    if (!hash || !tokens) {
      return Corrupt("block_hash or tokens");
    }
    if (tokens->size() != block_tokens_) {
      return {};
    }
    wire::EngineKvEvent event;
    event.tier = TierOf(IntOf(block.Find("cache_level")).value_or(0));
    event.hashes = {*hash};
    event.parent = parent;
    event.tokens = std::move(*tokens);
    event.block_tokens = block_tokens_;
    if (const Json* adapter = block.Find("lora_id"); adapter != nullptr && adapter->is_number()) {
      event.adapter = adapter->digits();  // its name is not told: requests for it do not match
    }
    Remove(rank, *hash, out);  // told of twice
    translator_.Translate(event, rank, out);
    ranks_[rank].held[*hash] = {parent, out.back().blocks.front().tokens_hash, event.tier};
    parent = hash;
  }
  return {};
}

void TrtllmKvReader::Remove(std::uint32_t rank, std::uint64_t hash,
                            std::vector<wire::KvEvent>& out) {
  auto& held = ranks_[rank].held;
  const auto found = held.find(hash);
  if (found == held.end()) {
    return;  // of a part of a block
  }
  wire::KvEvent& removed = out.emplace_back();
  removed.kind = wire::KvEvent::Kind::kRemoved;
  removed.rank = rank;
  removed.tier = found->second.tier;
  removed.removed = {hash};
  held.erase(found);
}

Result<void> TrtllmKvReader::ReadRemoved(std::uint32_t rank, const Json& data,
                                         std::vector<wire::KvEvent>& out) {
  const Json* hashes = data.Find("block_hashes");
  if (hashes == nullptr || !hashes->is_array()) {
    return Corrupt("block_hashes");
  }
  for (const Json& value : hashes->array()) {
    const auto hash = HashOf(&value);
    if (!hash) {
      return Corrupt("block_hashes");
    }
    Remove(rank, *hash, out);
  }
  return {};
}

// A block went to another tier: {"cache_level": {"new_value": 1, ...}}.
Result<void> TrtllmKvReader::ReadUpdated(std::uint32_t rank, const Json& data,
                                         std::vector<wire::KvEvent>& out) {
  const auto hash = HashOf(data.Find("block_hash"));
  if (!hash) {
    return Corrupt("block_hash");
  }
  const Json* level = data.Find("cache_level");
  const auto level_now = IntOf(level == nullptr ? nullptr : level->Find("new_value"));
  const auto found = ranks_[rank].held.find(*hash);
  if (!level_now || found == ranks_[rank].held.end()) {
    return {};
  }
  Held moved = found->second;
  Remove(rank, *hash, out);
  moved.tier = TierOf(*level_now);
  wire::KvEvent& stored = out.emplace_back();
  stored.rank = rank;
  stored.tier = moved.tier;
  stored.parent = moved.parent;
  stored.blocks = {{*hash, moved.tokens_hash}};
  ranks_[rank].held[*hash] = moved;
  return {};
}

}  // namespace pixii::worker
