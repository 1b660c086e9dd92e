// From what an engine tells of its cache to what routers hear: KV events with public hashes.
//
// Thread: a value; decides, does nothing. docs/kv_events_for_engines.md
#pragma once

#include <cstdint>
#include <map>
#include <unordered_map>
#include <vector>

#include "wire/messages/kv_event.h"
#include "wire/zmq_kv_event.h"

namespace pixii::wire {

/// What an engine tells, as routers hear it: its hashes stay its own, and the hashes of tokens are
/// the public ones.
class EngineKvTranslator final {
 public:
  struct Options {
    std::uint32_t block_tokens = 16;  // events with blocks of another size are left out
    std::size_t salted_blocks_max = 1U << 20;
  };

  struct Counters {
    std::uint64_t blocks = 0;      // that were told of
    std::uint64_t odd_size = 0;    // events with blocks of another size
    std::uint64_t odd_group = 0;   // events of layers that do not decide what can be reused
    std::uint64_t incomplete = 0;  // events whose tokens are not those of their blocks
  };

  explicit EngineKvTranslator(Options options) : options_(options) {}

  /// Appends what `event` says of `rank`; ids are 0.
  void Translate(const EngineKvEvent& event, std::uint32_t rank, std::vector<KvEvent>& out);

  const Counters& counters() const { return counters_; }

 private:
  bool IsKept(const EngineKvEvent& event);
  std::uint64_t SeedOf(const EngineKvEvent& event);

  Options options_;
  Counters counters_;
  std::map<std::int64_t, bool> groups_;  // whether their blocks are kept, as stores said
  std::unordered_map<std::uint64_t, std::uint64_t> salted_;  // block's hash -> seed of its tokens'
};

}  // namespace pixii::wire
