// Ids that do not mix: each is an enum class over an integer of stated width.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace pixii {

/// Ours, unique in a process's life; a client's own id is a label only.
enum class RequestId : std::uint64_t {};
/// Index of a KV block in its pool, 0 .. block_count_max - 1.
enum class BlockId : std::uint32_t {};

/// Index into a model's vocabulary; negative never occurs past the edge.
using TokenId = std::int32_t;

template <class Id>
constexpr auto Raw(Id id) {
  return static_cast<std::underlying_type_t<Id>>(id);
}

}  // namespace pixii
