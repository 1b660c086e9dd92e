// Sampling fields of a body that are lists or objects, and the rules between sampling fields.
#include <fmt/format.h>

#include <charconv>
#include <utility>

#include "frontend/openai_draft.h"

namespace pixii::frontend {

using wire::Json;

Result<void> ReadLogitBias(std::string_view name, const Json& value, Draft& draft) {
  if (!value.is_object() || value.object().size() > kLogitBiasEntriesMax) {
    return Bad(name, fmt::format("must be an object of at most {} entries", kLogitBiasEntriesMax));
  }
  for (const auto& [key, bias] : value.object()) {
    TokenId token = -1;
    auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), token);
    bool whole = error == std::errc{} && end == key.data() + key.size();
    // "01" would name the token of "1" a second time.
    if (!whole || token < 0 || key != fmt::format("{}", token)) {
      return Bad(name, fmt::format("key \"{}\" is not a token id", key.substr(0, 60)));
    }
    std::optional<double> amount = bias.AsDouble();
    if (!amount || *amount < -100 || *amount > 100) {
      return Bad(name, fmt::format("{} of token {} is out of range, allowed is [-100, 100]",
                                   Shown(bias), token));
    }
    draft.logit_bias.emplace_back(token, static_cast<float>(*amount));
  }
  return {};
}

Result<void> ReadAllowedTokenIds(std::string_view name, const Json& value, Draft& draft) {
  PX_TRY(draft.allowed_token_ids, ParseTokenIds(value, name));
  if (draft.allowed_token_ids.empty() || draft.allowed_token_ids.size() > kAllowedTokenIdsMax) {
    return Bad(name, fmt::format("{} ids, allowed are 1 to {}", draft.allowed_token_ids.size(),
                                 kAllowedTokenIdsMax));
  }
  return {};
}

// A list of strings and of lists of token ids.
Result<void> ReadBadWords(std::string_view name, const Json& value, Draft& draft) {
  if (!value.is_array() || value.array().size() > kBadWordsMax) {
    return Bad(name, fmt::format("must be a list of at most {} words", kBadWordsMax));
  }
  for (const Json& item : value.array()) {
    if (item.is_string()) {
      if (item.string().empty() || item.string().size() > kWordBytesMax) {
        return Bad(name, fmt::format("a word has {} bytes, allowed is [1, {}]",
                                     item.string().size(), kWordBytesMax));
      }
      draft.bad_words.emplace_back(item.string());
      continue;
    }
    PX_TRY(auto ids, ParseTokenIds(item, name));
    if (ids.empty() || ids.size() > kWordTokensMax) {
      return Bad(name, fmt::format("a list has {} token ids, allowed is [1, {}]", ids.size(),
                                   kWordTokensMax));
    }
    draft.bad_words.emplace_back(std::move(ids));
  }
  return {};
}

Result<void> ReadDryBreakers(std::string_view name, const Json& value, Draft& draft) {
  if (!value.is_array() || value.array().size() > kDryBreakersMax) {
    return Bad(name, fmt::format("must be a list of at most {} strings", kDryBreakersMax));
  }
  draft.dry_sequence_breakers.emplace();
  for (const Json& item : value.array()) {
    if (!item.is_string() || item.string().empty() || item.string().size() > kWordBytesMax) {
      return Bad(name,
                 fmt::format("{} is not a string of 1 to {} bytes", Shown(item), kWordBytesMax));
    }
    draft.dry_sequence_breakers->push_back(item.string());
  }
  return {};
}

Result<void> ReadLogprobsMode(std::string_view name, const Json& value, Draft& draft) {
  if (value != Json("raw_logprobs") && value != Json("processed_logprobs")) {
    return Bad(name, fmt::format("{} is neither \"raw_logprobs\" nor \"processed_logprobs\"",
                                 Shown(value)));
  }
  draft.processed_logprobs = value.string() == "processed_logprobs";
  return {};
}

// ["name", {"name": …, "arguments": {…}}]
Result<void> ReadLogitsProcessors(std::string_view name, const Json& value, Draft& draft) {
  if (!value.is_array() || value.array().size() > kLogitsProcessorsMax) {
    return Bad(name, fmt::format("must be a list of at most {}", kLogitsProcessorsMax));
  }
  for (const Json& item : value.array()) {
    ProcessorRequest processor;
    const Json* label = item.is_object() ? item.Find("name") : &item;
    if (label == nullptr || !label->is_string() || label->string().empty() ||
        label->string().size() > kLabelBytesMax) {
      return Bad(name, fmt::format("{} is neither a name nor an object with a name", Shown(item)));
    }
    processor.name = label->string();
    for (const auto& [key, member] : item.is_object() ? item.object() : Json::Object{}) {
      if (key == "arguments" && member.is_object()) {
        processor.arguments = member;
      } else if (key == "arguments" ? !member.is_null() : key != "name") {
        return Bad(name, fmt::format("\"{}\" of \"{}\" is not what a processor takes: \"name\" and "
                                     "an object \"arguments\"",
                                     key.substr(0, 60), processor.name.substr(0, 60)));
      }
    }
    draft.logits_processors.push_back(std::move(processor));
  }
  return {};
}

