#include "frontend/pooling_profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "wire/json.h"

namespace pixii::frontend {

using wire::Json;

namespace {

Error Broken(std::string_view member) {
  return Error(Code::kDataCorrupt, fmt::format("the pooling of the model: {} is broken", member));
}

Result<std::int64_t> ReadInt(const Json& json, std::string_view name, std::int64_t max) {
  const std::optional<std::int64_t> value = json.AsInt();
  if (!value || *value < -1 || *value > max) {
    return Fail(Broken(name));
  }
  return *value;
}

Result<void> ReadMember(const std::string& name, const Json& value, PoolingProfile& out) {
  constexpr std::int64_t kTokenMax = std::numeric_limits<TokenId>::max();
  constexpr std::int64_t kSizeMax = std::numeric_limits<std::uint32_t>::max();
  if (name == "prompts") {
    for (const auto& [prompt, text] : value.object()) {
      if (!text.is_string()) {
        return Fail(Broken(name));
      }
      out.prompts.emplace_back(prompt, text.string());
    }
  } else if (name == "default_prompt") {
    out.default_prompt = value.string();
  } else if (name == "labels") {
    for (const Json& label : value.array()) {
      if (!label.is_string()) {
        return Fail(Broken(name));
      }
      out.labels.push_back(label.string());
    }
  } else if (name == "dimensions") {
    for (const Json& dimension : value.array()) {
      PX_TRY(const std::int64_t size, ReadInt(dimension, name, kSizeMax));
      out.dimensions.push_back(static_cast<std::uint32_t>(std::max<std::int64_t>(size, 0)));
    }
  } else if (name == "score") {
    ScorePair score;
    if (const Json* yes = value.Find("yes")) {
      PX_TRY(const std::int64_t token, ReadInt(*yes, name, kTokenMax));
      score.yes = static_cast<TokenId>(token);
    }
    if (const Json* no = value.Find("no")) {
      PX_TRY(const std::int64_t token, ReadInt(*no, name, kTokenMax));
      score.no = static_cast<TokenId>(token);
    }
    out.score = score;
  } else if (name == "similarity") {
    PX_TRY(const std::int64_t number,
           ReadInt(value, name, static_cast<std::int64_t>(Similarity::kManhattan)));
    out.similarity = static_cast<Similarity>(std::max<std::int64_t>(number, 0));
  } else if (name == "activation") {
    PX_TRY(const std::int64_t number,
           ReadInt(value, name, static_cast<std::int64_t>(ClassActivation::kIdentity)));
    out.activation = static_cast<ClassActivation>(std::max<std::int64_t>(number, 0));
  } else if (name == "tokens_max") {
    PX_TRY(const std::int64_t number, ReadInt(value, name, kSizeMax));
    out.tokens_max = static_cast<std::uint32_t>(std::max<std::int64_t>(number, 0));
  } else if (name == "skip_prompt") {
    out.skip_prompt = value.boolean();
  } else if (name == "matryoshka") {
    out.matryoshka = value.boolean();
  } else if (name == "pairs_are_prompts") {
    out.pairs_are_prompts = value.boolean();
  }
  return {};
}

// Whether the kind of `value` is that of the member.
bool FitsKind(const std::string& name, const Json& value) {
  if (name == "prompts" || name == "score") {
    return value.is_object();
  }
  if (name == "labels" || name == "dimensions") {
    return value.is_array();
  }
  if (name == "skip_prompt" || name == "matryoshka" || name == "pairs_are_prompts") {
    return value.is_bool();
  }
  return name != "default_prompt" || value.is_string();
}

}  // namespace

const std::string* PoolingProfile::FindPrompt(std::string_view name) const {
  auto found = std::ranges::find(prompts, name, &std::pair<std::string, std::string>::first);
  return found == prompts.end() ? nullptr : &found->second;
}

std::string PoolingProfileText(const PoolingProfile& profile) {
  Json prompts{Json::Object{}};
  for (const auto& [name, text] : profile.prompts) {
    prompts.Set(name, text);
  }
  Json::Array labels(profile.labels.begin(), profile.labels.end());
  Json::Array dimensions;
  for (const std::uint32_t dimension : profile.dimensions) {
    dimensions.emplace_back(std::int64_t{dimension});
  }
  Json out{Json::Object{}};
  out.Set("prompts", std::move(prompts));
  out.Set("default_prompt", profile.default_prompt);
  out.Set("skip_prompt", profile.skip_prompt);
  out.Set("similarity", static_cast<std::int64_t>(profile.similarity));
  out.Set("activation", static_cast<std::int64_t>(profile.activation));
  out.Set("labels", std::move(labels));
  out.Set("matryoshka", profile.matryoshka);
  out.Set("dimensions", std::move(dimensions));
  out.Set("tokens_max", std::int64_t{profile.tokens_max});
  out.Set("pairs_are_prompts", profile.pairs_are_prompts);
  if (profile.score) {
    Json score{Json::Object{}};
    score.Set("yes", std::int64_t{profile.score->yes});
    score.Set("no", std::int64_t{profile.score->no});
    out.Set("score", std::move(score));
  }
  return out.Dump();
}

Result<PoolingProfile> ReadPoolingProfile(std::string_view text) {
  const Result<Json> json = wire::ParseJson(text);
  if (!json || !json->is_object()) {
    return Fail(Broken("its JSON"));
  }
  PoolingProfile out;
  for (const auto& [name, value] : json->object()) {
    if (!FitsKind(name, value)) {
      return Fail(Broken(name));
    }
    PX_CHECK_OK(ReadMember(name, value, out));
  }
  return out;
}

}  // namespace pixii::frontend
