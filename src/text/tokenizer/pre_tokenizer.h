// Pre-tokenizers of tokenizer.json: how a text is cut into words before the model sees them.
//
// Thread: a PreTokenizer is immutable after load; Words belong to one call.
// Layout: Words is one text and ranges of it in order; steps that only cut leave the text alone.
// Source: Hugging Face tokenizers, pre_tokenizers/ and tokenizer/pattern.rs.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/tokenizer/component_json.h"
#include "text/tokenizer/word_scanner.h"
#include "wire/json.h"

namespace pixii::text {

struct Word {
  std::uint32_t begin;
  std::uint32_t end;
  bool first;  // begins where the whole input begins, for Metaspace's prepend scheme "first"
};

class Words final {
 public:
  Words() = default;
  Words(const Words&) = delete;
  Words& operator=(const Words&) = delete;

  /// One word: all of `text`, which must outlive this. Pre: text.size() < 2^32.
  void Reset(std::string_view text, bool first);

  const std::vector<Word>& words() const { return words_; }

  std::string_view TextOf(const Word& word) const {
    return text_.substr(word.begin, word.end - word.begin);
  }

  /// Rebuilds the list: `cut(word, out)` appends what becomes of each word, ranges of the same
  /// text. Empty ones are dropped.
  template <class Cut>
  Result<void> Split(Cut cut) {
    next_.clear();
    for (const Word& word : words_) {
      PX_CHECK_OK(cut(word, next_));
    }
    std::erase_if(next_, [](const Word& word) { return word.begin == word.end; });
    words_.swap(next_);
    return {};
  }

  /// Rewrites the text: `write(word, out)` appends the new text of each word.
  /// Errors: kTooLarge if the text passes 4 GiB.
  template <class Write>
  Result<void> Rewrite(Write write) {
    std::string out;
    out.reserve(text_.size() * 2);
    for (Word& word : words_) {
      std::size_t begin = out.size();
      write(word, out);
      if (out.size() > 0xFFFFFFFF) {
        return Fail(Code::kTooLarge, "the pre-tokenized text passes 4 GiB");
      }
      word.begin = static_cast<std::uint32_t>(begin);
      word.end = static_cast<std::uint32_t>(out.size());
    }
    owned_ = std::move(out);
    text_ = owned_;
    return {};
  }

 private:
  std::string_view text_;
  std::string owned_;  // the text, once a step has rewritten it
  std::vector<Word> words_;
  std::vector<Word> next_;
};

class PreTokenizer {
 public:
  PreTokenizer() = default;
  PreTokenizer(const PreTokenizer&) = delete;
  PreTokenizer& operator=(const PreTokenizer&) = delete;
  virtual ~PreTokenizer() = default;

  /// Errors: kResourceExhausted from a pattern, kTooLarge.
  virtual Result<void> Apply(Words& words) const = 0;

  /// Appends the scanners that, one after another, cut a text into the words that this cuts it
  /// into, and sets `bytes` if the words are then written in the byte alphabet. False if this does
  /// anything else.
  virtual bool AppendScanners(std::vector<NextWord>& scanners, bool& bytes) const;

  /// Null for JSON null. Errors: kDataCorrupt, kUnsupported, naming `place`.
  static Result<std::unique_ptr<const PreTokenizer>> FromJson(const wire::Json& json,
                                                              const JsonPlace& place);
};

}  // namespace pixii::text
