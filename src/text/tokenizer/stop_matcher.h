// Stop strings over streamed text: passes on what can no longer be part of one, ends at the first
// that completes.
//
// Thread: a value of one choice; the stop strings are shared and immutable.
// Of several stops the one that completes first counts, of those that complete together the
// longest. Bytes, not characters: a stop string may arrive in any pieces, even in half characters.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/tokenizer/aho_corasick.h"

namespace pixii::text {

inline constexpr std::size_t kStopStringsMax = 32;         // stop strings of one request
inline constexpr std::size_t kStopStringBytesMax = 4'096;  // bytes of one stop string

class StopMatcher final {
 public:
  /// Matches nothing: text passes through.
  StopMatcher() = default;

  /// `include_stop`: the stop string itself is part of the text that may be sent.
  /// Errors: kInvalidArgument (param "stop") if a string is empty, too long, or there are too many.
  static Result<StopMatcher> Create(std::vector<std::string> stops, bool include_stop = false);

  /// Takes the next text and returns what may be sent now. Holds back only the longest suffix that
  /// begins a stop string. After a match nothing more comes out. O(text), amortised.
  std::string Push(std::string_view text);

  /// The text held back, when the stream ends without a match; then nothing is held.
  std::string Flush();

  /// Which stop string matched, as an index into the list given to Create.
  std::optional<std::uint32_t> matched() const { return matched_; }

  /// Bytes now held back.
  std::size_t held_bytes() const { return held_.size(); }

 private:
  struct Stops {
    std::vector<std::string> strings;
    AhoCorasick automaton;
    bool include = false;
  };

  std::shared_ptr<const Stops> stops_;  // null: no stop strings
  AhoCorasick::State state_ = AhoCorasick::kRoot;
  std::string held_;
  std::optional<std::uint32_t> matched_;
};

}  // namespace pixii::text
