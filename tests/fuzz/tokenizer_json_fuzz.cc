// Any bytes as a tokenizer.json: refused, or loaded and then used in every way.
#include <cstdint>
#include <string_view>

#include "base/assert.h"
#include "base/utf8.h"
#include "text/tokenizer/detokenizer.h"
#include "text/tokenizer/tokenizer.h"

using pixii::text::IncrementalDetokenizer;
using pixii::text::TextRange;
using pixii::text::Tokenizer;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  auto loaded = Tokenizer::FromJson({reinterpret_cast<const char*>(data), size}, "fuzz.json");
  if (!loaded) {
    PX_ASSERT(loaded.error().detail().starts_with("fuzz.json: "));
    return 0;
  }
  const Tokenizer& tokenizer = **loaded;
  TextRange untrusted{3, 9};
  for (std::string_view text :
       {"", "hello  World 42!\n<s>\xE2\x96\x81 \xF0\x9F\x98\x80'll \xCC\x81",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "\xFF\xE2\x82 ill-formed"}) {
    auto ids = tokenizer.Encode(text, {.add_special_tokens = true});
    auto guarded = tokenizer.Encode(text, {.untrusted = {&untrusted, text.size() > 9 ? 1U : 0U}});
    for (const auto& result : {ids, guarded}) {
      if (!result) {
        continue;
      }
      for (bool skip : {false, true}) {
        std::string whole = tokenizer.Decode(*result, {.skip_special_tokens = skip});
        IncrementalDetokenizer detokenizer(tokenizer, {}, {.skip_special_tokens = skip});
        std::string streamed;
        for (pixii::TokenId id : *result) {
          PX_ASSERT(id >= 0 && id < tokenizer.vocab_size());
          detokenizer.Push(id, streamed);
        }
        streamed += detokenizer.Flush();
        PX_ASSERT(streamed == whole);
      }
    }
  }
  for (pixii::TokenId id = -1; id < tokenizer.vocab_size() && id < 300; ++id) {
    tokenizer.TokenBytes(id);
  }
  return 0;
}
