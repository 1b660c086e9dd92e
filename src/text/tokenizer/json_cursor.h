// Walks through a JSON text without building it: for the hundreds of thousands of entries of a
// vocabulary.
//
// Thread: one owner. After the first failure every call fails; error() says what and where.
// Source: RFC 8259. As strict as wire/json.h: valid UTF-8, no lone surrogates, no trailing commas.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace pixii::text {

class JsonCursor final {
 public:
  /// `base`: what to add to offsets in messages, if `text` is a part of a file.
  explicit JsonCursor(std::string_view text, std::size_t base = 0) : text_(text), base_(base) {}

  /// The next byte that is no white space, 0 at the end. Tells the kind of the next value.
  char Peek();

  /// Steps over an opening [ or {. Then NextItem or NextKey until they return false.
  bool Open(char bracket);
  /// Steps to the next item of an array. False at its end, which is consumed, and on failure.
  bool NextItem();
  /// Steps to the next member's value. `key` is valid until the next call that reads a string.
  bool NextKey(std::string_view& key);

  /// Reads a string; `value` is valid until the next string is read.
  bool String(std::string_view& value);
  bool Integer(std::int64_t& value);
  bool Double(double& value);
  /// Steps over any value and gives its text. Checks only that brackets and strings close.
  bool Raw(std::string_view& value);
  /// Nothing but white space is left.
  bool End();

  bool failed() const { return !reason_.empty(); }

  /// What is wrong, with the byte offset. Pre: failed().
  std::string error() const;

  /// Byte offset of the cursor in the file.
  std::size_t offset() const { return base_ + at_; }

  /// Records a failure here; returns false.
  bool Fail(std::string_view reason);

 private:
  bool Next(char close);
  bool StringBody(std::string_view& value);
  bool Escape();

  std::string_view text_;
  std::size_t base_;
  std::size_t at_ = 0;
  bool fresh_ = false;  // a container was just opened: no comma comes before its first entry
  std::string unescaped_;
  std::string reason_;
  std::size_t failed_at_ = 0;
};

}  // namespace pixii::text
