// The KV events of trtllm-serve, as `POST /kv_cache_events` hands them out.
//
// Thread: a value; no I/O. docs/attached_engines.md
// Whoever asks gets what happened since the last time anybody asked: there must be one who asks.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "wire/engine_kv_translator.h"
#include "wire/json.h"
#include "wire/messages/kv_event.h"

namespace pixii::worker {

class TrtllmKvReader final {
 public:
  explicit TrtllmKvReader(std::uint32_t block_tokens)
      : translator_({.block_tokens = block_tokens}), block_tokens_(block_tokens) {}

  /// Appends what the answer tells. Errors: kDataCorrupt; then everything told before is void, and
  /// `out` says so.
  Result<void> Read(std::string_view body, std::vector<wire::KvEvent>& out);

  std::uint64_t gap_count() const { return gaps_; }

 private:
  /// A block that was told of.
  struct Held {
    std::optional<std::uint64_t> parent;
    std::uint64_t tokens_hash = 0;
    wire::KvTier tier{};
  };

  struct Rank {
    std::optional<std::int64_t> last_id;
    std::int64_t window_max = 0;  // of attention; blocks of shorter ones come and go
    std::unordered_map<std::uint64_t, Held> held;
  };

  Result<void> ReadEvent(const wire::Json& event, std::vector<wire::KvEvent>& out);
  Result<void> ReadStored(std::uint32_t rank, const wire::Json& data,
                          std::vector<wire::KvEvent>& out);
  Result<void> ReadRemoved(std::uint32_t rank, const wire::Json& data,
                           std::vector<wire::KvEvent>& out);
  Result<void> ReadUpdated(std::uint32_t rank, const wire::Json& data,
                           std::vector<wire::KvEvent>& out);
  void Remove(std::uint32_t rank, std::uint64_t hash, std::vector<wire::KvEvent>& out);
  void Clear(std::uint32_t rank, std::vector<wire::KvEvent>& out);

  wire::EngineKvTranslator translator_;
  std::uint32_t block_tokens_;
  std::map<std::uint32_t, Rank> ranks_;
  std::uint64_t gaps_ = 0;
};

}  // namespace pixii::worker
