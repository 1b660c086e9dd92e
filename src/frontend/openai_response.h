// Writes responses in OpenAI's shapes. Chunks of a stream are appended by hand: no JSON tree per
// token.
//
// Thread: the frontend's loop.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "frontend/choice_stream.h"
#include "frontend/openai_request.h"
#include "frontend/receipt.h"

namespace pixii::frontend {

struct Usage {
  std::uint64_t prompt_tokens = 0;
  std::uint64_t completion_tokens = 0;
  std::uint64_t cached_tokens = 0;
  std::uint64_t reasoning_tokens = 0;  // of completion_tokens, up to the end of the reasoning
};

/// What all responses of one request share.
struct ResponseShape {
  Surface surface = Surface::kChat;
  std::string id;            // "chatcmpl-..." or "cmpl-..."
  std::int64_t created = 0;  // seconds since 1970
  std::string model;
  std::string system_fingerprint;
  bool logprobs = false;
  std::size_t top_logprobs = 0;         // likeliest tokens shown beside each token
  std::size_t prompt_top_logprobs = 0;  // and beside each token of the prompt
  bool token_ids = false;
  bool include_usage = false;  // of a stream
  bool receipt = false;
  bool tokens_as_ids = false;  // logprobs name tokens as "token_id:N"
  NvextAnswer nvext = {};
  std::string reasoning_field = "reasoning_content";
  bool include_reasoning = true;
  bool tool_call_dispatch = false;  // of a stream: events beside the chunks
  bool reasoning_dispatch = false;
};

/// How long an answer took; of the field nvext.
struct AnswerTiming {
  double first_token_ms = 0;
  double between_tokens_ms = 0;  // mean; 0 with a single token
  double total_ms = 0;
};

/// Of a choice that was computed in several parts.
struct Recomputation {
  std::uint32_t choice = 0;
  ComputedParts parts;
};

/// The numerics_ids of all parts in order, with commas: a header's value.
std::string RecomputedText(std::span<const Recomputation> recomputed);

/// As OpenAI calls it.
std::string_view FinishName(FinishKind kind);

/// {"recomputed":[{"index", "parts"}, …]}, without the braces.
void AppendRecomputed(std::string& out, std::span<const Recomputation> recomputed);

/// The members of nvext that were asked for, as ,"nvext":{…}, and `recomputed` if there is any;
/// empty: none. `finish`: of the only choice, else null. `worker`: all zero where there is only
/// one.
std::string NvextMember(const ResponseShape& shape, const ChoiceFinish* finish,
                        const AnswerTiming& timing, const wire::WorkerRank& worker,
                        std::span<const Recomputation> recomputed = {});

/// An answer without choices that says where the request would go and what its prompt is.
std::string QueryBody(const ResponseShape& shape, std::span<const TokenId> prompt,
                      const wire::WorkerRank& worker, bool stream);

/// Events that stand beside the answer, before it.
void AppendAnnotations(std::string& out, const ResponseShape& shape,
                       std::span<const TokenId> prompt);

/// Logprobs of tokens as OpenAI writes them, gathered piece by piece.
class LogprobWriter final {
 public:
  /// `text` may be null: tokens are then written as "token_id:N".
  LogprobWriter(Surface surface, const TextProcessor* text, std::size_t top_max)
      : surface_(surface), text_(text), top_max_(top_max) {}

  /// Appends one entry. A null `logprob` is the first token of a prompt, of which there is none.
  void Add(TokenId token, const wire::TokenLogprob* logprob);
  /// The object, and starts anew; text_offset goes on.
  std::string Take();

  /// Of a chat: its entries without the object, with commas between them.
  std::string TakeEntries() { return std::exchange(first_, {}); }

 private:
  std::string Token(TokenId token) const;
  void AddChat(TokenId token, const wire::TokenLogprob& logprob);
  void AppendChatEntry(std::string& out, TokenId token, float logprob) const;

  Surface surface_;
  const TextProcessor* text_;
  std::size_t top_max_;
  std::string first_;   // chat: content entries; completions: tokens
  std::string second_;  // token_logprobs
  std::string third_;   // top_logprobs
  std::string fourth_;  // text_offset
  std::uint64_t offset_ = 0;
};

/// One choice of a unary response, already as text.
struct FinishedChoice {
  std::string text;
  std::string reasoning;
  std::vector<text::parsers::ParsedCall> calls;
  std::vector<TokenId> tokens;
  std::string logprobs;         // object, empty: null
  std::string prompt_logprobs;  // array, empty: not asked for
  ChoiceFinish finish;
  std::span<const TokenId> prompt;  // written if token ids are wanted
};

/// vLLM's prompt_logprobs: for each token of `prompt` an object of its id and the likeliest ones;
/// null for the first. `logprobs` [prompt]; `text` may be null.
std::string PromptLogprobs(std::span<const TokenId> prompt,
                           std::span<const wire::TokenLogprob> logprobs, const ResponseShape& shape,
                           const TextProcessor* text);

void AppendUsage(std::string& out, const Usage& usage);

/// `receipt` null: none was asked for.
/// `more`: members at the end, each with a comma in front.
std::string UnaryBody(const ResponseShape& shape, std::span<const FinishedChoice> choices,
                      const Usage& usage, const Receipt* receipt, std::string_view more = {});

/// Events of one streamed response.
class StreamWriter final {
 public:
  StreamWriter(ResponseShape shape, std::uint32_t choice_count);

  /// The first event of a chat choice: its role; and its prompt's ids if wanted.
  void AppendStart(std::string& out, std::uint32_t choice, std::span<const TokenId> prompt);
  /// Text, tokens and logprobs. `logprobs`: object, empty: null.
  void AppendDelta(std::string& out, std::uint32_t choice, const ChoiceDelta& delta,
                   std::string_view logprobs);
  /// A part of the answer: reasoning, content or a call. `delta` gives the tokens, if they go with
  /// it. Writes nothing for what the client does not want.
  void AppendPart(std::string& out, std::uint32_t choice, const text::parsers::ParseEvent& part,
                  const ChoiceDelta* delta, std::string_view logprobs);
  /// The last event of a choice. `more`: members of the event, each with a comma in front.
  void AppendFinish(std::string& out, std::uint32_t choice, const ChoiceFinish& finish,
                    std::string_view more = {});
  /// Usage and receipt if asked for, then [DONE].
  void AppendEnd(std::string& out, const Usage& usage, const Receipt* receipt) const;
  /// An error ends the stream; no [DONE] follows.
  static void AppendError(std::string& out, const Error& error);

 private:
  void Begin(std::string& out, std::uint32_t choice) const;
  void AppendDispatch(std::string& out, std::uint32_t choice,
                      const text::parsers::ParseEvent& part);
  void AppendFields(std::string& out, std::string_view logprobs,
                    std::span<const TokenId> tokens) const;

  ResponseShape shape_;
  std::string head_;                    // data: {"id":…,"choices":[{"index":
  std::vector<std::string> openings_;   // head_ and index of each choice
  std::vector<std::string> reasoning_;  // of each choice, if reasoning_dispatch
  std::string_view end_;
};

}  // namespace pixii::frontend
