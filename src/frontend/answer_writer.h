// Writes the answer of a surface that is not OpenAI's completions: Anthropic's messages, OpenAI's
// responses, KServe, token ids.
//
// Thread: the frontend's loop, but for making one.
// A surface is a reader of its body, which makes the common request of it, and such a writer. What
// a model's text is made of (reasoning, content, calls) is found before it comes here.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "frontend/choice_stream.h"
#include "frontend/openai_request.h"
#include "frontend/openai_response.h"
#include "rt/time.h"
#include "wire/json.h"

namespace pixii::frontend {

/// A piece of an answer, in the order the model wrote it. Neighbours of one kind belong together,
/// but each call has pieces of its own.
struct AnswerPart {
  enum class Kind : std::uint8_t { kReasoning, kText, kCall };

  Kind kind = Kind::kText;
  std::string text = {};  // kCall: the arguments, JSON text as the model wrote it
  std::string name = {};  // kCall
  std::string id = {};    // kCall
  /// kText: of its tokens, if the request wants them, as entries of a chat's logprobs.
  std::string logprobs = {};
  bool begins = true;  // kCall: this is its first piece; others have no name and id
  bool ends = true;    // kCall: its last
};

/// Appends `part`, joined with the last one where they belong together.
void JoinPart(std::vector<AnswerPart>& parts, const AnswerPart& part);

/// One choice, whole.
struct Answer {
  std::vector<AnswerPart> parts;  // joined
  std::vector<TokenId> tokens;    // if the surface wants them
  ChoiceFinish finish;
};

/// What is known when the request is admitted.
struct AnswerHead {
  std::string id;            // random, without a surface's prefix
  std::int64_t created = 0;  // seconds since 1970
  std::string model;         // as answers name it
  std::string tenant;
  rt::Time now{};
};

class AnswerWriter {
 public:
  virtual ~AnswerWriter() = default;

  virtual Surface surface() const = 0;
  /// Before anything else.
  virtual void Begin(AnswerHead head) = 0;

  /// Events of a stream, of one choice. `usage` has what the prompt is.
  virtual void AppendStart(std::string& out, const Usage& usage) = 0;
  virtual void AppendPart(std::string& out, const AnswerPart& part) = 0;
  virtual void AppendTokens(std::string& out, std::span<const TokenId> tokens);
  virtual void AppendEnd(std::string& out, const ChoiceFinish& finish, const Usage& usage) = 0;
  /// Ends a stream that was started.
  virtual void AppendError(std::string& out, const Error& error) = 0;

  /// The body of an answer that is not streamed.
  virtual std::string Unary(std::span<const Answer> answers, const Usage& usage) = 0;
};

/// What a reader makes of a body.
struct SurfaceRequest {
  OpenAiRequest request;
  wire::Json body;                       // the same as OpenAI's completions have it, for records
  std::unique_ptr<AnswerWriter> writer;  // null: OpenAI's completions
  /// A wish, kept where the worker has the processor thinking_budget.
  std::optional<std::int64_t> thinking_tokens_max = {};
  bool tokens_only = false;  // token ids out, no text
};

/// Makes the common request of a body in OpenAI's form. `names`: what the caller's body calls its
/// fields. Errors: of ParseOpenAiRequest, in these names.
Result<SurfaceRequest> MakeSurfaceRequest(wire::Json body, Surface common, const FieldNames& names);

}  // namespace pixii::frontend
