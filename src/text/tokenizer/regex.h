// Regular expressions as tokenizer files write them (Oniguruma's dialect), run by PCRE2 in linear
// space.
//
// Thread: Regex is immutable; a RegexScan belongs to one thread.
// Source: pcre2api(3), pcre2jit(3).
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "text/tokenizer/text_range.h"

namespace pixii::text {

class Regex final {
 public:
  /// Errors: kDataCorrupt with PCRE2's message and offset; kUnsupported for constructs that PCRE2
  /// reads otherwise.
  static Result<Regex> Compile(std::string_view pattern);

  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;
  ~Regex();

 private:
  friend class RegexScan;
  struct Program;

  explicit Regex(std::unique_ptr<const Program> program);

  std::unique_ptr<const Program> program_;
};

/// All matches of one text, from left to right, not overlapping.
class RegexScan final {
 public:
  explicit RegexScan(const Regex& regex);
  RegexScan(const RegexScan&) = delete;
  RegexScan& operator=(const RegexScan&) = delete;
  ~RegexScan();

  /// Starts over on `text` (valid UTF-8, alive until the next Reset).
  void Reset(std::string_view text);

  /// The next match. False: there is none.
  /// Errors: kResourceExhausted if the pattern backtracks past its budget on this text.
  Result<bool> Next(TextRange& match);

 private:
  struct State;

  int Match();

  const Regex* regex_;
  std::unique_ptr<State> state_;
  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace pixii::text
