// Bodies of /v1/chat/completions and /v1/completions as typed values. docs/api.md lists every
// field.
//
// Thread: values.
// Nothing is ignored: an unknown field, an unsupported one and a value out of range are refused
// with the field's name. Limits that do not depend on the model stand in one table in
// openai_request.cc; `null` means absent.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "frontend/disaggregated_params.h"
#include "frontend/field_names.h"
#include "frontend/media_reader.h"
#include "frontend/text_processor.h"
#include "wire/json.h"
#include "wire/messages/constraint.h"
#include "wire/messages/routing.h"

namespace pixii::frontend {

inline constexpr std::uint32_t kChoicesMax = 128;  // prompts x n of one request
inline constexpr std::uint32_t kTopLogprobsMax = 20;
inline constexpr std::uint32_t kStopTokenIdsMax = 128;
inline constexpr std::uint32_t kLogitBiasEntriesMax = 1024;
inline constexpr std::uint32_t kToolsMax = 128;
inline constexpr std::uint32_t kMessagesMax = 16'384;
inline constexpr std::uint32_t kLabelBytesMax = 512;  // user, request_id, a metadata value

inline constexpr std::uint32_t kAllowedTokenIdsMax = 65'536;
inline constexpr std::uint32_t kBadWordsMax = 1024;
inline constexpr std::uint32_t kWordBytesMax = 256;   // of a bad word or a sequence breaker
inline constexpr std::uint32_t kWordTokensMax = 256;  // of a bad word
inline constexpr std::uint32_t kDryBreakersMax = 64;
inline constexpr std::uint32_t kLogitsProcessorsMax = 16;
inline constexpr std::uint32_t kBeamWidthMax =
    kTopLogprobsMax / 2;  // a beam offers 2 x width tokens

/// What a route gives; bits, so that a table can name several.
enum class Surface : std::uint16_t {
  kChat = 1,
  kCompletions = 2,
  kEmbeddings = 4,
  kScore = 8,
  kRerank = 16,
  kClassify = 32,
  kMessages = 64,    // Anthropic's
  kResponses = 128,  // OpenAI's
  kKserve = 256,     // tensors
  kTokens = 512,     // token ids in, token ids out
};

/// Whether the model may, must or must not call a tool.
enum class ToolChoice : std::uint8_t { kAuto, kNone, kRequired, kNamed };

using PromptInput = std::variant<std::string, std::vector<TokenId>>;

/// One of nvext.logits_processors.
struct ProcessorRequest {
  std::string name;
  wire::Json arguments;  // an object, or null
};

/// What of nvext an answer shows, and which events a stream has beside it.
struct NvextAnswer {
  bool timing = false;
  bool worker_id = false;
  bool stop_reason = false;
  bool request_id_event = false;
  bool token_ids_event = false;
  bool query_worker = false;  // where it would go, in place of an answer

  bool shows_fields() const { return timing || worker_id || stop_reason; }
};

/// What an operator decides about bodies.
struct RequestRules {
  bool ignore_unknown = false;  // root fields that are unknown or not supported are dropped
  bool ignore_nvext = false;    // nvext is dropped unread
  bool force_usage = false;     // streams end with usage, asked for or not
};

/// Messages as templates expect them, and what they show beside text.
struct ChatMessages {
  wire::Json messages;
  std::vector<MediaPart> media;
};

struct OpenAiRequest {
  Surface surface = Surface::kChat;
  std::string model;
  FieldNames names;  // the caller's, for errors that are found behind the reading of the body

  // Prompt.
  ChatPrompt chat;
  std::vector<MediaPart> media;  // of chat.messages, in their order
  ToolChoice tool_choice = ToolChoice::kAuto;
  std::string tool_choice_name;  // kNamed
  std::optional<bool> parallel_tool_calls;
  std::vector<PromptInput> prompts;  // 1 .. kChoicesMax
  std::optional<bool> add_special_tokens;

