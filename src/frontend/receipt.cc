#include "frontend/receipt.h"

#include <fmt/format.h>

#include <array>
#include <bit>
#include <charconv>

#include "base/digest.h"
#include "wire/json.h"

namespace pixii::frontend {

namespace {

constexpr std::int64_t kRecordVersion = 1;
constexpr std::size_t kPartsMax = 1024;  // of one choice, by workers that computed it
constexpr wire::JsonLimits kRecordLimits{.depth_max = 128, .values_max = 16'000'000};

tl::unexpected<Error> BadRecord(std::string_view field, std::string_view what) {
  return Fail(Code::kDataCorrupt, fmt::format("record: {} {}", field, what), std::string(field));
}

std::string_view SurfaceName(Surface surface) {
  return surface == Surface::kChat ? "chat" : "completions";
}

wire::Json IdsJson(std::span<const TokenId> ids) {
  wire::Json::Array out;
  out.reserve(ids.size());
  for (TokenId id : ids) {
    out.emplace_back(std::int64_t{id});
  }
  return out;
}

Result<std::string> ReadText(const wire::Json& from, std::string_view field) {
  const wire::Json* value = from.Find(field);
  if (value == nullptr || !value->is_string()) {
    return BadRecord(field, "is missing or no string");
  }
  return value->string();
}

Result<std::int64_t> ReadCount(const wire::Json& from, std::string_view field, std::int64_t max) {
  const wire::Json* value = from.Find(field);
  std::optional<std::int64_t> number =
      value != nullptr && value->is_number() ? value->AsInt() : std::nullopt;
  if (!number || *number < 0 || *number > max) {
    return BadRecord(field, fmt::format("is missing or not in 0 to {}", max));
  }
  return *number;
}

Result<const wire::Json::Array*> ReadArray(const wire::Json& from, std::string_view field,
                                           std::size_t max) {
  const wire::Json* value = from.Find(field);
  if (value == nullptr || !value->is_array() || value->array().size() > max) {
    return BadRecord(field, fmt::format("is missing or no array of at most {}", max));
  }
  return &value->array();
}

Result<std::vector<TokenId>> ReadIds(const wire::Json& list, std::string_view field) {
  Result<std::vector<TokenId>> ids = ParseTokenIds(list, field);
  if (!ids) {
    return BadRecord(field, ids.error().detail());
  }
  return ids;
}

Result<std::vector<float>> ReadLogprobs(const wire::Json& choice, std::size_t token_count) {
  const wire::Json* list = choice.Find("logprobs");
  std::vector<float> out;
  if (list == nullptr) {
    return out;
  }
  if (!list->is_array() || list->array().size() != token_count) {
    return BadRecord("logprobs", "are not one for each token");
  }
  for (const wire::Json& value : list->array()) {
    const std::string digits = value.is_string() ? value.string() : std::string();
    std::uint32_t bits = 0;
    auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), bits, 16);
    if (digits.size() != 8 || error != std::errc() || end != digits.data() + digits.size()) {
      return BadRecord("logprobs",
                       "hold something that is not the eight hexadecimal digits of a float");
    }
    out.push_back(std::bit_cast<float>(bits));
  }
  return out;
}

wire::Json PartsJson(const ComputedParts& parts) {
  wire::Json::Array out;
  for (const ComputedPart& part : parts) {
    wire::Json one(wire::Json::Object{});
    one.Set("first_token", part.first_token);
    one.Set("numerics_id", part.numerics_id);
    out.push_back(std::move(one));
  }
  return out;
}

Result<ComputedParts> ReadParts(const wire::Json& choice) {
  ComputedParts out;
  if (choice.Find("computed") == nullptr) {
    return out;
  }
  PX_TRY(const auto* list, ReadArray(choice, "computed", kPartsMax));
  for (const wire::Json& value : *list) {
    PX_TRY(const std::int64_t first, ReadCount(value, "first_token", INT32_MAX));
    PX_TRY(std::string numerics_id, ReadText(value, "numerics_id"));
    out.push_back(
        {.first_token = static_cast<std::uint64_t>(first), .numerics_id = std::move(numerics_id)});
  }
  return out;
}

Result<ChoiceTranscript> ReadChoice(const wire::Json& value) {
  ChoiceTranscript out;
  const wire::Json* tokens = value.Find("tokens");
  if (tokens == nullptr) {
    return BadRecord("tokens", "are missing");
  }
  PX_TRY(out.tokens, ReadIds(*tokens, "tokens"));
  const wire::Json* by_engine = value.Find("ended_by_engine");
  if (by_engine == nullptr || !by_engine->is_bool()) {
    return BadRecord("ended_by_engine", "is missing or no boolean");
  }
  out.ended_by_engine = by_engine->boolean();
  PX_TRY(out.logprobs, ReadLogprobs(value, out.tokens.size()));
  PX_TRY(out.computed, ReadParts(value));
  return out;
}

