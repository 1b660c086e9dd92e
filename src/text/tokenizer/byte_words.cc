#include "text/tokenizer/byte_words.h"

#include <string>

#include "text/tokenizer/byte_alphabet.h"

namespace pixii::text {

ByteWords::ByteWords(const TokenModel& model, std::unique_ptr<const ByteBpe> bpe,
                     std::vector<NextWord> scanners, bool may_make_control)
    : model_(&model),
      bpe_(std::move(bpe)),
      scanners_(std::move(scanners)),
      may_make_control_(may_make_control) {}

std::unique_ptr<const ByteWords> ByteWords::Create(const PreTokenizer& pre_tokenizer,
                                                   const TokenModel& model,
                                                   const std::vector<bool>& control) {
  std::vector<NextWord> scanners;
  bool bytes = false;
  if (!pre_tokenizer.AppendScanners(scanners, bytes) || !bytes) {
    return nullptr;
  }
  std::unique_ptr<const ByteBpe> bpe = model.FromBytes();
  if (bpe == nullptr) {
    return nullptr;
  }
  bool may_make_control = bpe->MayMake(control);
  return std::unique_ptr<const ByteWords>(new ByteWords(  // tidy: new private constructor
      model, std::move(bpe), std::move(scanners), may_make_control));
}

struct ByteWords::Call {
  const char* text_end;
  ModelScratch& scratch;
  std::vector<TokenId>& out;
  std::string alphabet;  // of a word too long for the table
};

void ByteWords::Encode(std::string_view text, ModelScratch& scratch,
                       std::vector<TokenId>& out) const {
  Call call{text.data() + text.size(), scratch, out, {}};
  Cut(scanners_, text.data(), text.data() + text.size(), call);
}

void ByteWords::Cut(std::span<const NextWord> scanners, const char* at, const char* end,
                    Call& call) const {
  while (at != end) {
    const char* after = scanners.empty() ? end : scanners[0](at, end);
    if (scanners.size() > 1) {
      Cut(scanners.subspan(1), at, after, call);
    } else if (!bpe_->Tokenize(at, after, call.text_end, call.out)) {
      call.alphabet.clear();
      AppendInByteAlphabet(call.alphabet, {at, static_cast<std::size_t>(after - at)});
      model_->Tokenize(call.alphabet, call.scratch, call.out);
    }
    at = after;
  }
}

}  // namespace pixii::text
