// Post-processors of tokenizer.json: the model's own tokens around a text or a pair of texts.
//
// Thread: immutable after load. Source: Hugging Face tokenizers, processors/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "text/tokenizer/component_json.h"
#include "text/tokenizer/typed_tokens.h"
#include "text/tokenizer/vocabulary.h"
#include "wire/json.h"

namespace pixii::text {

class PostProcessor final {
 public:
  PostProcessor() = default;

  /// Errors: kDataCorrupt, kUnsupported, naming `place`.
  static Result<PostProcessor> FromJson(const wire::Json& json, const JsonPlace& place);

  /// All ids that the templates name.
  std::vector<TokenId> Ids() const;

  /// Puts the tokens around `ids`. What a template repeats without special tokens is repeated too.
  void Apply(bool add_special_tokens, std::vector<TokenId>& ids) const;

  /// The same with types.
  TypedTokens ApplyTyped(bool add_special_tokens, std::vector<TokenId> ids) const;

  /// Joins two texts. Errors: kUnsupported if the file says nothing of pairs.
  Result<TypedTokens> ApplyPair(bool add_special_tokens, std::vector<TokenId> first,
                                std::vector<TokenId> second) const;

  /// Special tokens that a text or a pair gets.
  std::size_t AddedCount(bool pair) const;

 private:
  // Special ids, and these where a text stands.
  static constexpr TokenId kFirst = -1;
  static constexpr TokenId kSecond = -2;

  struct Piece {
    TokenId id = kFirst;
    std::int32_t type = 0;
  };

  struct Template {
    std::vector<Piece> single;
    std::vector<Piece> pair;  // empty: pairs are not known
  };

  Result<void> Append(const wire::Json& json, const JsonPlace& place);
  Result<void> AppendTemplate(const wire::Json& json, const JsonPlace& place);
  Result<void> AppendPairOfTokens(const wire::Json& json, bool roberta, const JsonPlace& place);
  static Result<std::vector<Piece>> ReadPieces(const wire::Json& json, std::string_view key,
                                               const JsonPlace& place);
  static Result<void> AppendPiece(const wire::Json& json, const wire::Json* specials,
                                  const JsonPlace& at, const JsonPlace& place,
                                  std::vector<Piece>& out);

  std::vector<Template> templates_;  // applied in order
};

}  // namespace pixii::text
