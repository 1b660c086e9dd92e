// Finds fixed markers in text that comes byte by byte, and holds back only what may begin one.
//
// Thread: a value of one choice.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "wire/messages/constraint.h"

namespace pixii::text::parsers {

/// Stands before a token that the model wrote as one.
using wire::kTokenMark;

class MarkerScanner final {
 public:
  MarkerScanner() = default;

  /// Of two markers where one begins the other, the shorter is found. Empty ones are left out.
  explicit MarkerScanner(std::vector<std::string> markers);

  /// Takes one byte; appends to `text` what cannot be part of a marker any more. Returns the index
  /// of the marker that it completes. O(length of the markers) at worst, O(1) mostly.
  std::optional<std::size_t> Push(char byte, std::string& text);

  /// Appends what is held back, and holds nothing.
  void Flush(std::string& text);

  bool holds() const { return !held_.empty(); }

 private:
  std::vector<std::string> markers_;
  std::string first_bytes_;
  std::string held_;
};

/// All of `lists`, one after another.
std::vector<std::string> Joined(std::initializer_list<std::vector<std::string>> lists);

inline bool IsSpace(char byte) {
  return byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t';
}

std::string_view Trimmed(std::string_view text);

}  // namespace pixii::text::parsers
