// Patterns of ECMA-262 (with the flag u) to languages of texts.
//
// Thread: one owner of the store. Source: ECMA-262, 2024, section 22.2 and annex B.1.2 where the
// two readings do not differ. Refused by name: back-references, look-behind, \b and \B, inline
// flags, and anchors or look-ahead inside repetitions.
#pragma once

#include <string_view>

#include "base/result.h"
#include "text/grammar/regex_store.h"

namespace pixii::text::grammar {

inline constexpr std::size_t kPatternBytesMax = 65'536;  // bytes of one pattern
inline constexpr int kPatternDepthMax = 200;             // nested groups

enum class PatternMode : std::uint8_t {
  kSearch,  // the pattern matches somewhere in the text, as `pattern` of JSON schema has it
  kWhole,   // the pattern matches the whole text
};

/// The texts that match. Errors: kInvalidArgument with the offset for what is no pattern;
/// kUnsupported naming the construct; kTooLarge.
Result<RegexId> ParsePattern(RegexStore& store, std::string_view pattern, PatternMode mode);

/// The words of a pattern without anchors and look-ahead, no kTextEnd added. Same errors.
Result<RegexId> ParseTerminal(RegexStore& store, std::string_view pattern);

/// One class: "L", "Lu", "Letter", "ASCII", ... Errors: kUnsupported.
Result<CharSet> UnicodeProperty(std::string_view name);

}  // namespace pixii::text::grammar
