// A model as the frontend serves it: its name, its texts, its defaults.
//
// Thread: immutable.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "frontend/chat_answer.h"
#include "frontend/generation.h"
#include "frontend/model_media.h"
#include "frontend/openai_request.h"
#include "frontend/pooling_profile.h"
#include "frontend/text_processor.h"
#include "text/grammar/grammar_library.h"
#include "wire/messages/generate.h"

namespace pixii::frontend {

/// What generation_config.json says where a request says nothing.
struct SamplingDefaults {
  double temperature = 1.0;
  double top_p = 1.0;
  std::int64_t top_k = 0;
  double min_p = 0.0;
  double repetition_penalty = 1.0;
};

/// A logits processor that every chat asks for where the model's card has it.
inline constexpr std::string_view kTestProcessor = "test_hello_world";

struct ServedModel {
  std::vector<std::string> names;  // the first is said in answers; requests may use any
  std::shared_ptr<const TextProcessor>
      text;  // null: the checkpoint has no tokenizer, token ids only
  SamplingDefaults defaults;
  std::shared_ptr<const ChatAnswers> chat = {};  // null: answers are not taken apart
  std::int64_t created = 0;                      // seconds since 1970
  /// Null: answers cannot be constrained.
  std::shared_ptr<text::grammar::GrammarLibrary> grammars = {};
  PoolingProfile pooling = {};  // of a model that reads texts
  ImageGetter images = {};      // null: nothing is fetched or decoded here
  FileGetter files = {};        // of features that clients bring; null: they bring none
  FilmGetter films = {};
  std::uint64_t media_bytes_max = 0;  // MediaBounds::bytes_max

  const std::string& name() const { return names.front(); }

  bool Serves(std::string_view wanted) const;
};

/// The chat as the template sees it.
ChatPrompt ShownChat(const OpenAiRequest& request, const ServedModel& model);

/// Prompts as tokens, checked against the vocabulary and the context, and everything else an engine
/// needs. `seed`: used if the request gives none. The shape's id and created are left to the
/// caller. With pictures it waits for them: never on a loop; `abandoned` is asked before each.
/// Errors: kNotFound (model), kInvalidArgument, kUnsupported, kTooLarge (longer than the
/// context), with param.
Result<GenerationPlan> PlanGeneration(const OpenAiRequest& request, const ServedModel& model,
                                      const wire::ModelCard& card, std::uint64_t seed,
                                      std::function<bool()> abandoned = {});

/// Bytes of text that one token may stand for. A text past context x this is refused before it is
/// tokenized.
inline constexpr std::uint32_t kPromptBytesPerTokenMax = 256;

/// Errors: kTooLarge naming `field`, the size and the limit.
Result<void> CheckTextSize(std::string_view text, std::string_view field,
                           const wire::ModelCard& card);

/// That a model of this name is not served.
Error ModelNotFound(std::string_view name);

/// The adapter that `wanted` names; null: the model itself, which an empty name means too. Errors:
/// kNotFound.
Result<const wire::AdapterCard*> FindAdapter(std::string_view wanted, const ServedModel& model,
                                             const wire::ModelCard& card);

}  // namespace pixii::frontend
