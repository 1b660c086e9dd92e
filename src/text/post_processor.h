// Post-processors of tokenizer.json: the model's own tokens around a text.
//
// Thread: immutable after load. Source: Hugging Face tokenizers, processors/. Pairs of texts are
// not built.
#pragma once

#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "text/component_json.h"
#include "text/vocabulary.h"
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

 private:
  // A template: special ids, and kText where the text stands.
  static constexpr TokenId kText = -1;
  using Template = std::vector<TokenId>;

  Result<void> Append(const wire::Json& json, const JsonPlace& place);
  Result<void> AppendTemplate(const wire::Json& json, const JsonPlace& place);
  Result<void> AppendPair(const wire::Json& json, const JsonPlace& place);

  std::vector<Template> templates_;  // applied in order
};

}  // namespace pixii::text
