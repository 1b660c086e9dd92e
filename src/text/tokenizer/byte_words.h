// The short way from text to ids where the pre-tokenizer only cuts at known patterns and the model
// is byte-level BPE: scan, look up, merge, with nothing written in between.
//
// Thread: immutable after construction.
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "text/tokenizer/byte_bpe.h"
#include "text/tokenizer/pre_tokenizer.h"
#include "text/tokenizer/token_model.h"

namespace pixii::text {

class ByteWords final {
 public:
  /// Null if the two parts do not allow it. Both must outlive this. `control`: by id, the tokens
  /// that untrusted text must not become.
  static std::unique_ptr<const ByteWords> Create(const PreTokenizer& pre_tokenizer,
                                                 const TokenModel& model,
                                                 const std::vector<bool>& control);

  /// Whether the model may make a control token of ordinary text. Untrusted text must then go the
  /// long way.
  bool may_make_control() const { return may_make_control_; }

  /// Appends the ids of `text`, valid UTF-8. O(n log n).
  void Encode(std::string_view text, ModelScratch& scratch, std::vector<TokenId>& out) const;

 private:
  ByteWords(const TokenModel& model, std::unique_ptr<const ByteBpe> bpe,
            std::vector<NextWord> scanners, bool may_make_control);

  struct Call;
  void Cut(std::span<const NextWord> scanners, const char* at, const char* end, Call& call) const;

  const TokenModel* model_;
  std::unique_ptr<const ByteBpe> bpe_;
  std::vector<NextWord> scanners_;  // each cuts the words of the one before
  bool may_make_control_;
};

}  // namespace pixii::text
