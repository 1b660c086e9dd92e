// A stretch of bytes of a text.
#pragma once

#include <cstddef>

namespace pixii::text {

struct TextRange {
  std::size_t begin;
  std::size_t end;

  friend bool operator==(const TextRange&, const TextRange&) = default;
};

}  // namespace pixii::text
