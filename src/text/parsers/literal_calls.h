// Calls in notations of their own, read whole once their end is found: Python's call syntax, and
// Gemma's.
//
// Thread: a value of one choice.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "text/parsers/call_reader.h"
#include "text/parsers/marker_scanner.h"
#include "text/parsers/tool_set.h"

namespace pixii::text::parsers {

struct LiteralCallFormat {
  enum class Notation : std::uint8_t { kPython, kGemma };

  Notation notation = Notation::kPython;
  std::vector<std::string> openers;
  std::vector<std::string> closers;
  bool bare = false;  // a Python list of calls without a marker, at the start of the content
  std::string quote;  // Gemma: stands on either side of a string
};

class LiteralCalls final : public CallReader {
 public:
  /// `tools` outlives it.
  LiteralCalls(const LiteralCallFormat& format, const ToolSet& tools);

  std::vector<std::string> openers() const override { return format_.openers; }

  std::vector<std::string> closers() const override { return format_.closers; }

  bool MayBeginBare(char byte) const override { return format_.bare && byte == '['; }

  void Open(std::size_t opener) override;
  Status Push(char byte, CallOutput& out) override;
  bool End(CallOutput& out) override;

 private:
  Status PushBare(char byte, CallOutput& out);
  bool TakeBody(CallOutput& out);
  void TrackQuotes(char byte);

  const LiteralCallFormat& format_;
  const ToolSet& tools_;
  MarkerScanner scanner_;  // closers, openers, quote
  bool bare_ = false;
  bool recognised_ = false;
  bool escaped_ = false;
  bool in_string_ = false;  // Gemma
  char quote_ = '\0';       // Python: the quote that is open
  std::size_t depth_ = 0;
  std::string body_;
};

}  // namespace pixii::text::parsers
