// Text to token ids and back, as a Hugging Face tokenizer.json describes it.
// docs/subsystems/text.md
//
// Thread: immutable after load; all methods are const and may be called from any thread at once.
// Source: the behaviour of Hugging Face's tokenizers library, whose ids and texts ours equal
// (tests: golden/tokenizers). Bounds: every text is encoded in O(n log n), whatever it is; see
// docs/subsystems/text.md.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "text/tokenizer/text_range.h"
#include "text/tokenizer/typed_tokens.h"

namespace pixii::text {

inline constexpr std::size_t kTokenizerJsonBytesMax = 268'435'456;  // bytes of one tokenizer.json
inline constexpr std::size_t kEncodeTextBytesMax = 67'108'864;      // bytes of one text to encode

struct EncodeOptions {
  /// Adds the model's own tokens around the text (BOS and the like), as the file's post-processor
  /// says.
  bool add_special_tokens = false;
  /// True: added tokens written in the text become those tokens, as in Hugging Face's library.
  /// False: control tokens written in the text are ordinary text. A control token is an added token
  /// that is special or has a character other than letters, marks, numbers and white space.
  bool parse_special = true;
  /// Parts of the text, sorted and apart, in which the second rule holds while parse_special is
  /// true: what users wrote inside a rendered template. No control token is found that overlaps
  /// one.
  std::span<const TextRange> untrusted = {};
};

struct DecodeOptions {
  bool skip_special_tokens = false;
};

/// How a text or a pair of texts is made ready for a model that reads it whole.
struct JoinOptions {
  bool add_special_tokens = true;
  bool parse_special = false;  // as EncodeOptions::parse_special
  /// 0: all. Else the result has at most so many tokens: the texts are cut at their ends, of a pair
  /// the longer one first, and the special tokens stay.
  std::size_t tokens_max = 0;
};

/// A token added beside the model's vocabulary.
struct AddedTokenInfo {
  TokenId id;
  std::string_view content;
  bool special;
};

class Tokenizer final {
 public:
  /// Loads a tokenizer.json. The file is not trusted.
  /// Errors, each naming the file and the place in it: kDataCorrupt; kUnsupported for a component
  /// not built here; kTooLarge past a bound.
  static Result<std::unique_ptr<const Tokenizer>> FromJson(std::string_view tokenizer_json,
                                                           std::string_view file_name_for_errors);

  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;
  ~Tokenizer();

  /// The ids of `text`. Ill-formed UTF-8 is read as U+FFFD. O(n log n).
  /// Errors: kTooLarge (text or what it normalizes to); kResourceExhausted if the file's own
  /// pattern backtracks past its budget.
  Result<std::vector<TokenId>> Encode(std::string_view text,
                                      const EncodeOptions& options = {}) const;

  /// The ids and types of one text, or of two joined as the post-processor says. Errors: those of
  /// Encode; kUnsupported if the file does not say how to join two.
  Result<TypedTokens> Join(std::string_view first, std::optional<std::string_view> second,
                           const JoinOptions& options) const;

  /// The text of `ids`. Ids without a piece give nothing. O(n).
  std::string Decode(std::span<const TokenId> ids, const DecodeOptions& options = {}) const;

  /// One past the largest id, added tokens included.
  TokenId vocab_size() const;
  /// The piece as the file spells it, empty if there is none of this id.
  std::string_view TokenText(TokenId id) const;
  /// The bytes that the token adds inside a text, even if they are no whole characters.
  std::string TokenBytes(TokenId id) const;
  /// The id of a piece or added token spelt exactly so.
  std::optional<TokenId> IdOf(std::string_view piece) const;
  /// Marked special in the file: skipped by skip_special_tokens.
  bool IsSpecial(TokenId id) const;
  /// In the order of the file.
  std::vector<AddedTokenInfo> AddedTokenList() const;

 private:
  friend class IncrementalDetokenizer;
  friend class TokenizerJsonLoader;
  struct Parts;

  explicit Tokenizer(std::unique_ptr<const Parts> parts);

  /// The ids of the text alone.
  Result<std::vector<TokenId>> EncodePlain(std::string_view text,
                                           const EncodeOptions& options) const;

  std::unique_ptr<const Parts> parts_;
};

}  // namespace pixii::text
