// KV events as vLLM publishes them over ZeroMQ, and as routers of other systems read them.
//
// Thread: values. docs/kv_events_for_engines.md
// A message is [topic, 8 bytes big-endian sequence, MessagePack of a batch]. A batch is an array
// [seconds, events, rank] or a map; an event is an array that begins with its type's name, or a map
// with `type`. What is not known, behind the last known field or under another name, is skipped.
// Source: spec/dynamo-core.md B.4.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "wire/messages/kv_event.h"

namespace pixii::wire {

/// One change of an engine's cache, in the engine's own terms.
struct EngineKvEvent {
  enum class Kind : std::uint8_t { kStored, kRemoved, kCleared };

  Kind kind = Kind::kStored;
  KvTier tier = KvTier::kDevice;
  std::vector<std::uint64_t> hashes;    // the engine's own, in a row behind `parent`
  std::optional<std::uint64_t> parent;  // nothing: the root
  std::vector<TokenId> tokens;          // [hashes x block_tokens]
  std::uint32_t block_tokens = 0;
  std::string adapter;  // name; empty: the model alone
  std::string salt;     // of those who may share them; with the first alone
  std::vector<std::vector<std::uint64_t>> media;  // [hashes] or empty: of objects in each block
  std::optional<std::int64_t> group;              // of layers, in hybrid models
  std::string attention;  // of the group: "full_attention", ...; empty: not said

  bool operator==(const EngineKvEvent&) const = default;
};

struct EngineKvBatch {
  double seconds = 0;  // since 1970
  std::vector<EngineKvEvent> events;
  std::optional<std::uint32_t> rank;  // of attention data parallelism

  bool operator==(const EngineKvBatch&) const = default;
};

/// vLLM hands cache_salt on in `extra_keys` among other texts: with this before it, it is known.
inline constexpr std::string_view kEngineSaltMark = "pixii-salt:";

/// "GPU", "CPU_PINNED", "DISK" and their other names; nothing: a name that is not known.
std::optional<KvTier> KvTierOf(std::string_view medium);

/// Events of unknown types are left out. Errors: kInvalidArgument naming the field.
Result<EngineKvBatch> DecodeEngineKvBatch(std::string_view payload);

enum class EngineKvForm : std::uint8_t { kArrays, kMaps };

std::string EncodeEngineKvBatch(const EngineKvBatch& batch, EngineKvForm form);

/// 8 bytes, big-endian. Errors: kInvalidArgument for another size.
Result<std::uint64_t> DecodeEngineKvSequence(std::string_view frame);
std::string EncodeEngineKvSequence(std::uint64_t sequence);

}  // namespace pixii::wire
