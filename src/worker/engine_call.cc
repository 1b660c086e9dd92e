#include <fmt/format.h>

#include <array>
#include <span>
#include <utility>

#include "base/hash.h"
#include "wire/public_hash.h"
#include "wire/zmq_kv_event.h"
#include "worker/engine_dialect.h"

namespace pixii::worker {

using wire::ConstraintKind;
using wire::Json;

namespace {

constexpr std::uint64_t kSeedMask = 0x7FFFFFFFFFFFFFFFULL;  // engines take signed ones

constexpr std::pair<std::string_view, EngineKind> kKinds[] = {{"vllm", EngineKind::kVllm},
                                                              {"sglang", EngineKind::kSglang},
                                                              {"trtllm", EngineKind::kTrtllm},
                                                              {"openai", EngineKind::kOpenAi}};

tl::unexpected<Error> Cannot(EngineKind kind, std::string_view what, std::string param) {
  return Fail(Code::kUnsupported,
              fmt::format("{}: the {} engine behind this worker cannot be asked for {}", param,
                          NameOf(kind), what),
              param);
}

// What no engine is told of.
Result<void> CheckRequest(const EngineDialect& dialect, const wire::GenerateRequest& request) {
  const EngineKind kind = dialect.kind;
  const wire::SamplingParams& sampling = request.sampling;
  if (request.pool) {
    return Cannot(kind, "vectors or scores", "input");
  }
  if (request.prompt_logprobs) {
    return Cannot(kind, "logprobs of the prompt", "prompt_logprobs");
  }
  if (!request.processors.empty()) {
    return Cannot(kind, "logits processors", "logits_processors");
  }
  if (request.processed_logprobs) {
    return Cannot(kind, "logprobs of the sampled row", "logprobs_mode");
  }
  if (sampling.top_a != 0.0F || sampling.typical_p != 1.0F) {
    return Cannot(kind, "this filter", sampling.top_a != 0.0F ? "top_a" : "typical_p");
  }
  if (sampling.dry.multiplier != 0.0F || sampling.xtc.probability != 0.0F || sampling.mirostat.on) {
    return Cannot(kind, "DRY, XTC or Mirostat", "sampling");
  }
  if (!sampling.bad_words.empty()) {
    return Cannot(kind, "bad words as tokens", "bad_words");
  }
  if (!sampling.allowed_token_ids.empty() && kind != EngineKind::kVllm) {
    return Cannot(kind, "a choice of tokens", "allowed_token_ids");
  }
  if (request.top_logprobs >= 0 && !dialect.token_answers) {
    return Cannot(kind, "logprobs: it does not say which tokens they are of", "logprobs");
  }
  if (!request.adapter.empty() && kind != EngineKind::kVllm && kind != EngineKind::kSglang) {
    return Cannot(kind, "an adapter", "model");
  }
  return {};
}

// Each choice draws from a stream of its own.
std::uint64_t SeedOf(const wire::GenerateRequest& request, std::uint32_t choice) {
  std::uint64_t seed = request.sampling.seed;
  if (choice > 0) {
    const std::array<std::uint64_t, 2> words = {seed, choice};
    seed = Hash64(std::as_bytes(std::span(words)));
  }
  return seed & kSeedMask;
}

std::vector<TokenId> PromptOf(const wire::GenerateRequest& request, std::uint32_t choice) {
  std::vector<TokenId> prompt = request.prompt;
  if (choice < request.generated.size()) {
    const std::vector<TokenId>& generated = request.generated[choice];
    prompt.insert(prompt.end(), generated.begin(), generated.end());
  }
  return prompt;
}

std::uint32_t Left(std::uint32_t count, const wire::GenerateRequest& request,
                   std::uint32_t choice) {
  const std::size_t done = choice < request.generated.size() ? request.generated[choice].size() : 0;
  return done >= count ? 0 : count - static_cast<std::uint32_t>(done);
}

Json IdsOf(std::span<const TokenId> tokens) {
  Json::Array ids;
  ids.reserve(tokens.size());
  for (const TokenId token : tokens) {
    ids.emplace_back(static_cast<std::int64_t>(token));
  }
  return ids;
}

// As JSON numbers go: the shortest digits of the float, not of its double.
Json Number(float value) { return Json::Number(fmt::format("{}", value)); }

void SetSampling(const wire::SamplingParams& sampling, Json& out) {
  out.Set("temperature", Number(sampling.temperature));
  out.Set("top_p", Number(sampling.top_p));
  if (sampling.top_k > 0) {
    out.Set("top_k", static_cast<std::int64_t>(sampling.top_k));
  }
  const std::tuple<const char*, float, float> others[] = {
      {"min_p", sampling.min_p, 0.0F},
      {"presence_penalty", sampling.presence_penalty, 0.0F},
      {"frequency_penalty", sampling.frequency_penalty, 0.0F},
      {"repetition_penalty", sampling.repetition_penalty, 1.0F}};
  for (const auto& [name, value, usual] : others) {
    if (value != usual) {
      out.Set(name, Number(value));
    }
  }
  if (!sampling.logit_bias.empty()) {
    Json biases{Json::Object{}};
    for (const auto& [token, bias] : sampling.logit_bias) {
      biases.Set(fmt::format("{}", token), Number(bias));
    }
    out.Set("logit_bias", std::move(biases));
  }
  if (!sampling.allowed_token_ids.empty()) {
    out.Set("allowed_token_ids", IdsOf(sampling.allowed_token_ids));
  }
}

// Engines end at their own end tokens; those of the request are named where that can be done.
void SetStops(const EngineDialect& dialect, const wire::GenerateRequest& request,
              std::uint32_t choice, Json& out) {
  std::vector<TokenId> stops = request.stop.stop_token_ids;
  if (!request.stop.ignore_eos && dialect.kind != EngineKind::kOpenAi) {
    stops.insert(stops.end(), request.stop.eos_token_ids.begin(), request.stop.eos_token_ids.end());
  }
  if (!stops.empty()) {
    out.Set("stop_token_ids", IdsOf(stops));
  }
  if (request.stop.ignore_eos) {
    out.Set("ignore_eos", true);
  }
  if (const std::uint32_t min = Left(request.stop.min_tokens, request, choice); min > 0) {
    out.Set(dialect.kind == EngineKind::kSglang ? "min_new_tokens" : "min_tokens",
            static_cast<std::int64_t>(min));
  }
}

Result<Json> SchemaOf(const wire::Constraint& constraint) {
  return wire::ParseJson(constraint.text);
}

Json TagsOf(const wire::Constraint& constraint) {
  Json::Array structures;
  Json::Array triggers;
  for (const wire::StructuralTag& tag : constraint.tags) {
    Json one{Json::Object{}};
    one.Set("begin", tag.begin);
    Result<Json> schema = wire::ParseJson(tag.schema.empty() ? "{}" : tag.schema);
    one.Set("schema", schema ? std::move(*schema) : Json(Json::Object{}));
    one.Set("end", tag.end);
    structures.push_back(std::move(one));
    if (constraint.triggers.empty()) {
      triggers.emplace_back(tag.begin);
    }
  }
  for (const std::string& trigger : constraint.triggers) {
    triggers.emplace_back(trigger);
  }
  Json out{Json::Object{}};
  out.Set("type", "structural_tag");
  out.Set("structures", std::move(structures));
  out.Set("triggers", std::move(triggers));
  return out;
}

std::string AnyOf(const std::vector<std::string>& choices) {
  std::string out;
  for (const std::string& choice : choices) {
    out += out.empty() ? "(" : "|";
    for (const char c : choice) {
      if (std::string_view(R"(\^$.|?*+()[]{}/-)").find(c) != std::string_view::npos) {
        out.push_back('\\');
      }
      out.push_back(c);
    }
  }
  return out + ")";
}

Json Member(std::string_view name, Json value) {
  Json out{Json::Object{}};
  out.Set(name, std::move(value));
  return out;
}

Result<void> SetVllmConstraint(const wire::Constraint& constraint, Json& out) {
  Json outputs{Json::Object{}};
  switch (constraint.kind) {
    case ConstraintKind::kJsonSchema: {
      PX_TRY(Json schema, SchemaOf(constraint));
      outputs.Set("json", std::move(schema));
      break;
    }
    case ConstraintKind::kJsonObject:
      outputs.Set("json_object", true);
      break;
    case ConstraintKind::kRegex:
      outputs.Set("regex", constraint.text);
      break;
    case ConstraintKind::kChoice: {
      Json::Array choices(constraint.choices.begin(), constraint.choices.end());
      outputs.Set("choice", std::move(choices));
      break;
    }
    case ConstraintKind::kEbnf:
    case ConstraintKind::kLark:
      outputs.Set("grammar", constraint.text);
      break;
    case ConstraintKind::kStructuralTags:
      outputs.Set("structural_tag", TagsOf(constraint).Dump());
      break;
    case ConstraintKind::kScript:
      return Cannot(EngineKind::kVllm, "an answer of this form", "tool_choice");
  }
  out.Set("structured_outputs", std::move(outputs));
  return {};
}

Result<void> SetSglangConstraint(const wire::Constraint& constraint, Json& sampling) {
  switch (constraint.kind) {
    case ConstraintKind::kJsonSchema:
      sampling.Set("json_schema", constraint.text);
      return {};
    case ConstraintKind::kJsonObject:
      sampling.Set("json_schema", R"({"type":"object"})");
      return {};
    case ConstraintKind::kRegex:
      sampling.Set("regex", constraint.text);
      return {};
    case ConstraintKind::kChoice:
      sampling.Set("regex", AnyOf(constraint.choices));
      return {};
    case ConstraintKind::kEbnf:
      sampling.Set("ebnf", constraint.text);
      return {};
    case ConstraintKind::kStructuralTags:
      sampling.Set("structural_tag", TagsOf(constraint).Dump());
      return {};
    case ConstraintKind::kLark:
    case ConstraintKind::kScript:
      break;
  }
  return Cannot(EngineKind::kSglang, "an answer of this form", "response_format");
}

Result<void> SetTrtllmConstraint(const wire::Constraint& constraint, Json& out) {
  Json format{Json::Object{}};
  switch (constraint.kind) {
    case ConstraintKind::kJsonSchema: {
      PX_TRY(Json schema, SchemaOf(constraint));
      format.Set("type", "json");
      format.Set("schema", std::move(schema));
      break;
    }
    case ConstraintKind::kJsonObject:
      format.Set("type", "json_object");
      break;
    case ConstraintKind::kRegex:
    case ConstraintKind::kChoice:
      format.Set("type", "regex");
      format.Set("regex", constraint.kind == ConstraintKind::kRegex ? constraint.text
                                                                    : AnyOf(constraint.choices));
      break;
    case ConstraintKind::kEbnf:
      format.Set("type", "ebnf");
      format.Set("ebnf", constraint.text);
      break;
    case ConstraintKind::kStructuralTags:
      format = TagsOf(constraint);
      break;
    case ConstraintKind::kLark:
    case ConstraintKind::kScript:
      return Cannot(EngineKind::kTrtllm, "an answer of this form", "response_format");
  }
  out.Set("response_format", std::move(format));
  return {};
}

Result<void> SetOpenAiConstraint(const wire::Constraint& constraint, Json& out) {
  Json format{Json::Object{}};
  if (constraint.kind == ConstraintKind::kJsonSchema) {
    PX_TRY(Json schema, SchemaOf(constraint));
    Json named{Json::Object{}};
    named.Set("name", "answer");
    named.Set("schema", std::move(schema));
    named.Set("strict", true);
    format.Set("type", "json_schema");
    format.Set("json_schema", std::move(named));
  } else if (constraint.kind == ConstraintKind::kJsonObject) {
    format.Set("type", "json_object");
  } else {
    return Cannot(EngineKind::kOpenAi, "an answer of this form", "response_format");
  }
  out.Set("response_format", std::move(format));
  return {};
}

Result<void> SetConstraint(EngineKind kind, const wire::GenerateRequest& request, Json& out) {
  if (!request.constraint) {
    return {};
  }
  if (!request.constraint->script.empty()) {
    return Cannot(kind, "calls or reasoning of this form", "tool_choice");
  }
  switch (kind) {
    case EngineKind::kVllm:
      return SetVllmConstraint(*request.constraint, out);
    case EngineKind::kSglang:
      return SetSglangConstraint(*request.constraint, out);
    case EngineKind::kTrtllm:
      return SetTrtllmConstraint(*request.constraint, out);
    case EngineKind::kOpenAi:
      break;
  }
  return SetOpenAiConstraint(*request.constraint, out);
}

// Who may share blocks of the engine's cache.
std::string SaltOf(const wire::GenerateRequest& request) {
  const std::string salt = wire::PublicSalt(request.tenant, request.cache_salt);
  return salt.empty() ? salt : fmt::format("{}{}", wire::kEngineSaltMark, salt);
}

Result<EngineCall> WriteCompletion(const EngineDialect& dialect,
                                   const wire::GenerateRequest& request, std::uint32_t choice) {
  Json body{Json::Object{}};
  body.Set("model", request.adapter.empty() ? dialect.model : request.adapter);
  const std::vector<TokenId> prompt = PromptOf(request, choice);
  if (dialect.token_prompts) {
    body.Set("prompt", IdsOf(prompt));
  } else {
    // Engines put the beginning before a text themselves.
    const bool begins = !prompt.empty() && prompt.front() == dialect.bos_token_id;
    body.Set("prompt", dialect.text.decode(std::span(prompt).subspan(begins ? 1 : 0)));
  }
  body.Set("max_tokens", static_cast<std::int64_t>(Left(request.stop.max_tokens, request, choice)));
  body.Set("stream", true);
  body.Set("stream_options", Member("include_usage", true));
  body.Set("seed", SeedOf(request, choice));
  SetSampling(request.sampling, body);
  SetStops(dialect, request, choice, body);
  PX_CHECK_OK(SetConstraint(dialect.kind, request, body));
  if (request.top_logprobs >= 0) {
    body.Set("logprobs", static_cast<std::int64_t>(request.top_logprobs));
  }
  if (dialect.token_answers && dialect.kind == EngineKind::kTrtllm) {
    body.Set("detokenize", false);
  } else if (dialect.token_answers) {
    body.Set("return_token_ids", true);
    if (request.top_logprobs >= 0) {
      body.Set("return_tokens_as_token_ids", true);
    }
  }
  const std::string salt = SaltOf(request);
  if (!salt.empty() && dialect.kind != EngineKind::kOpenAi) {
    body.Set("cache_salt", salt);
  }
  return EngineCall{.target = "/v1/completions", .body = body.Dump()};
}

Result<EngineCall> WriteSglang(const EngineDialect& dialect, const wire::GenerateRequest& request,
                               std::uint32_t choice) {
  Json sampling{Json::Object{}};
  sampling.Set("max_new_tokens",
               static_cast<std::int64_t>(Left(request.stop.max_tokens, request, choice)));
  sampling.Set("sampling_seed", SeedOf(request, choice));
  SetSampling(request.sampling, sampling);
  SetStops(dialect, request, choice, sampling);
  PX_CHECK_OK(SetConstraint(dialect.kind, request, sampling));
  Json body{Json::Object{}};
  body.Set("input_ids", IdsOf(PromptOf(request, choice)));
  body.Set("sampling_params", std::move(sampling));
  body.Set("stream", true);
  if (request.top_logprobs >= 0) {
    body.Set("return_logprob", true);
    body.Set("logprob_start_len", -1);
    body.Set("top_logprobs_num", static_cast<std::int64_t>(request.top_logprobs));
  }
  if (!request.adapter.empty()) {
    body.Set("lora_path", request.adapter);
  }
  if (const std::string salt = SaltOf(request); !salt.empty()) {
    body.Set("extra_key", salt);
  }
  return EngineCall{.target = "/generate", .body = body.Dump()};
}

}  // namespace

std::optional<EngineKind> EngineKindOf(std::string_view name) {
  for (const auto& [known, kind] : kKinds) {
    if (known == name) {
      return kind;
    }
  }
  return std::nullopt;
}

std::string_view NameOf(EngineKind kind) { return kKinds[static_cast<std::size_t>(kind)].first; }

Result<EngineCall> WriteEngineCall(const EngineDialect& dialect,
                                   const wire::GenerateRequest& request, std::uint32_t choice) {
  PX_CHECK_OK(CheckRequest(dialect, request));
  return dialect.kind == EngineKind::kSglang ? WriteSglang(dialect, request, choice)
                                             : WriteCompletion(dialect, request, choice);
}

}  // namespace pixii::worker