  // Sampling; absent: the model's default.
  std::optional<double> temperature;
  std::optional<double> top_p;
  std::optional<std::int64_t> top_k;
  std::optional<double> min_p;
  std::optional<double> presence_penalty;
  std::optional<double> frequency_penalty;
  std::optional<double> repetition_penalty;
  std::optional<std::uint64_t> seed;
  std::vector<std::pair<TokenId, float>> logit_bias;
  std::optional<double> top_a;
  std::optional<double> typical_p;
  std::optional<double> dry_multiplier;
  std::optional<double> dry_base;
  std::optional<std::int64_t> dry_allowed_length;
  std::optional<std::int64_t> dry_range;
  std::optional<std::vector<std::string>> dry_sequence_breakers;
  std::optional<double> xtc_probability;
  std::optional<double> xtc_threshold;
  bool mirostat = false;
  std::optional<double> mirostat_tau;
  std::optional<double> mirostat_eta;
  std::vector<TokenId> allowed_token_ids;  // empty: all
  std::vector<PromptInput> bad_words;      // texts or token ids
  std::optional<std::int64_t> best_of;
  std::optional<bool> use_beam_search;
  std::optional<std::int64_t> beam_width;  // best_of, else n
  std::optional<double> length_penalty;
  std::optional<bool> early_stopping;
  std::vector<ProcessorRequest> logits_processors;
  bool processed_logprobs = false;
  std::optional<bool> tokens_as_ids;  // logprobs name tokens as "token_id:N"

  // Length and ends.
  std::optional<std::int64_t> n;
  std::optional<std::int64_t> max_tokens;  // max_completion_tokens too
  std::optional<std::int64_t> min_tokens;
  std::optional<std::int64_t> priority;  // lower goes first
  std::string cache_salt;                // empty: none
  std::optional<bool> ignore_eos;
  std::vector<std::string> stop;
  std::vector<TokenId> stop_token_ids;
  std::optional<bool> include_stop_str_in_output;

  // Form of the answer.
  std::optional<wire::Constraint> constraint;
  std::string constraint_field;  // of the body that says so
  std::optional<bool> stream;
  bool include_usage = false;
  std::optional<bool> echo;
  std::optional<std::int64_t>
      prompt_logprobs;             // likeliest tokens shown at each place of the prompt
  std::int32_t top_logprobs = -1;  // -1: none asked for
  std::optional<bool> skip_special_tokens;
  std::optional<bool> return_token_ids;
  std::optional<bool> include_reasoning;
  std::optional<bool> receipt;
  NvextAnswer nvext;

  // Where it goes.
  std::optional<wire::RoutingHints> routing;
  std::optional<DisaggregatedParams> disaggregated;
  std::optional<std::uint32_t> dp_rank;
  bool warms_next_turn = false;  // the turn behind it is computed ahead, as far as it is known

  bool streams() const { return stream.value_or(false); }

  std::uint32_t choice_count() const { return static_cast<std::uint32_t>(n.value_or(1)); }

  bool uses_beams() const { return use_beam_search.value_or(false); }

  /// Choices that are generated, or beams; the best choice_count() of them are given.
  std::uint32_t candidate_count() const {
    std::int64_t asked = best_of.value_or(n.value_or(1));
    return static_cast<std::uint32_t>(uses_beams() ? beam_width.value_or(asked) : asked);
  }
};

/// Errors: kInvalidArgument and kUnsupported, always with the field as param, as the body has it.
Result<OpenAiRequest> ParseOpenAiRequest(const wire::Json& body, Surface surface,
                                         const RequestRules& rules = {});

/// What RequestRules::ignore_nvext means, for bodies of any surface.
void DropNvext(wire::Json& body);

/// Checks chat messages and brings them into the form that templates expect. Errors name
/// `messages[i].field`.
Result<ChatMessages> ParseMessages(const wire::Json& messages);
Result<wire::Json> ParseTools(const wire::Json& tools);

/// With the spelling that answers are held to.
wire::Constraint MakeConstraint(wire::ConstraintKind kind, std::string text);

/// A list of token ids, each in [0, 2^31). Errors name `param`.
Result<std::vector<TokenId>> ParseTokenIds(const wire::Json& list, std::string_view param);

/// "12" or "\"abc…\"": a value for an error message, cut to 60 bytes.
std::string Shown(const wire::Json& value);

}  // namespace pixii::frontend