Result<std::uint64_t> ReadSeed(const wire::Json& record) {
  PX_TRY(const std::string text, ReadText(record, "seed"));
  std::uint64_t seed = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seed);
  if (error != std::errc() || end != text.data() + text.size()) {
    return BadRecord("seed", "is no 64-bit number");
  }
  return seed;
}

}  // namespace

std::string TokenHash(std::span<const TokenId> tokens) {
  Digest digest(Digest::Kind::kSha256);
  for (TokenId token : tokens) {
    auto value = static_cast<std::uint32_t>(token);
    std::array<char, 4> bytes = {static_cast<char>(value), static_cast<char>(value >> 8),
                                 static_cast<char>(value >> 16), static_cast<char>(value >> 24)};
    digest.Update({bytes.data(), bytes.size()});
  }
  return digest.FinishHex();
}

void AddPart(ComputedParts& parts, std::uint64_t token_count, const std::string& numerics_id) {
  if (!parts.empty() && parts.back().first_token == token_count) {
    parts.pop_back();  // it gave nothing
  }
  if (parts.empty() || parts.back().numerics_id != numerics_id) {
    parts.push_back({.first_token = token_count, .numerics_id = numerics_id});
  }
}

void AppendParts(std::string& out, const ComputedParts& parts) {
  out += '[';
  for (std::size_t i = 0; i < parts.size(); ++i) {
    fmt::format_to(std::back_inserter(out), R"({}{{"first_token":{},"numerics_id":)",
                   i == 0 ? "" : ",", parts[i].first_token);
    wire::AppendJsonString(out, parts[i].numerics_id);
    out += '}';
  }
  out += ']';
}

Receipt MakeReceipt(const wire::ModelCard& card, const wire::GenerateRequest& request,
                    std::span<const ChoiceTranscript> choices) {
  Receipt out{.fingerprint = card.fingerprint,
              .numerics_id = card.numerics_id,
              .seed = request.sampling.seed,
              .adapter = request.adapter,
              .adapter_version = request.adapter_version,
              .token_counts = {},
              .token_hashes = {}};
  if (!choices.empty() && !choices.front().computed.empty()) {
    out.numerics_id = choices.front().computed.front().numerics_id;
  }
  for (const ChoiceTranscript& choice : choices) {
    out.token_counts.push_back(static_cast<std::uint32_t>(choice.tokens.size()));
    out.token_hashes.push_back(TokenHash(choice.tokens));
    const bool same =
        choice.computed.size() == 1 && choice.computed.front().numerics_id == out.numerics_id;
    out.computed.push_back(same ? ComputedParts() : choice.computed);
  }
  return out;
}

void AppendReceipt(std::string& out, const Receipt& receipt) {
  out += R"({"fingerprint":)";
  wire::AppendJsonString(out, receipt.fingerprint);
  out += R"(,"numerics_id":)";
  wire::AppendJsonString(out, receipt.numerics_id);
  if (!receipt.adapter.empty()) {
    out += R"(,"adapter":{"name":)";
    wire::AppendJsonString(out, receipt.adapter);
    out += R"(,"fingerprint":)";
    wire::AppendJsonString(out, receipt.adapter_version);
    out += '}';
  }
  fmt::format_to(std::back_inserter(out), R"(,"seed":"{}","choices":[)", receipt.seed);
  for (std::size_t i = 0; i < receipt.token_hashes.size(); ++i) {
    fmt::format_to(std::back_inserter(out), R"({}{{"index":{},"tokens":{},"sha256":"{}")",
                   i == 0 ? "" : ",", i, receipt.token_counts[i], receipt.token_hashes[i]);
    if (!receipt.computed[i].empty()) {
      out += R"(,"computed":)";
      AppendParts(out, receipt.computed[i]);
    }
    out += '}';
  }
  out += "]}";
}

