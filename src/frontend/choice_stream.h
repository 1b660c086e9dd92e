// One choice of one request: frames of tokens in, text and tokens for the client out. Pure: no
// clock, no I/O.
//
// Thread: the frontend's loop.
// Stop strings are found here, across token borders; text that may begin one is held back. A
// token's id and logprob are released with its text. Usage is what was generated, counted once.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "frontend/chat_answer.h"
#include "frontend/text_processor.h"
#include "text/parsers/chat_parser.h"
#include "text/tokenizer/stop_matcher.h"
#include "wire/messages/generate.h"

namespace pixii::frontend {

/// Same for every choice of a request.
struct ChoiceOptions {
  std::vector<std::string> stops;       // as the client gave them
  std::vector<TokenId> stop_token_ids;  // the client's own, for stop_reason
  std::uint32_t min_tokens = 0;         // no stop string counts before
  bool include_stop = false;
  bool skip_special = true;
  bool wants_tokens = false;                   // ids or logprobs are part of the answer
  text::StopMatcher matcher;                   // made of `stops`; each choice starts from a copy
  std::shared_ptr<const ChatParsing> parsing;  // null: all text is content
};

enum class FinishKind : std::uint8_t { kStop, kLength, kToolCalls };

struct ChoiceFinish {
  FinishKind kind = FinishKind::kStop;
  std::variant<std::monostate, std::string, TokenId>
      stop_reason;  // the client's stop string or id that matched
};

/// What one step adds to a choice. Reused between steps to spare allocations.
struct ChoiceDelta {
  std::string text;                               // content, if nothing takes it apart
  std::vector<text::parsers::ParseEvent> events;  // else: its parts
  std::vector<TokenId> tokens;                    // only if wanted
  std::vector<wire::TokenLogprob> logprobs;       // [tokens] if the engine sent them
  std::optional<ChoiceFinish> finish;
  bool cancel_upstream = false;  // ended here: the engine need not go on

  bool empty() const { return text.empty() && events.empty() && tokens.empty() && !finish; }

  void Clear();
};

class ChoiceStream final {
 public:
  /// `options` and `text` outlive it; `text` may be null: no tokenizer, no text.
  ChoiceStream(const ChoiceOptions& options, const TextProcessor* text,
               std::span<const TokenId> prompt);

  /// Adds what `frame` brings to `delta`. Frames behind the end of the choice change nothing.
  /// Returns the error that ended the choice, if one did.
  std::optional<Error> Push(wire::TokenFrame& frame, ChoiceDelta& delta);

  bool ended() const { return ended_; }

  /// Tokens generated for this choice up to its end.
  std::uint32_t generated() const { return generated_; }

  /// Those of them up to the end of its reasoning, the markers with it.
  std::uint32_t reasoning_tokens() const { return reasoning_tokens_; }

 private:
  struct Held {
    TokenId token;
    std::uint64_t begin;  // of its text, in bytes from the start of the choice
    std::uint64_t end;    // kUnresolved: its bytes are still inside the decoder
    std::optional<wire::TokenLogprob> logprob;
  };

  static constexpr std::uint64_t kUnresolved = UINT64_MAX;

  std::optional<Error> PushFrame(wire::TokenFrame& frame, ChoiceDelta& delta);
  void TakeApart(ChoiceDelta& delta);
  void CountReasoning(const ChoiceDelta& delta);
  void Decode(TokenId token);
  void PushToken(TokenId token, wire::TokenLogprob* logprob, ChoiceDelta& delta);
  void PushText(std::string_view piece, bool may_stop, ChoiceDelta& delta);
  void Release(std::uint64_t text_end, bool cut, ChoiceDelta& delta);
  void Finish(const wire::TokenFrame& frame, ChoiceDelta& delta);

  const ChoiceOptions& options_;
  const TextProcessor* text_;
  std::unique_ptr<TextDecoder> decoder_;
  std::optional<text::parsers::ChatParser> parser_;
  text::StopMatcher matcher_;
  std::deque<Held> held_;
  std::string piece_;
  std::uint64_t decoded_bytes_ = 0;
  std::uint64_t sent_bytes_ = 0;
  std::uint32_t generated_ = 0;
  std::uint32_t reasoning_tokens_ = 0;
  bool reasons_ = false;
  bool ended_ = false;
};

}  // namespace pixii::frontend
