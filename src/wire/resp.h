// Redis's protocol without I/O: commands out, replies in (RESP2, which every version speaks).
//
// Thread: values; one connection. Source: redis.io, "Redis serialization protocol specification".
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pixii::wire {

struct RespValue {
  enum class Kind : std::uint8_t { kText, kError, kInteger, kBytes, kNothing, kList };

  Kind kind = Kind::kNothing;
  std::string text = {};  // kText, kError, kBytes
  std::int64_t integer = 0;
  std::vector<RespValue> items = {};  // kList

  friend bool operator==(const RespValue&, const RespValue&) = default;
};

/// Appends one command, its name first.
void AppendRespCommand(std::string& out, std::span<const std::string_view> words);

class RespReader final {
 public:
  static constexpr std::uint32_t kDepthMax = 4;        // of lists in lists
  static constexpr std::size_t kItemsMax = 1U << 16U;  // of one reply, all lists together
  static constexpr std::size_t kLineMax = 4096;        // bytes of a text, an error or a number

  /// `bytes_max`: of one kBytes, and of all of a list's together.
  explicit RespReader(std::uint64_t bytes_max) : bytes_max_(bytes_max) {}

  /// Bytes of the peer, in any pieces.
  void Feed(std::string_view bytes) { input_.append(bytes); }

  /// The next reply, once it is whole. Errors: kDataCorrupt, kTooLarge; the connection is of no use
  /// then.
  Result<std::optional<RespValue>> Next();

  /// The largest from now on.
  void SetBytesMax(std::uint64_t bytes_max) { bytes_max_ = bytes_max; }

  /// Nothing has come that Next has not given.
  bool empty() const { return input_.size() == begin_; }

 private:
  struct Budget {
    std::uint64_t bytes = 0;
    std::size_t items = 0;
  };

  /// Nothing: more bytes are needed. `at` moves behind it.
  Result<std::optional<RespValue>> Parse(std::size_t& at, std::uint32_t depth, Budget& budget);
  Result<std::optional<std::string_view>> Line(std::size_t& at) const;

  std::uint64_t bytes_max_;
  std::string input_;
  std::size_t begin_ = 0;  // of what Next has not given
};

}  // namespace pixii::wire
