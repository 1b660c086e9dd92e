#include "frontend/served_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/digest.h"
#include "frontend/answer_constraint.h"
#include "frontend/field_error.h"
#include "frontend/sampling_texts.h"

namespace pixii::frontend {

namespace {

Result<void> CheckIds(std::span<const TokenId> ids, std::string_view field,
                      const wire::ModelCard& card) {
  for (TokenId id : ids) {
    if (id < 0 || static_cast<std::uint32_t>(id) >= card.vocab_size) {
      return Bad(field, fmt::format("token id {} is out of range, allowed is [0, {}]", id,
                                    card.vocab_size - 1));
    }
  }
  return {};
}

// A model is not asked about pictures that nobody shows it.
Result<void> CheckWords(std::span<const TokenId> ids, std::string_view field,
                        const wire::ModelCard& card) {
  const auto found = std::ranges::find_if(
      ids, [&](TokenId id) { return card.vision && card.vision->StandsForMedia(id); });
  return found == ids.end()
             ? Result<void>()
             : Bad(field, fmt::format("token {} is {}, which stands for a picture and is not given "
                                      "as a token",
                                      found - ids.begin(), *found));
}

Result<std::vector<std::vector<TokenId>>> EncodePrompts(const OpenAiRequest& request,
                                                        const ServedModel& model,
                                                        const wire::ModelCard& card) {
  std::vector<std::vector<TokenId>> out;
  if (!request.media.empty() && (!card.vision || !model.images)) {
    return NotDone(request.media[0].where,
                   fmt::format("the model \"{}\" reads text alone; pictures are shown to models "
                               "with a vision tower",
                               model.name()));
  }
  if (!request.media.empty() && !request.prompts.empty()) {
    return NotDone("messages", "their pictures have no place among tokens that are given");
  }
  const auto film = std::ranges::find(request.media, wire::MediaKind::kVideo, &MediaPart::kind);
  if (film != request.media.end() && (!card.vision->film || !model.films)) {
    return NotDone(film->where,
                   fmt::format("the model \"{}\" is shown pictures, not videos", model.name()));
  }
  if (request.surface == Surface::kChat && request.prompts.empty()) {
    if (!model.text) {
      return Fail(
          Code::kUnsupported,
          fmt::format(
              "messages: the model \"{}\" has no tokenizer; use /v1/completions with token ids",
              model.name()),
          "messages");
    }
    ChatPrompt chat = ShownChat(request, model);
    if (card.vision && card.vision->frame_begin >= 0) {
      chat.frame = PictureFrame{.begin = card.vision->frame_begin,
                                .image = card.vision->image_token,
                                .end = card.vision->frame_end};
    }
    PX_TRY(auto tokens, model.text->EncodeChat(chat));
    if (request.media.empty()) {
      PX_CHECK_OK(CheckWords(tokens, "messages", card));
    }
    out.push_back(std::move(tokens));
    return out;
  }
  for (const PromptInput& input : request.prompts) {
    if (const auto* ids = std::get_if<std::vector<TokenId>>(&input)) {
      PX_CHECK_OK(CheckIds(*ids, "prompt", card));
      PX_CHECK_OK(CheckWords(*ids, "prompt", card));
      out.push_back(*ids);
      continue;
    }
    if (!model.text) {
      return Fail(
          Code::kUnsupported,
          fmt::format("prompt: the model \"{}\" has no tokenizer; give token ids", model.name()),
          "prompt");
    }
    PX_CHECK_OK(CheckTextSize(std::get<std::string>(input), "prompt", card));
    PX_TRY(auto tokens,
           model.text->Encode(
               std::get<std::string>(input),
               {.add_special = request.add_special_tokens.value_or(true), .parse_special = true}));
    PX_CHECK_OK(CheckWords(tokens, "prompt", card));
    out.push_back(std::move(tokens));
  }
  return out;
}

// How many tokens may be generated behind the longest prompt.
Result<std::uint32_t> CheckLength(const OpenAiRequest& request,
                                  std::span<const std::vector<TokenId>> prompts,
                                  const wire::ModelCard& card) {
  std::string_view field = request.surface == Surface::kChat ? "messages" : "prompt";
  std::uint64_t context = card.context_tokens_max;
  std::uint64_t longest = 0;
  for (const std::vector<TokenId>& prompt : prompts) {
    if (prompt.empty()) {
      return Bad(field, "encodes to no tokens");
    }
    longest = std::max<std::uint64_t>(longest, prompt.size());
  }
  bool generates = request.max_tokens != 0;
  if (longest + (generates ? 1 : 0) > context) {
    return Fail(Code::kTooLarge,
                fmt::format("{}: this model's maximum context length is {} tokens, the prompt has "
                            "{} and needs room "
                            "for at least one more",
                            field, context, longest),
                std::string(field));
  }
  if (!request.max_tokens) {
    return static_cast<std::uint32_t>(context - longest);
  }
  if (longest + static_cast<std::uint64_t>(*request.max_tokens) > context) {
    return Fail(
        Code::kTooLarge,
        fmt::format(
            "max_tokens: this model's maximum context length is {} tokens, the prompt has {} and "
            "max_tokens is {}",
            context, longest, *request.max_tokens),
        "max_tokens");
  }
  return static_cast<std::uint32_t>(*request.max_tokens);
}

// Mirostat takes the place of the filters, the model's defaults too.
void FillFilters(const OpenAiRequest& request, const SamplingDefaults& defaults,
                 wire::SamplingParams& out) {
  out.mirostat = {.on = request.mirostat,
                  .tau = static_cast<float>(request.mirostat_tau.value_or(5)),
                  .eta = static_cast<float>(request.mirostat_eta.value_or(0.1))};
  if (request.mirostat) {
    return;
  }
  out.top_p = static_cast<float>(request.top_p.value_or(defaults.top_p));
  out.top_k =
      static_cast<std::int32_t>(std::max<std::int64_t>(0, request.top_k.value_or(defaults.top_k)));
  out.min_p = static_cast<float>(request.min_p.value_or(defaults.min_p));
  out.top_a = static_cast<float>(request.top_a.value_or(0));
  out.typical_p = static_cast<float>(request.typical_p.value_or(1));
  out.xtc = {.probability = static_cast<float>(request.xtc_probability.value_or(0)),
             .threshold = static_cast<float>(request.xtc_threshold.value_or(0.1))};
}

Result<wire::SamplingParams> Sampling(const OpenAiRequest& request, const ServedModel& model,
                                      const wire::ModelCard& card, std::uint64_t seed) {
  const SamplingDefaults& defaults = model.defaults;
  wire::SamplingParams out;
  FillFilters(request, defaults, out);
  out.temperature = static_cast<float>(request.temperature.value_or(defaults.temperature));
  out.presence_penalty = static_cast<float>(request.presence_penalty.value_or(0));
  out.frequency_penalty = static_cast<float>(request.frequency_penalty.value_or(0));
  out.repetition_penalty =
      static_cast<float>(request.repetition_penalty.value_or(defaults.repetition_penalty));
  out.seed = request.seed.value_or(seed);
  out.logit_bias = request.logit_bias;
  out.allowed_token_ids = request.allowed_token_ids;
  out.dry = {.multiplier = static_cast<float>(request.dry_multiplier.value_or(0)),
             .base = static_cast<float>(request.dry_base.value_or(1.75)),
             .allowed_length = static_cast<std::uint32_t>(request.dry_allowed_length.value_or(2)),
             .range = static_cast<std::uint32_t>(request.dry_range.value_or(0)),
             .breakers = {}};
  PX_CHECK_OK(FillSamplingTexts(request, model.text.get(), out));
  PX_CHECK_OK(CheckIds(out.allowed_token_ids, "allowed_token_ids", card));
  for (const std::vector<TokenId>& word : out.bad_words) {
    PX_CHECK_OK(CheckIds(word, "bad_words", card));
  }
  return out;
}

Result<std::vector<wire::LogitsProcessorCall>> Processors(const OpenAiRequest& request,
                                                          const ServedModel& model,
                                                          const wire::ModelCard& card) {
  std::vector<wire::LogitsProcessorCall> out;
  for (const ProcessorRequest& processor : request.logits_processors) {
    if (std::ranges::find(card.logits_processors, processor.name) == card.logits_processors.end()) {
      return Bad(
          "nvext.logits_processors",
          fmt::format("\"{}\" is not in this worker's allow-list{}", processor.name.substr(0, 100),
                      card.logits_processors.empty() ? ", which is empty" : ""));
    }
    PX_TRY(auto call, MakeProcessorCall(processor, model.text.get()));
    out.push_back(std::move(call));
  }
  if (request.surface == Surface::kChat &&
      std::ranges::find(card.logits_processors, kTestProcessor) != card.logits_processors.end()) {
    out.push_back({std::string(kTestProcessor), ""});
  }
  return out;
}

BeamOptions MakeBeams(const OpenAiRequest& request, const wire::GenerateRequest& prototype) {
  BeamOptions beams{.width = request.candidate_count(),
                    .length_penalty = request.length_penalty.value_or(1),
                    .early_stopping = request.early_stopping.value_or(false),
                    .max_tokens = prototype.stop.max_tokens,
                    .min_tokens = prototype.stop.min_tokens,
                    .top_logprobs = prototype.top_logprobs,
                    .end_ids = prototype.stop.stop_token_ids};
  if (!prototype.stop.ignore_eos) {
    beams.end_ids.insert(beams.end_ids.end(), prototype.stop.eos_token_ids.begin(),
                         prototype.stop.eos_token_ids.end());
  }
  return beams;
}

// What is handed over is one answer, and no state but its tokens.
Result<void> CheckDisaggregated(const OpenAiRequest& request, const GenerationPlan& plan) {
  if (!request.disaggregated ||
      (!request.disaggregated->context_only && !request.disaggregated->generation_only)) {
    return {};
  }
  const bool has_state = request.top_logprobs >= 0 || request.prompt_logprobs || request.mirostat;
  if (plan.prompts.size() != 1 || request.candidate_count() != 1 || request.uses_beams() ||
      request.echo.value_or(false)) {
    return NotDone("disaggregated_params",
                   "one prompt and one choice, without echo, is handed over");
  }
  if (has_state) {
    return NotDone("disaggregated_params",
                   "logprobs and mirostat have a state that is not handed over");
  }
  return {};
}

void ApplyDisaggregated(const OpenAiRequest& request, GenerationPlan& plan) {
  if (!request.disaggregated) {
    return;
  }
  wire::GenerateRequest& prototype = plan.prototype;
  const DisaggregatedParams& params = *request.disaggregated;
  plan.context_only = params.context_only;
  if (params.context_only) {
    prototype.prefill_only = true;
    prototype.stop.max_tokens = 1;
    prototype.stop.min_tokens = std::min<std::uint32_t>(prototype.stop.min_tokens, 1);
  } else if (params.generation_only) {
    prototype.generated = {params.first_gen_tokens};
    prototype.handover = params.opaque_state;
  }
}

}  // namespace

bool ServedModel::Serves(std::string_view wanted) const {
  return std::find(names.begin(), names.end(), wanted) != names.end();
}

Error ModelNotFound(std::string_view name) {
  const std::string shown = wire::Json(name).Dump();
  return Error(Code::kNotFound,
               fmt::format("Model not found: {} is not served here", shown.substr(0, 300)),
               "model");
}

Result<const wire::AdapterCard*> FindAdapter(std::string_view wanted, const ServedModel& model,
                                             const wire::ModelCard& card) {
  const wire::AdapterCard* none = nullptr;
  if (wanted.empty() || model.Serves(wanted)) {
    return none;
  }
  auto found = std::ranges::find(card.adapters, wanted, &wire::AdapterCard::name);
  if (found != card.adapters.end()) {
    return &*found;
  }
  return Fail(ModelNotFound(wanted));
}

Result<void> CheckTextSize(std::string_view text, std::string_view field,
                           const wire::ModelCard& card) {
  std::uint64_t bytes_max = std::uint64_t{card.context_tokens_max} * kPromptBytesPerTokenMax;
  if (text.size() > bytes_max) {
    return Fail(
        Code::kTooLarge,
        fmt::format(
            "{}: {} bytes of text cannot fit the context of {} tokens; at most {} bytes are read",
            field, text.size(), card.context_tokens_max, bytes_max),
        std::string(field));
  }
  return {};
}

// As Dynamo's default: tools that must not be called are not shown.
ChatPrompt ShownChat(const OpenAiRequest& request, const ServedModel& model) {
  ChatPrompt out = request.chat;
  if (request.tool_choice == ToolChoice::kNone &&
      (!model.chat || model.chat->options.exclude_tools_when_none)) {
    out.tools = wire::Json();
  }
  return out;
}

namespace {

// `words` behind `prompt`, as its tokenizer takes them where they stand in the same text. Texts end
// at special tokens, so only what follows the last one is looked at again, and it stays ordinary
// text.
Result<void> AddWords(const TextProcessor& text, std::string_view words,
                      std::vector<TokenId>& prompt) {
  const auto special = std::find_if(prompt.rbegin(), prompt.rend(),
                                    [&](TokenId token) { return text.IsSpecial(token); });
  std::string joined = DecodeAll(text, std::span(special.base(), prompt.end()), false);
  joined += words;
  PX_TRY(const std::vector<TokenId> tokens,
         text.Encode(joined, {.add_special = false, .parse_special = false}));
  prompt.erase(special.base(), prompt.end());
  prompt.insert(prompt.end(), tokens.begin(), tokens.end());
  return {};
}

// Last, since it takes long: what else is wrong with a request was said before.
Result<void> ShowPictures(const OpenAiRequest& request, const ServedModel& model,
                          const wire::ModelCard& card, std::function<bool()> abandoned,
                          GenerationPlan& plan) {
  PX_TRY(MediaPrompt shown,
         ShowMedia(plan.prompts[0], request.media,
                   ModelMedia(*card.vision, model.images, model.files, model.films),
                   {.tokens_max = card.context_tokens_max,
                    .bytes_max = model.media_bytes_max,
                    .abandoned = std::move(abandoned),
                    .add_words = [&](std::string_view words, std::vector<TokenId>& prompt) {
                      return model.text ? AddWords(*model.text, words, prompt) : Result<void>();
                    }}));
  plan.prompts[0] = std::move(shown.tokens);
  wire::GenerateRequest& prototype = plan.prototype;
  prototype.media = std::move(shown.media);
  PX_TRY(prototype.stop.max_tokens, CheckLength(request, plan.prompts, card));
  if (prototype.stop.min_tokens > prototype.stop.max_tokens) {
    return Bad("min_tokens", fmt::format("{} is more than the {} tokens that may follow",
                                         prototype.stop.min_tokens, prototype.stop.max_tokens));
  }
  if (plan.beams) {
    plan.beams = MakeBeams(request, prototype);
  }
  return {};
}

}  // namespace

Result<GenerationPlan> PlanGeneration(const OpenAiRequest& request, const ServedModel& model,
                                      const wire::ModelCard& card, std::uint64_t seed,
                                      std::function<bool()> abandoned) {
  PX_TRY(const wire::AdapterCard* adapter, FindAdapter(request.model, model, card));
  if (card.task != wire::ModelTask::kGenerate) {
    return Fail(Code::kNotFound,
                fmt::format("the model \"{}\" {} texts and does not generate; use {}", model.name(),
                            card.task == wire::ModelTask::kEmbed ? "embeds" : "classifies",
                            card.task == wire::ModelTask::kEmbed ? "/v1/embeddings"
                                                                 : "/v1/score or /classify"),
                "model");
  }
  PX_CHECK_OK(CheckIds(request.stop_token_ids, "stop_token_ids", card));
  for (const auto& [token, bias] : request.logit_bias) {
    PX_CHECK_OK(CheckIds({&token, 1}, "logit_bias", card));
  }
  if (!model.text && !request.stop.empty()) {
    return Fail(
        Code::kUnsupported,
        fmt::format("stop: the model \"{}\" has no tokenizer; use stop_token_ids", model.name()),
        "stop");
  }
  PX_CHECK_OK(CheckToolUse(request));
  GenerationPlan plan;
  PX_TRY(plan.prompts, EncodePrompts(request, model, card));
  PX_TRY(std::uint32_t max_tokens, CheckLength(request, plan.prompts, card));
  if (request.min_tokens.value_or(0) > max_tokens) {
    return Bad("min_tokens", fmt::format("{} is more than the {} tokens that may follow",
                                         *request.min_tokens, max_tokens));
  }
  PX_CHECK_OK(CheckDisaggregated(request, plan));
  if (request.disaggregated) {
    PX_CHECK_OK(CheckIds(request.disaggregated->first_gen_tokens,
                         "disaggregated_params.first_gen_tokens", card));
    PX_CHECK_OK(CheckWords(request.disaggregated->first_gen_tokens,
                           "disaggregated_params.first_gen_tokens", card));
  }
  plan.stream = request.streams();
  plan.echo = request.echo.value_or(false);
  bool logprobs = request.top_logprobs >= 0;
  plan.prompt_logprobs = request.prompt_logprobs.has_value();
  plan.skip_engine = max_tokens == 0 && !logprobs && !plan.prompt_logprobs;
  if (plan.echo) {
    for (std::size_t i = 0; i < plan.prompts.size(); ++i) {
      const auto* text = std::get_if<std::string>(&request.prompts[i]);
      plan.echo_texts.push_back(text != nullptr ? *text
                                : model.text    ? DecodeAll(*model.text, plan.prompts[i], false)
                                                : std::string());
    }
  }
  plan.shape = {
      .surface = request.surface,
      .id = {},
      .created = 0,
      .model = adapter != nullptr ? adapter->name : model.name(),
      .system_fingerprint =
          "fp_" + Sha256Hex(card.fingerprint + "/" + card.numerics_id).substr(0, 10),
      .logprobs = logprobs,
      .top_logprobs = static_cast<std::size_t>(std::max(request.top_logprobs, 0)),
      .prompt_top_logprobs = static_cast<std::size_t>(request.prompt_logprobs.value_or(0)),
      .token_ids = request.return_token_ids.value_or(false),
      .include_usage = request.include_usage,
      .receipt = request.receipt.value_or(false),
      .tokens_as_ids = request.tokens_as_ids.value_or(false),
      .nvext = request.nvext};
  if (model.chat) {
    const ChatAnswerOptions& answers = model.chat->options;
    plan.shape.reasoning_field = answers.reasoning_field;
    plan.shape.include_reasoning = request.include_reasoning.value_or(true);
    plan.shape.tool_call_dispatch = answers.tool_call_dispatch;
    plan.shape.reasoning_dispatch = answers.reasoning_dispatch;
  }
  wire::GenerateRequest& prototype = plan.prototype;
  prototype.model = card.name;
  prototype.adapter = adapter != nullptr ? adapter->name : std::string();
  prototype.choice_count =
      request.uses_beams() ? request.choice_count() : request.candidate_count();
  PX_TRY(prototype.sampling, Sampling(request, model, card, seed));
  PX_TRY(prototype.processors, Processors(request, model, card));
  prototype.processed_logprobs = request.processed_logprobs;
  prototype.cache_salt = request.cache_salt;
  prototype.routing = request.routing;
  prototype.dp_rank = request.dp_rank;
  prototype.priority = static_cast<std::int32_t>(-request.priority.value_or(0));
  prototype.stop.max_tokens = max_tokens;
  prototype.stop.min_tokens = static_cast<std::uint32_t>(request.min_tokens.value_or(0));
  prototype.stop.ignore_eos = request.ignore_eos.value_or(false);
  prototype.stop.eos_token_ids = card.eos_token_ids;
  prototype.stop.stop_token_ids = request.stop_token_ids;
  ApplyDisaggregated(request, plan);
  plan.given_count = request.choice_count();
  // The best are those of the highest mean logprob.
  prototype.top_logprobs = plan.given_count < prototype.choice_count
                               ? std::max(request.top_logprobs, 0)
                               : request.top_logprobs;
  prototype.prompt_logprobs = (plan.echo && logprobs) || plan.prompt_logprobs;
  prototype.top_logprobs = std::max(
      prototype.top_logprobs, static_cast<std::int32_t>(request.prompt_logprobs.value_or(-1)));
  if (request.uses_beams()) {
    plan.beams = MakeBeams(request, prototype);
  }
  plan.choices.stops = request.stop;
  plan.choices.stop_token_ids = request.stop_token_ids;
  plan.choices.min_tokens = prototype.stop.min_tokens;
  plan.choices.include_stop = request.include_stop_str_in_output.value_or(false);
  plan.choices.skip_special = request.skip_special_tokens.value_or(true);
  plan.choices.wants_tokens =
      logprobs || plan.shape.token_ids || plan.given_count < prototype.choice_count;
  if (model.text && !plan.prompts.empty()) {
    plan.choices.parsing = PlanParsing(request, model.chat, *model.text, plan.prompts[0]);
  }
  PX_TRY(prototype.constraint, PlanConstraint(request, model, plan.choices.parsing.get()));
  if (prototype.constraint && prototype.constraint->kind == wire::ConstraintKind::kScript &&
      !plan.shape.tool_call_dispatch) {
    // No later byte can spoil an enforced call: its arguments go out as they are written.
    auto parsing = std::make_shared<ChatParsing>(*plan.choices.parsing);
    parsing->options.pieces = true;
    plan.choices.parsing = std::move(parsing);
  }
  if (!request.stop.empty()) {
    PX_TRY(plan.choices.matcher,
           text::StopMatcher::Create(request.stop, plan.choices.include_stop));
  }
  if (!request.media.empty()) {
    PX_CHECK_OK(ShowPictures(request, model, card, std::move(abandoned), plan));
  }
  return plan;
}

}  // namespace pixii::frontend
