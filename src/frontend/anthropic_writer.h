// Anthropic's answers: a message of content blocks, whole or as events.
//
// Thread: the frontend's loop.
#pragma once

#include <optional>
#include <string_view>

#include "frontend/answer_writer.h"

namespace pixii::frontend {

class AnthropicWriter final : public AnswerWriter {
 public:
  /// `cache_control`: the client marks what is to be cached and gets to know what was found: then
  /// input_tokens are those that were not, else all of them.
  explicit AnthropicWriter(bool cache_control) : cache_control_(cache_control) {}

  Surface surface() const override { return Surface::kMessages; }

  void Begin(AnswerHead head) override { head_ = std::move(head); }

  void AppendStart(std::string& out, const Usage& usage) override;
  void AppendPart(std::string& out, const AnswerPart& part) override;
  void AppendEnd(std::string& out, const ChoiceFinish& finish, const Usage& usage) override;
  void AppendError(std::string& out, const Error& error) override;
  std::string Unary(std::span<const Answer> answers, const Usage& usage) override;

 private:
  std::string CallId(const AnswerPart& part, std::size_t index) const;
  void AppendHead(std::string& out) const;
  void AppendUsage(std::string& out, const Usage& usage, std::uint64_t output_tokens) const;
  void AppendStop(std::string& out, const ChoiceFinish& finish) const;
  void OpenBlock(std::string& out, const AnswerPart& part);
  void CloseBlock(std::string& out);

  bool cache_control_;
  AnswerHead head_;
  std::optional<AnswerPart::Kind> open_;  // the block that is being written
  std::uint32_t block_count_ = 0;
  bool called_ = false;
};

}  // namespace pixii::frontend
