// The normalizer "Precompiled": replacements in a double-array trie, as SentencePiece stores them.
//
// Thread: immutable after load.
// Layout of the charsmap, in base64: u32 (little endian) bytes of the trie, the trie's u32 units,
// then replacement texts, each ended by a zero byte; a trie value is the offset of its text.
// Source: SentencePiece's src/normalizer.cc and darts-clone (facts); by grapheme as in Hugging Face
// tokenizers.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/normalizer.h"

namespace pixii::text {

class CharsmapNormalizer final : public Normalizer {
 public:
  using Normalizer::Apply;

  /// Errors: kDataCorrupt naming `place`.
  static Result<std::unique_ptr<const Normalizer>> FromBase64(std::string_view base64,
                                                              const JsonPlace& place);

  Result<void> Apply(std::string& text, std::size_t bytes_max) const override;

 private:
  /// The text for the shortest beginning of `part` that has one.
  std::optional<std::string_view> Replacement(std::string_view part) const;

  std::vector<std::uint32_t> trie_;
  std::string texts_;
};

}  // namespace pixii::text
