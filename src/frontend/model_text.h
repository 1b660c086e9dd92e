// The texts of a checkpoint folder: its tokenizer and chat templates as a TextProcessor.
//
// Thread: immutable, shared by threads.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "frontend/text_processor.h"
#include "text/jinja/chat_template.h"
#include "text/tokenizer/tokenizer.h"

namespace pixii::frontend {

/// Contents of a checkpoint's files, nothing where a file is absent.
struct ModelTextFiles {
  std::string tokenizer_json;
  std::string tokenizer_json_path;  // for errors
  std::optional<std::string> tokenizer_config_json;
  std::optional<std::string> chat_template_jinja;
  std::optional<std::string> chat_template_json;
};

/// Puts `text` in place of every `mark` in `prompt` that no client wrote.
void PutForMark(std::string_view mark, std::string_view text, text::RenderedPrompt& prompt);

class ModelText final : public TextProcessor {
 public:
  /// `civil_now` is what templates that print a date see.
  /// Errors: of the tokenizer; of the templates, naming file and line.
  static Result<std::shared_ptr<const ModelText>> Create(
      const ModelTextFiles& files, std::function<text::CivilTime()> civil_now);

  Result<std::vector<TokenId>> Encode(std::string_view text, EncodeOptions options) const override;
  Result<std::vector<TokenId>> EncodeChat(const ChatPrompt& prompt) const override;
  Result<JoinedText> Join(std::string_view first, std::optional<std::string_view> second,
                          JoinOptions options) const override;

  bool renders_pairs() const override { return renders_pairs_; }

  std::unique_ptr<TextDecoder> NewDecoder(std::span<const TokenId> prompt,
                                          bool skip_special) const override;
  std::string TokenBytes(TokenId token) const override;

  void Meter(const TextMeters& meters) const override;

  const text::Tokenizer& tokenizer() const { return *tokenizer_; }

  std::string_view TemplateSource() const override { return template_source_; }

  std::optional<TokenId> AddedToken(std::string_view spelling) const override;

  bool IsSpecial(TokenId token) const override { return tokenizer_->IsSpecial(token); }

 private:
  ModelText() = default;

  const text::ChatTemplate* Choose(bool with_tools) const;
  Result<text::RenderedPrompt> Render(const ChatPrompt& prompt) const;
  Result<std::vector<TokenId>> Tokens(std::string_view text,
                                      const text::EncodeOptions& options) const;
  /// Null: nobody counts.
  const TextMeters* meters() const;
  bool ProbePairs() const;

  std::unique_ptr<const text::Tokenizer> tokenizer_;
  std::vector<std::pair<std::string, text::ChatTemplate>> templates_;
  std::vector<std::pair<std::string, std::string>> special_tokens_;
  std::function<text::CivilTime()> civil_now_;
  std::string template_source_;  // of the template for requests with tools
  bool renders_pairs_ = false;
  mutable TextMeters meters_;                      // once `metered_`
  mutable std::atomic<bool> meters_taken_{false};  // somebody sets them
  mutable std::atomic<bool> metered_{false};
};

}  // namespace pixii::frontend
