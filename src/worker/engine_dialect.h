// How outside engines are spoken to: requests for tokens as their HTTP interfaces want them, and
// what they answer.
//
// Thread: values; no I/O. docs/attached_engines.md
// Sources: vLLM's OpenAI-compatible server, SGLang's native /generate, trtllm-serve, OpenAI's
// completions. What an engine cannot be told is refused, never left out silently.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "wire/json.h"
#include "wire/messages/generate.h"

namespace pixii::worker {

enum class EngineKind : std::uint8_t {
  kVllm,    // vllm serve
  kSglang,  // python -m sglang.launch_server
  kTrtllm,  // trtllm-serve
  kOpenAi,  // anything with /v1/completions
};

/// Nothing: no such engine.
std::optional<EngineKind> EngineKindOf(std::string_view name);
std::string_view NameOf(EngineKind kind);

/// The model's texts, for engines that take or give no tokens.
struct EngineText {
  std::function<Result<std::vector<TokenId>>(std::string_view text)> encode;  // nothing around it
  std::function<std::string(std::span<const TokenId> tokens)> decode;  // special ones as written
};

struct EngineDialect {
  EngineKind kind = EngineKind::kOpenAi;
  std::string model;           // as the engine calls it
  bool token_prompts = false;  // it takes prompts as tokens
  bool token_answers = false;  // it says which tokens it generated
  std::uint32_t vocab_size = 0;
  TokenId bos_token_id = -1;  // -1: none
  EngineText text;
};

struct EngineCall {
  std::string target;  // path below the engine's address
  std::string body;    // JSON
};

/// What asks the engine for one choice of `request`. Errors: kUnsupported naming what the engine
/// cannot be told.
Result<EngineCall> WriteEngineCall(const EngineDialect& dialect,
                                   const wire::GenerateRequest& request, std::uint32_t choice);

/// What one event of the engine's stream says.
struct EnginePiece {
  std::vector<TokenId> tokens;
  std::vector<wire::TokenLogprob> logprobs;  // [tokens] if asked for
  std::optional<wire::FinishReason> finish;  // kStop or kLength
  std::optional<TokenId> stop_token;
  std::optional<float> stop_logprob;
  std::optional<std::uint32_t> cached_tokens;
  bool is_last = false;  // the engine says no more
};

/// Reads the stream of one choice.
class EngineAnswerReader final {
 public:
  /// `dialect` outlives it.
  EngineAnswerReader(const EngineDialect& dialect, const wire::GenerateRequest& request,
                     std::uint32_t choice);

  /// Errors: what the engine says went wrong; kDataCorrupt for what no engine may say.
  Result<EnginePiece> Read(std::string_view data);

 private:
  Result<EnginePiece> ReadCompletion(const wire::Json& event);
  Result<EnginePiece> ReadSglang(const wire::Json& event);
  Result<void> TakeText(std::string_view text, EnginePiece& piece);
  Result<void> TakeTokens(const wire::Json& ids, std::size_t skipped, EnginePiece& piece) const;
  Result<void> TakeLogprobs(const wire::Json* logprobs, EnginePiece& piece) const;
  Result<void> TakeSglangLogprobs(const wire::Json& meta, EnginePiece& piece) const;
  Result<EnginePiece> Finished(EnginePiece piece);

  const EngineDialect& dialect_;
  std::vector<TokenId> ends_;  // tokens that end the choice
  std::int32_t top_logprobs_;
  std::size_t tokens_left_;           // it may still give
  std::size_t given_ = 0;             // tokens so far, as the engine counts
  std::vector<TokenId> text_tokens_;  // the last, of an engine that gives no tokens
};

/// Why an engine that answered `status` does not do it.
Error EngineRefusal(int status, std::string_view body);

}  // namespace pixii::worker
