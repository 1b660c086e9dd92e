// Where a JSON value ends, found byte by byte, and walks over values already found.
//
// Thread: values. Source: RFC 8259. Strict, but for control characters inside strings, which models
// write: JsonText escapes them, so that what it kept is JSON.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace pixii::text::parsers {

inline constexpr std::size_t kJsonDepthMax = 256;  // arrays and objects inside one another

/// One JSON value, gathered as it comes.
class JsonText final {
 public:
  enum class Status : std::uint8_t {
    kMore,
    kDone,        // the value is complete with this byte
    kDoneBefore,  // it was complete before this byte (a number), which is not part of it
    kBroken,      // no JSON begins so
  };

  Status Push(char byte);

  /// A number at the end of a stream is complete.
  bool CompleteAtEnd() const;

  /// What was gathered; valid JSON once done.
  const std::string& text() const { return text_; }

  /// A control character inside a string was escaped.
  bool repaired() const { return repaired_; }

  void Clear() { *this = JsonText(); }

 private:
  enum class State : std::uint8_t {
    kValue,      // a value must come
    kFirstItem,  // a value or ]
    kFirstKey,   // a key or }
    kKey,        // a key
    kColon,
    kAfter,  // a comma or the closing bracket
    kString,
    kEscape,
    kHex,
    kMinus,
    kZero,
    kInteger,
    kPoint,
    kFraction,
    kExponent,
    kExponentSign,
    kExponentDigits,
    kLiteral,
    kEnd,
  };

  Status Take(char byte);
  Status Begin(char byte);
  Status Close(char byte);
  Status Complete();
  Status String(char byte);
  Status Number(char byte);
  bool NumberMayEnd() const;

  std::string text_;
  std::string brackets_;  // open ones
  std::string_view literal_;
  State state_ = State::kValue;
  std::uint8_t hex_ = 0;
  bool key_ = false;  // the string is a key
  bool repaired_ = false;
};

/// Whether `text`, but for white space around it, is one JSON value.
bool IsJson(std::string_view text);

/// The first byte of the value that tells its kind: { [ " t f n - or a digit. 0 if empty.
char JsonKind(std::string_view text);

/// Calls `member` with each key (unescaped) and raw value of an object. Pre: valid JSON object.
/// Stops when it returns false.
void ForEachMember(
    std::string_view object,
    const std::function<bool(const std::string& key, std::string_view value)>& member);

/// Likewise with the raw items of an array. Pre: valid JSON array.
void ForEachItem(std::string_view array, const std::function<bool(std::string_view item)>& item);

/// What a JSON string means; lone surrogates become U+FFFD. Pre: valid JSON string.
std::string Unescaped(std::string_view string);

}  // namespace pixii::text::parsers