std::string RecordJson(const RequestRecord& record) {
  wire::Json out(wire::Json::Object{});
  out.Set("version", kRecordVersion);
  out.Set("id", record.id);
  out.Set("surface", SurfaceName(record.surface));
  out.Set("model", record.model);
  out.Set("fingerprint", record.receipt.fingerprint);
  out.Set("numerics_id", record.receipt.numerics_id);
  if (!record.receipt.adapter.empty()) {
    out.Set("adapter", record.receipt.adapter);
    out.Set("adapter_fingerprint", record.receipt.adapter_version);
  }
  out.Set("context_tokens_max", std::int64_t{record.context_tokens_max});
  out.Set("seed", fmt::format("{}", record.receipt.seed));
  out.Set("body", record.body);
  wire::Json::Array prompts;
  for (const std::vector<TokenId>& prompt : record.prompts) {
    prompts.push_back(IdsJson(prompt));
  }
  out.Set("prompts", std::move(prompts));
  wire::Json::Array choices;
  for (std::size_t i = 0; i < record.choices.size(); ++i) {
    const ChoiceTranscript& choice = record.choices[i];
    wire::Json one(wire::Json::Object{});
    one.Set("tokens", IdsJson(choice.tokens));
    one.Set("ended_by_engine", choice.ended_by_engine);
    if (!choice.logprobs.empty()) {
      wire::Json::Array logprobs;
      for (float value : choice.logprobs) {
        logprobs.emplace_back(fmt::format("{:08x}", std::bit_cast<std::uint32_t>(value)));
      }
      one.Set("logprobs", std::move(logprobs));
    }
    one.Set("sha256", record.receipt.token_hashes[i]);
    if (!record.receipt.computed[i].empty()) {
      one.Set("computed", PartsJson(record.receipt.computed[i]));
    }
    choices.push_back(std::move(one));
  }
  out.Set("choices", std::move(choices));
  return out.Dump();
}

Result<RequestRecord> ParseRecord(std::string_view text) {
  Result<wire::Json> parsed = wire::ParseJson(text, kRecordLimits);
  if (!parsed) {
    return BadRecord("file", fmt::format("is no JSON: {}", parsed.error().detail()));
  }
  const wire::Json& json = *parsed;
  PX_TRY(const std::int64_t version, ReadCount(json, "version", INT32_MAX));
  if (version != kRecordVersion) {
    return BadRecord("version", fmt::format("is {}; this build reads {}", version, kRecordVersion));
  }
  RequestRecord out;
  PX_TRY(out.id, ReadText(json, "id"));
  PX_TRY(const std::string surface, ReadText(json, "surface"));
  if (surface != SurfaceName(Surface::kChat) && surface != SurfaceName(Surface::kCompletions)) {
    return BadRecord("surface", "is neither chat nor completions");
  }
  out.surface = surface == SurfaceName(Surface::kChat) ? Surface::kChat : Surface::kCompletions;
  PX_TRY(out.model, ReadText(json, "model"));
  PX_TRY(out.receipt.fingerprint, ReadText(json, "fingerprint"));
  PX_TRY(out.receipt.numerics_id, ReadText(json, "numerics_id"));
  if (json.Find("adapter") != nullptr) {
    PX_TRY(out.receipt.adapter, ReadText(json, "adapter"));
    PX_TRY(out.receipt.adapter_version, ReadText(json, "adapter_fingerprint"));
  }
  PX_TRY(const std::int64_t context, ReadCount(json, "context_tokens_max", INT32_MAX));
  out.context_tokens_max = static_cast<std::uint32_t>(context);
  PX_TRY(out.receipt.seed, ReadSeed(json));
  PX_TRY(out.body, ReadText(json, "body"));
  PX_TRY(const auto* prompts, ReadArray(json, "prompts", kChoicesMax));
  for (const wire::Json& prompt : *prompts) {
    PX_TRY(std::vector<TokenId> ids, ReadIds(prompt, "prompts"));
    out.prompts.push_back(std::move(ids));
  }
  PX_TRY(const auto* choices, ReadArray(json, "choices", kChoicesMax));
  if (out.prompts.empty() || choices->empty() || choices->size() % out.prompts.size() != 0) {
    return BadRecord("choices", "are not as many for each prompt");
  }
  for (const wire::Json& value : *choices) {
    PX_TRY(ChoiceTranscript choice, ReadChoice(value));
    PX_TRY(const std::string hash, ReadText(value, "sha256"));
    if (hash != TokenHash(choice.tokens)) {
      return BadRecord("sha256", "is not that of the tokens beside it");
    }
    out.receipt.token_counts.push_back(static_cast<std::uint32_t>(choice.tokens.size()));
    out.receipt.token_hashes.push_back(hash);
    out.receipt.computed.push_back(choice.computed);
    out.choices.push_back(std::move(choice));
  }
  return out;
}

}  // namespace pixii::frontend
