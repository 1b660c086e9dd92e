// Any bytes as a SentencePiece model or a tiktoken vocabulary: refused by name, or a tokenizer that
// loads or is refused, and encodes.
#include <cstdint>
#include <string_view>

#include "base/assert.h"
#include "text/tokenizer/sentence_piece.h"
#include "text/tokenizer/tiktoken.h"
#include "text/tokenizer/tokenizer.h"

using pixii::text::TokenizerConfig;

namespace {

void Use(const pixii::Result<std::string>& json) {
  if (!json) {
    PX_ASSERT(json.error().detail().starts_with("fuzz.model: "));
    return;
  }
  auto tokenizer = pixii::text::Tokenizer::FromJson(*json, "fuzz.model");
  if (!tokenizer) {
    return;
  }
  for (std::string_view text : {"", "a b  c\n12 \xE4\xB8\xAD", "\xFF"}) {
    auto ids = (*tokenizer)->Encode(text, {.add_special_tokens = true});
    if (ids) {
      (*tokenizer)->Decode(*ids);
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  pixii::text::LooksLikeSentencePiece(bytes);
  Use(pixii::text::SentencePieceToJson(bytes, {}, "fuzz.model"));
  if (pixii::text::LooksLikeTiktoken(bytes)) {
    Use(pixii::text::TiktokenToJson(bytes, {.pattern = "."}, "fuzz.model"));
  }
  return 0;
}
