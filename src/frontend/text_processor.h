// What the frontend needs of text/: prompts to tokens, tokens to text. One per served model.
//
// Thread: immutable, shared by threads; a TextDecoder belongs to one choice.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "obs/metrics.h"
#include "wire/json.h"

namespace pixii::frontend {

/// Turns the tokens of one choice into text as they come; never gives half a character.
class TextDecoder {
 public:
  virtual ~TextDecoder() = default;
  /// Appends the text that `token` completes.
  virtual void Push(TokenId token, std::string& out) = 0;
  /// Appends what is left at the end: a broken character becomes U+FFFD.
  virtual void Flush(std::string& out) = 0;
};

/// What a template that writes `begin` for a picture means by it: two newlines, begin, image, end
/// and two newlines.
struct PictureFrame {
  TokenId begin = -1;
  TokenId image = -1;
  TokenId end = -1;
};

/// When the parts of a prompt were ready; kNever: it has no such part.
struct PromptTimes {
  rt::Time template_begun = rt::kNever;
  rt::Time template_ended = rt::kNever;
  rt::Time tokens_ended = rt::kNever;
};

struct ChatPrompt {
  wire::Json
      messages;  // array of objects as templates expect them: arguments of tool calls are objects
  wire::Json tools;            // array, or null
  wire::Json template_kwargs;  // object, or null
  bool add_generation_prompt = true;
  bool continue_final_message = false;
  std::optional<PictureFrame> frame;  // nothing: templates write what the model reads
  PromptTimes* times = nullptr;       // written by who makes tokens of it; null: nobody asks
};

/// Where a text processor counts what its work takes; null: nowhere.
struct TextMeters {
  obs::Histogram* tokenize_ms = nullptr;
  obs::Histogram* detokenize_ms = nullptr;
  obs::Histogram* tokenize_seconds = nullptr;
  obs::Histogram* template_seconds = nullptr;
  obs::Histogram* detokenize_per_token_us = nullptr;
};

class TextProcessor {
 public:
  virtual ~TextProcessor() = default;

  /// From now on its work is counted there; only the first call has an effect. What is there
  /// outlives it.
  virtual void Meter(const TextMeters& /*meters*/) const {}

  struct EncodeOptions {
    bool add_special = true;    // what the model's tokenizer puts around a text
    bool parse_special = true;  // "<|im_end|>" in the text is that token
  };

  /// Errors: kInvalidArgument for text that is not UTF-8; kTooLarge.
  virtual Result<std::vector<TokenId>> Encode(std::string_view text,
                                              EncodeOptions options) const = 0;
  /// Renders the chat template and encodes it: what clients wrote is ordinary text, whatever it
  /// looks like. Errors: kUnsupported without a template; kInvalidArgument with what the template
  /// raised (param "messages").
  virtual Result<std::vector<TokenId>> EncodeChat(const ChatPrompt& prompt) const = 0;

  struct JoinOptions {
    bool add_special = true;
    bool parse_special = false;
    std::size_t tokens_max = 0;  // the texts are cut at their ends to fit; 0: they are not
  };

  struct JoinedText {
    std::vector<TokenId> ids;
    std::vector<std::int32_t> types;  // [ids] 0 in the first text, mostly 1 in the second
  };

  /// One text, or two as the model's tokenizer joins a pair. Errors: those of Encode; kUnsupported
  /// if the tokenizer does not say how.
  virtual Result<JoinedText> Join(std::string_view first, std::optional<std::string_view> second,
                                  JoinOptions options) const = 0;
  /// Whether the chat template takes messages of the roles "query" and "document".
  virtual bool renders_pairs() const = 0;

  /// Decodes what follows `prompt`, whose own text is not repeated. The model outlives it.
  virtual std::unique_ptr<TextDecoder> NewDecoder(std::span<const TokenId> prompt,
                                                  bool skip_special) const = 0;
  /// The bytes of one token, special ones as they are written.
  virtual std::string TokenBytes(TokenId token) const = 0;

  /// Source of the chat template that requests with tools use; empty without one.
  virtual std::string_view TemplateSource() const { return {}; }

  /// The token beside the vocabulary's own that is spelt exactly so.
  virtual std::optional<TokenId> AddedToken(std::string_view) const { return std::nullopt; }

  /// A token that skip_special leaves out.
  virtual bool IsSpecial(TokenId) const { return false; }
};

/// The text of `tokens`.
inline std::string DecodeAll(const TextProcessor& text, std::span<const TokenId> tokens,
                             bool skip_special) {
  std::unique_ptr<TextDecoder> decoder = text.NewDecoder({}, skip_special);
  std::string out;
  for (TokenId token : tokens) {
    decoder->Push(token, out);
  }
  decoder->Flush(out);
  return out;
}

}  // namespace pixii::frontend
