// From the rows that a model gives of a text to the text's result, as the engine needs it.
//
// Thread: a pooler is immutable; a PooledText belongs to one request on the engine thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace pixii::engine {

/// Rows of a text that are wanted.
enum class PoolRows : std::uint8_t { kFirst, kLast, kAll };

/// One text while it is read.
class PooledText {
 public:
  virtual ~PooledText() = default;
  /// The next wanted row, [row_size], in order of the text.
  virtual void Add(std::span<const float> row) = 0;
  /// The result. Pre: every wanted row was added.
  virtual std::vector<float> Finish() = 0;
};

class TextPooler {
 public:
  virtual ~TextPooler() = default;
  virtual PoolRows rows() const = 0;
  /// Floats of a result.
  virtual std::uint32_t feature_count() const = 0;
  /// Whether skip_tokens may be other than 0.
  virtual bool can_skip() const = 0;
  /// `skip_tokens`: with kAll, rows of so many tokens are never added.
  virtual std::unique_ptr<PooledText> Start(std::uint32_t skip_tokens) const = 0;
};

}  // namespace pixii::engine
