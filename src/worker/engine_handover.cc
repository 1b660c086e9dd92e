#include "worker/engine_handover.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>
#include <utility>

namespace pixii::worker {

using wire::Json;

namespace {

constexpr std::string_view kMagic = "PXEH";  // and a version
constexpr char kVersion = 1;
constexpr std::size_t kHeadBytes = kMagic.size() + 1;
constexpr std::size_t kDigestBytes = 16;
constexpr std::size_t kBytesMax = 4U << 20U;

std::array<char, kDigestBytes> DigestOf(std::string_view bytes, const HashKey& key) {
  const Hash128 digest =
      key.Digest(std::as_bytes(std::span<const char>(bytes.data(), bytes.size())));
  std::array<char, kDigestBytes> out{};
  for (std::size_t i = 0; i < 8; ++i) {
    out[i] = static_cast<char>(digest.low >> (8 * i));
    out[8 + i] = static_cast<char>(digest.high >> (8 * i));
  }
  return out;
}

tl::unexpected<Error> Corrupt(std::string_view what) {
  return Fail(Code::kDataCorrupt, fmt::format("the record of an outside prefill engine {}", what));
}

Result<Json> BodyOf(const EngineCall& call) { return wire::ParseJson(call.body); }

void Remove(Json& object, std::string_view name) {
  std::erase_if(object.object(), [name](const auto& member) { return member.first == name; });
}

// All members of `words` become members of `body`.
Result<void> SetAll(std::string_view words, Json& body) {
  PX_TRY(Json members, wire::ParseJson(words));
  if (!members.is_object()) {
    return Corrupt("is no JSON object");
  }
  for (auto& [name, value] : members.object()) {
    body.Set(name, std::move(value));
  }
  return {};
}

const Json* FirstChoice(const Json& answer) {
  const Json* choices = answer.Find("choices");
  return choices != nullptr && choices->is_array() && !choices->array().empty()
             ? &choices->array().front()
             : nullptr;
}

}  // namespace

std::string EncodeEngineHandover(const EngineHandover& handover, const HashKey& key) {
  Json::Array choices(handover.choices.begin(), handover.choices.end());
  Json record{Json::Object{}};
  record.Set("engine", NameOf(handover.kind));
  record.Set("choices", std::move(choices));
  std::string out(kMagic);
  out.push_back(kVersion);
  out += record.Dump();
  const std::array<char, kDigestBytes> digest = DigestOf(out, key);
  out.append(digest.data(), digest.size());
  return out;
}

Result<EngineHandover> DecodeEngineHandover(std::string_view bytes, const HashKey& key) {
  if (bytes.size() < kHeadBytes + kDigestBytes || bytes.size() > kBytesMax ||
      !bytes.starts_with(kMagic) || bytes[kMagic.size()] != kVersion) {
    return Corrupt("is none");
  }
  const std::string_view said = bytes.substr(0, bytes.size() - kDigestBytes);
  const std::array<char, kDigestBytes> digest = DigestOf(said, key);
  if (!std::ranges::equal(digest, bytes.substr(said.size()))) {
    return Corrupt("was changed on its way, or made under another cluster key");
  }
  const Result<Json> record = wire::ParseJson(said.substr(kHeadBytes));
  const Json* engine = record ? record->Find("engine") : nullptr;
  const Json* choices = record ? record->Find("choices") : nullptr;
  if (engine == nullptr || !engine->is_string() || choices == nullptr || !choices->is_array()) {
    return Corrupt("lacks engine or choices");
  }
  const std::optional<EngineKind> kind = EngineKindOf(engine->string());
  if (!kind) {
    return Corrupt("is of an unknown engine");
  }
  EngineHandover out{.kind = *kind, .choices = {}};
  for (const Json& choice : choices->array()) {
    if (!choice.is_string()) {
      return Corrupt("has a choice that is no text");
    }
    out.choices.push_back(choice.string());
  }
  return out;
}

bool CanHandOver(EngineKind kind) { return kind != EngineKind::kOpenAi; }

std::string BootstrapWords(const BootstrapPlace& place, std::uint64_t room) {
  Json words{Json::Object{}};
  words.Set("bootstrap_host", place.host);
  words.Set("bootstrap_port", static_cast<std::int64_t>(place.port));
  words.Set("bootstrap_room", static_cast<std::int64_t>(room >> 1U));  // it takes signed ones
  return words.Dump();
}

Result<EngineCall> AsPrefill(EngineKind kind, const EngineCall& call, std::string_view words) {
  PX_TRY(Json body, BodyOf(call));
  body.Set("stream", false);
  if (kind == EngineKind::kSglang) {  // it decides by itself that one token is enough
    PX_CHECK_OK(SetAll(words, body));
    return EngineCall{.target = call.target, .body = body.Dump()};
  }
  Remove(body, "stream_options");
  Remove(body, "min_tokens");
  body.Set("max_tokens", 1);
  Json asked{Json::Object{}};
  if (kind == EngineKind::kVllm) {
    asked.Set("do_remote_decode", true);
    asked.Set("do_remote_prefill", false);
    for (const char* unknown :
         {"remote_engine_id", "remote_block_ids", "remote_host", "remote_port"}) {
      asked.Set(unknown, Json());
    }
    body.Set("kv_transfer_params", std::move(asked));
  } else {
    asked.Set("request_type", "context_only");
    body.Set("disaggregated_params", std::move(asked));
  }
  return EngineCall{.target = call.target, .body = body.Dump()};
}

Result<std::string> ReadPrefillAnswer(EngineKind kind, std::string_view body) {
  const Result<Json> answer = wire::ParseJson(body);
  if (!answer || !answer->is_object()) {
    return Fail(Code::kDataCorrupt, "the prefill engine answered with no JSON object");
  }
  const char* const name =
      kind == EngineKind::kVllm ? "kv_transfer_params" : "disaggregated_params";
  const Json* words = answer->Find(name);
  if (kind == EngineKind::kTrtllm) {
    const Json* choice = FirstChoice(*answer);
    words = choice == nullptr ? nullptr : choice->Find(name);
  }
  if (words == nullptr || !words->is_object()) {
    return Fail(
        Code::kDataCorrupt,
        fmt::format("the prefill engine's answer has no {}: is it one that hands over?", name));
  }
  return words->Dump();
}

Result<EngineCall> AsDecode(EngineKind kind, const EngineCall& call, std::string_view words) {
  PX_TRY(Json body, BodyOf(call));
  if (kind == EngineKind::kSglang) {
    PX_CHECK_OK(SetAll(words, body));
    return EngineCall{.target = call.target, .body = body.Dump()};
  }
  PX_TRY(Json said, wire::ParseJson(words));
  if (!said.is_object()) {
    return Corrupt("is no JSON object");
  }
  if (kind == EngineKind::kTrtllm) {
    said.Set("request_type", "generation_only");
  }
  body.Set(kind == EngineKind::kVllm ? "kv_transfer_params" : "disaggregated_params",
           std::move(said));
  return EngineCall{.target = call.target, .body = body.Dump()};
}

}  // namespace pixii::worker
