#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "worker/engine_dialect.h"

namespace pixii::worker {

using wire::Json;

namespace {

constexpr std::size_t kSaidBytesMax = 500;  // of an engine's own words
constexpr std::size_t kTextTokensFactor =
    8;  // of ours for each token that an engine of texts may give
constexpr std::ptrdiff_t kTextWindow = 16;  // tokens that a text is looked at behind
constexpr std::string_view kTokenIdMark = "token_id:";

tl::unexpected<Error> Corrupt(std::string what) {
  return Fail(Code::kDataCorrupt, fmt::format("the engine behind this worker {}", what));
}

const Json* FindIn(const Json* object, std::string_view key) {
  return object == nullptr ? nullptr : object->Find(key);
}

std::string_view TextOr(const Json* value, std::string_view otherwise) {
  return value != nullptr && value->is_string() ? std::string_view(value->string()) : otherwise;
}

std::optional<std::int64_t> IntOf(const Json* value) {
  return value != nullptr && value->is_number() ? value->AsInt() : std::nullopt;
}

// "message" of {"error": {...}}, {"object": "error", ...}, {"detail": ...}, or the text as it is.
std::string Said(std::string_view body) {
  std::string said(body.substr(0, kSaidBytesMax));
  if (const Result<Json> json = wire::ParseJson(body); json && json->is_object()) {
    const Json* error = json->Find("error");
    for (const Json* message :
         {FindIn(error, "message"), error, json->Find("message"), json->Find("detail")}) {
      if (message != nullptr && message->is_string()) {
        said = message->string().substr(0, kSaidBytesMax);
        break;
      }
    }
  }
  return said;
}

float FloatOf(const Json* value) {
  const std::optional<double> number =
      value != nullptr && value->is_number() ? value->AsDouble() : std::nullopt;
  return number ? static_cast<float>(*number) : -9999.0F;  // as engines write what has no logprob
}

void SortTop(wire::TokenLogprob& logprob, std::size_t count) {
  std::ranges::sort(logprob.top, [](const auto& a, const auto& b) {
    return a.second > b.second || (a.second == b.second && a.first < b.first);
  });
  logprob.top.resize(std::min(logprob.top.size(), count));
}

}  // namespace

Error EngineRefusal(int status, std::string_view body) {
  const auto code = [status] {
    switch (status) {
      case 400:
      case 422:
        return Code::kInvalidArgument;
      case 404:
        return Code::kNotFound;
      case 413:
        return Code::kTooLarge;
      case 429:
      case 529:
        return Code::kResourceExhausted;
      default:
        return Code::kUnavailable;  // 5xx, and 401, 403: it is this worker's own key
    }
  }();
  return Error(code,
               fmt::format("the engine behind this worker answered {}: {}", status, Said(body)));
}

EngineAnswerReader::EngineAnswerReader(const EngineDialect& dialect,
                                       const wire::GenerateRequest& request, std::uint32_t choice)
    : dialect_(dialect), ends_(request.stop.stop_token_ids), top_logprobs_(request.top_logprobs) {
  if (!request.stop.ignore_eos) {
    ends_.insert(ends_.end(), request.stop.eos_token_ids.begin(), request.stop.eos_token_ids.end());
  }
  const std::size_t done = choice < request.generated.size() ? request.generated[choice].size() : 0;
  tokens_left_ = request.stop.max_tokens - std::min<std::size_t>(request.stop.max_tokens, done);
  if (!dialect.token_answers) {
    tokens_left_ =
        tokens_left_ * kTextTokensFactor + kTextTokensFactor;  // the engine counts its own
  }
}

Result<EnginePiece> EngineAnswerReader::Read(std::string_view data) {
  if (data == "[DONE]") {
    EnginePiece piece;
    piece.is_last = true;
    return piece;
  }
  Result<Json> event = wire::ParseJson(data);
  if (!event || !event->is_object()) {
    return Corrupt("sent an event that is no JSON object");
  }
  const Json* error = event->Find("error");
  if ((error != nullptr && !error->is_null()) || TextOr(event->Find("object"), "") == "error") {
    const auto status =
        IntOf(error != nullptr && error->is_object() ? error->Find("code") : event->Find("code"));
    return Fail(EngineRefusal(static_cast<int>(status.value_or(500)), data));
  }
  PX_TRY(EnginePiece piece,
         dialect_.kind == EngineKind::kSglang ? ReadSglang(*event) : ReadCompletion(*event));
  return Finished(std::move(piece));
}

// A token that ends the choice is not part of it; nor is what comes behind the allowed number.
Result<EnginePiece> EngineAnswerReader::Finished(EnginePiece piece) {
  if (piece.finish == wire::FinishReason::kStop && !piece.tokens.empty() &&
      std::ranges::find(ends_, piece.tokens.back()) != ends_.end()) {
    piece.stop_token = piece.tokens.back();
    piece.tokens.pop_back();
    if (!piece.logprobs.empty()) {
      piece.stop_logprob = piece.logprobs.back().logprob;
      piece.logprobs.pop_back();
    }
  }
  if (piece.tokens.size() > tokens_left_) {
    piece.tokens.resize(tokens_left_);
    piece.logprobs.resize(std::min(piece.logprobs.size(), tokens_left_));
    piece.finish = wire::FinishReason::kLength;
    piece.stop_token.reset();
    piece.stop_logprob.reset();
  }
  tokens_left_ -= piece.tokens.size();
  return piece;
}

Result<void> EngineAnswerReader::TakeTokens(const Json& ids, std::size_t skipped,
                                            EnginePiece& piece) const {
  const Json::Array& all = ids.array();
  for (std::size_t i = skipped; i < all.size(); ++i) {
    const std::optional<std::int64_t> id = IntOf(&all[i]);
    if (!id || *id < 0 || *id >= dialect_.vocab_size) {
      return Corrupt(fmt::format("generated a token that is not in the vocabulary of {}",
                                 dialect_.vocab_size));
    }
    piece.tokens.push_back(static_cast<TokenId>(*id));
  }
  return {};
}

// The tokens of a piece of text are those that give it back behind the text before; a tokenizer
// that begins every text with a space is asked behind a line break.
Result<void> EngineAnswerReader::TakeText(std::string_view text, EnginePiece& piece) {
  if (text.empty()) {
    return {};
  }
  const std::string before = dialect_.text.decode(text_tokens_);
  const auto fits = [&](std::span<const TokenId> tokens) {
    std::vector<TokenId> all = text_tokens_;
    all.insert(all.end(), tokens.begin(), tokens.end());
    const std::string after = dialect_.text.decode(all);
    return after.starts_with(before) && std::string_view(after).substr(before.size()) == text;
  };
  PX_TRY(std::vector<TokenId> tokens, dialect_.text.encode(text));
  if (!fits(tokens)) {
    PX_TRY(const std::vector<TokenId> anchor, dialect_.text.encode("\n"));
    PX_TRY(tokens, dialect_.text.encode(fmt::format("\n{}", text)));
    const bool anchored =
        tokens.size() > anchor.size() && std::equal(anchor.begin(), anchor.end(), tokens.begin());
    if (anchored) {
      tokens.erase(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(anchor.size()));
    }
    if (!anchored || !fits(tokens)) {
      return Corrupt("generated a text that the model's tokenizer cannot give back");
    }
  }
  text_tokens_.insert(text_tokens_.end(), tokens.begin(), tokens.end());
  if (text_tokens_.size() > kTextWindow) {
    text_tokens_.erase(text_tokens_.begin(), text_tokens_.end() - kTextWindow);
  }
  piece.tokens = std::move(tokens);
  return {};
}

// {"tokens": ["token_id:5"], "token_logprobs": [-1.5], "top_logprobs": [{"token_id:5": -1.5}]}
Result<void> EngineAnswerReader::TakeLogprobs(const Json* logprobs, EnginePiece& piece) const {
  if (top_logprobs_ < 0 || piece.tokens.empty()) {
    return {};
  }
  const Json* of_tokens = FindIn(logprobs, "token_logprobs");
  const Json* tops = FindIn(logprobs, "top_logprobs");
  if (of_tokens == nullptr || !of_tokens->is_array() ||
      of_tokens->array().size() != piece.tokens.size()) {
    return Corrupt("gave other logprobs than its tokens have");
  }
  for (std::size_t i = 0; i < piece.tokens.size(); ++i) {
    wire::TokenLogprob& logprob = piece.logprobs.emplace_back();
    logprob.logprob = FloatOf(&of_tokens->array()[i]);
    const bool has_top = tops != nullptr && tops->is_array() && i < tops->array().size() &&
                         tops->array()[i].is_object();
    if (!has_top) {
      continue;
    }
    for (const auto& [name, value] : tops->array()[i].object()) {
      TokenId id = -1;
      if (name.starts_with(kTokenIdMark)) {
        std::from_chars(name.data() + kTokenIdMark.size(), name.data() + name.size(), id);
      } else if (auto spelt = dialect_.text.encode(name); spelt && spelt->size() == 1) {
        id = spelt->front();
      }
      if (id >= 0 && static_cast<std::uint32_t>(id) < dialect_.vocab_size) {
        logprob.top.emplace_back(id, FloatOf(&value));
      }
    }
    SortTop(logprob, static_cast<std::size_t>(top_logprobs_));
  }
  return {};
}

Result<EnginePiece> EngineAnswerReader::ReadCompletion(const Json& event) {
  EnginePiece piece;
  const Json* details = FindIn(event.Find("usage"), "prompt_tokens_details");
  if (const auto cached = IntOf(FindIn(details, "cached_tokens")); cached && *cached >= 0) {
    piece.cached_tokens = static_cast<std::uint32_t>(std::min<std::int64_t>(*cached, 1LL << 31));
  }
  const Json* choices = event.Find("choices");
  if (choices == nullptr || !choices->is_array() || choices->array().empty()) {
    return piece;  // of the usage
  }
  const Json& choice = choices->array().front();
  const Json* ids = choice.Find("token_ids");
  if (dialect_.token_answers && ids != nullptr && ids->is_array()) {
    PX_CHECK_OK(TakeTokens(*ids, 0, piece));
  } else if (!dialect_.token_answers) {
    PX_CHECK_OK(TakeText(TextOr(choice.Find("text"), ""), piece));
  } else if (!TextOr(choice.Find("text"), "").empty()) {
    return Corrupt("gave a text without its tokens");
  }
  PX_CHECK_OK(TakeLogprobs(choice.Find("logprobs"), piece));
  const std::string_view reason = TextOr(choice.Find("finish_reason"), "");
  if (reason == "abort" || reason == "error" || reason == "cancelled") {
    return Fail(Code::kUnavailable, fmt::format("the engine behind this worker gave the request "
                                                "up: {}",
                                                reason));
  }
  if (!reason.empty()) {
    piece.finish = reason == "length" ? wire::FinishReason::kLength : wire::FinishReason::kStop;
    const auto stop = IntOf(choice.Find("stop_reason"));
    if (stop && *stop >= 0 && *stop < dialect_.vocab_size) {
      piece.stop_token = static_cast<TokenId>(*stop);
    }
  }
  return piece;
}

// [[logprob, id, text or null], ...] per token, of all tokens or of the new ones: the last count.
Result<void> EngineAnswerReader::TakeSglangLogprobs(const Json& meta, EnginePiece& piece) const {
  if (top_logprobs_ < 0 || piece.tokens.empty()) {
    return {};
  }
  const Json* of_tokens = meta.Find("output_token_logprobs");
  const Json* tops = meta.Find("output_top_logprobs");
  const std::size_t count = piece.tokens.size();
  if (of_tokens == nullptr || !of_tokens->is_array() || of_tokens->array().size() < count) {
    return Corrupt("gave other logprobs than its tokens have");
  }
  const bool has_tops = tops != nullptr && tops->is_array() && tops->array().size() >= count;
  const auto at = [&](const Json& rows, std::size_t i) -> const Json& {
    return rows.array()[rows.array().size() - count + i];
  };
  for (std::size_t i = 0; i < count; ++i) {
    const Json& row = at(*of_tokens, i);
    if (!row.is_array() || row.array().empty()) {
      return Corrupt("gave a logprob without a value");
    }
    wire::TokenLogprob& logprob = piece.logprobs.emplace_back();
    logprob.logprob = FloatOf(row.array().data());
    if (!has_tops || !at(*tops, i).is_array()) {
      continue;
    }
    for (const Json& top : at(*tops, i).array()) {
      const auto id =
          top.is_array() && top.array().size() > 1 ? IntOf(&top.array()[1]) : std::nullopt;
      if (id && *id >= 0 && *id < dialect_.vocab_size) {
        logprob.top.emplace_back(static_cast<TokenId>(*id), FloatOf(top.array().data()));
      }
    }
    SortTop(logprob, static_cast<std::size_t>(top_logprobs_));
  }
  return {};
}

// Each event has all tokens so far, or those since the last one: their count tells which.
Result<EnginePiece> EngineAnswerReader::ReadSglang(const Json& event) {
  EnginePiece piece;
  const Json* ids = event.Find("output_ids");
  const Json* meta = event.Find("meta_info");
  if (ids == nullptr || !ids->is_array() || meta == nullptr || !meta->is_object()) {
    return Corrupt("sent an event without output_ids and meta_info");
  }
  const std::size_t size = ids->array().size();
  const auto total = IntOf(meta->Find("completion_tokens"));
  const bool adds = !total || given_ + size == static_cast<std::size_t>(*total);
  if (!adds && size < given_) {
    return Corrupt("took tokens back");
  }
  PX_CHECK_OK(TakeTokens(*ids, adds ? 0 : given_, piece));
  given_ = adds ? given_ + size : size;
  if (const auto cached = IntOf(meta->Find("cached_tokens")); cached && *cached >= 0) {
    piece.cached_tokens = static_cast<std::uint32_t>(std::min<std::int64_t>(*cached, 1LL << 31));
  }
  PX_CHECK_OK(TakeSglangLogprobs(*meta, piece));
  const Json* finish = meta->Find("finish_reason");
  if (finish == nullptr || !finish->is_object()) {
    return piece;
  }
  const std::string_view type = TextOr(finish->Find("type"), "");
  if (type == "abort") {
    const auto status = IntOf(finish->Find("status_code"));
    return Fail(EngineRefusal(static_cast<int>(status.value_or(500)),
                              TextOr(finish->Find("message"), "it gave the request up")));
  }
  piece.finish = type == "length" ? wire::FinishReason::kLength : wire::FinishReason::kStop;
  const auto matched = IntOf(finish->Find("matched"));
  if (matched && *matched >= 0 && *matched < dialect_.vocab_size) {
    piece.stop_token = static_cast<TokenId>(*matched);
  }
  return piece;
}

}  // namespace pixii::worker