namespace {

// Mirostat replaces the filters; one that was asked for by name would be ignored.
Result<void> CheckMirostat(Draft& draft) {
  if (!draft.mirostat_mode) {
    return {};
  }
  if (*draft.mirostat_mode == 1) {
    return NotDone("mirostat_mode", "1 is not supported, only 0 (off) and 2 are");
  }
  draft.mirostat = *draft.mirostat_mode == 2;
  bool filters = draft.top_k.value_or(0) > 0 || draft.top_p.value_or(1) < 1 ||
                 draft.min_p.value_or(0) > 0 || draft.top_a.value_or(0) > 0 ||
                 draft.typical_p.value_or(1) < 1 || draft.xtc_probability.value_or(0) > 0;
  if (draft.mirostat && filters) {
    return Bad(
        "mirostat_mode",
        "2 replaces top_k, top_p, min_p, top_a, typical_p and xtc_probability; leave them out");
  }
  return {};
}

// A beam search draws nothing: what only changes a draw would be ignored.
Result<void> CheckBeams(const Draft& draft) {
  if (!draft.uses_beams()) {
    std::string_view alone = draft.beam_width       ? "beam_width"
                             : draft.length_penalty ? "length_penalty"
                             : draft.early_stopping ? "early_stopping"
                                                    : "";
    return alone.empty()
               ? Result<void>()
               : Result<void>(Bad(alone, "is allowed only with \"use_beam_search\": true"));
  }
  if (draft.candidate_count() < draft.choice_count() || draft.candidate_count() > kBeamWidthMax) {
    return Bad(
        "use_beam_search",
        fmt::format("the width is {} (beam_width, else best_of, else n); allowed is n, which "
                    "is {}, to {}",
                    draft.candidate_count(), draft.choice_count(), kBeamWidthMax));
  }
  if (draft.streams() || draft.echo.value_or(false) || draft.prompt_logprobs) {
    return Bad(draft.streams()         ? "stream"
               : draft.prompt_logprobs ? "prompt_logprobs"
                                       : "echo",
               "is not possible with use_beam_search");
  }
  bool draws = draft.temperature.value_or(0) > 0 || draft.top_k.value_or(0) > 0 ||
               draft.top_p.value_or(1) < 1 || draft.min_p.value_or(0) > 0 ||
               draft.top_a.value_or(0) > 0 || draft.typical_p.value_or(1) < 1 ||
               draft.xtc_probability.value_or(0) > 0 || draft.mirostat;
  if (draws) {
    return Bad("use_beam_search",
               "a beam search draws nothing; leave out temperature, top_k, top_p, min_p, top_a, "
               "typical_p, xtc_probability and mirostat_mode");
  }
  return {};
}

Result<void> CheckBestOf(const Draft& draft) {
  if (!draft.best_of) {
    return {};
  }
  if (*draft.best_of < draft.n.value_or(1)) {
    return Bad("best_of",
               fmt::format("{} is less than n, which is {}", *draft.best_of, draft.n.value_or(1)));
  }
  if (!draft.uses_beams() && *draft.best_of > draft.n.value_or(1) && draft.streams()) {
    return Bad("best_of", "above n cannot be streamed: the best is known at the end");
  }
  return {};
}

}  // namespace

Result<void> CheckSamplingTogether(Draft& draft) {
  PX_CHECK_OK(CheckMirostat(draft));
  PX_CHECK_OK(CheckBeams(draft));
  PX_CHECK_OK(CheckBestOf(draft));
  if (draft.greedy_sampling) {
    if (draft.temperature.value_or(0) > 0) {
      return Bad("nvext.greed_sampling", "contradicts the temperature");
    }
    draft.temperature = 0;
  }
  if (draft.max_thinking_tokens) {
    ProcessorRequest budget{.name = "thinking_budget", .arguments = Json(Json::Object{})};
    budget.arguments.Set("budget", *draft.max_thinking_tokens);
    draft.logits_processors.push_back(std::move(budget));
  }
  return {};
}

}  // namespace pixii::frontend
