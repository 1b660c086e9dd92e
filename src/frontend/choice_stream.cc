#include "frontend/choice_stream.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace pixii::frontend {

void ChoiceDelta::Clear() {
  text.clear();
  events.clear();
  tokens.clear();
  logprobs.clear();
  finish.reset();
  cancel_upstream = false;
}

ChoiceStream::ChoiceStream(const ChoiceOptions& options, const TextProcessor* text,
                           std::span<const TokenId> prompt)
    : options_(options),
      text_(text),
      decoder_(text == nullptr
                   ? nullptr
                   : text->NewDecoder(prompt, options.skip_special && !options.parsing)),
      matcher_(options.matcher) {
  if (const ChatParsing* parsing = options.parsing.get(); parsing != nullptr) {
    parser_.emplace(parsing->answers->format, parsing->tools, parsing->options,
                    parsing->prompt_tail);
  }
}

// Markers come with their mark; other special tokens are left out here, where the decoder keeps
// them all for the markers' sake.
void ChoiceStream::Decode(TokenId token) {
  piece_.clear();
  if (!parser_) {
    decoder_->Push(token, piece_);
    return;
  }
  bool marker = IsMarker(*options_.parsing->answers, token);
  if (!marker && options_.skip_special && text_->IsSpecial(token)) {
    return;
  }
  decoder_->Push(token, piece_);
  if (!marker) {
    return;
  }
  std::string spelling = text_->TokenBytes(token);
  if (piece_.ends_with(spelling)) {
    piece_.insert(piece_.size() - spelling.size(), 1, text::parsers::kTokenMark);
  }
}

std::optional<Error> ChoiceStream::Push(wire::TokenFrame& frame, ChoiceDelta& delta) {
  std::optional<Error> error = PushFrame(frame, delta);
  if (!error && parser_) {
    TakeApart(delta);
  }
  return error;
}

void ChoiceStream::TakeApart(ChoiceDelta& delta) {
  bool had_ended = !delta.finish && ended_;
  if (had_ended) {
    return;
  }
  delta.events = parser_->Push(delta.text);
  delta.text.clear();
  CountReasoning(delta);
  if (delta.finish) {
    std::vector<text::parsers::ParseEvent> rest = parser_->End();
    std::ranges::move(rest, std::back_inserter(delta.events));
  } else if (parser_->finished()) {
    delta.finish = ChoiceFinish{};
    delta.cancel_upstream = true;
    ended_ = true;
  }
  if (delta.finish && delta.finish->kind == FinishKind::kStop && parser_->call_count() > 0) {
    delta.finish->kind = FinishKind::kToolCalls;
  }
}

// Reasoning comes first; what a model thinks between calls is not told apart.
void ChoiceStream::CountReasoning(const ChoiceDelta& delta) {
  using Kind = text::parsers::ParseEvent::Kind;
  for (const text::parsers::ParseEvent& event : delta.events) {
    const bool begins = event.kind == Kind::kReasoning && reasoning_tokens_ == 0;
    const bool ends = event.kind != Kind::kReasoning && reasons_;
    reasoning_tokens_ = begins || ends ? generated_ : reasoning_tokens_;
    reasons_ = (reasons_ || begins) && !ends;
  }
  if (reasons_) {
    reasoning_tokens_ = generated_;
  }
}

std::optional<Error> ChoiceStream::PushFrame(wire::TokenFrame& frame, ChoiceDelta& delta) {
  if (ended_) {
    return std::nullopt;
  }
  for (std::size_t i = 0; i < frame.tokens.size() && !ended_; ++i) {
    PushToken(frame.tokens[i], i < frame.logprobs.size() ? &frame.logprobs[i] : nullptr, delta);
  }
  if (ended_ || !frame.finish) {
    return std::nullopt;
  }
  switch (*frame.finish) {
    case wire::FinishReason::kStop:
    case wire::FinishReason::kLength:
      Finish(frame, delta);
      return std::nullopt;
    case wire::FinishReason::kCancelled:
      ended_ = true;
      return frame.error.value_or(Error(Code::kCancelled, "the request was cancelled"));
    case wire::FinishReason::kError:
      ended_ = true;
      return frame.error.value_or(Error(Code::kInternal, "the worker failed without a reason"));
  }
  return std::nullopt;
}

void ChoiceStream::PushToken(TokenId token, wire::TokenLogprob* logprob, ChoiceDelta& delta) {
  ++generated_;
  if (decoder_ == nullptr) {
    if (options_.wants_tokens) {
      delta.tokens.push_back(token);
      if (logprob != nullptr) {
        delta.logprobs.push_back(std::move(*logprob));
      }
    }
    return;
  }
  Decode(token);
  if (options_.wants_tokens) {
    held_.push_back({token, decoded_bytes_, kUnresolved,
                     logprob == nullptr ? std::nullopt : std::optional(std::move(*logprob))});
  }
  if (!piece_.empty()) {
    PushText(piece_, generated_ > options_.min_tokens, delta);
  }
}

void ChoiceStream::PushText(std::string_view piece, bool may_stop, ChoiceDelta& delta) {
  decoded_bytes_ += piece.size();
  for (auto it = held_.rbegin(); it != held_.rend() && it->end == kUnresolved; ++it) {
    it->end = decoded_bytes_;
  }
  std::size_t before = delta.text.size();
  if (may_stop) {
    delta.text += matcher_.Push(piece);
  } else {
    delta.text += piece;
  }
  sent_bytes_ += delta.text.size() - before;
  if (matcher_.matched()) {
    Release(sent_bytes_, true, delta);
    delta.finish = ChoiceFinish{FinishKind::kStop, options_.stops[*matcher_.matched()]};
    delta.cancel_upstream = true;
    ended_ = true;
    return;
  }
  Release(sent_bytes_, false, delta);
}

// Gives out the tokens whose text ends at or before `text_end`; with `cut`, all that begin before
// it.
void ChoiceStream::Release(std::uint64_t text_end, bool cut, ChoiceDelta& delta) {
  while (!held_.empty()) {
    Held& first = held_.front();
    bool out = cut ? first.begin < text_end : first.end <= text_end;
    if (!out) {
      break;
    }
    delta.tokens.push_back(first.token);
    if (first.logprob) {
      delta.logprobs.push_back(std::move(*first.logprob));
    }
    held_.pop_front();
  }
  if (cut) {
    held_.clear();
  }
}

void ChoiceStream::Finish(const wire::TokenFrame& frame, ChoiceDelta& delta) {
  ChoiceFinish finish;
  bool client_stop =
      frame.stop_token && std::find(options_.stop_token_ids.begin(), options_.stop_token_ids.end(),
                                    *frame.stop_token) != options_.stop_token_ids.end();
  if (client_stop) {
    finish.stop_reason = *frame.stop_token;
    if (options_.include_stop && decoder_ != nullptr) {
      Decode(*frame.stop_token);
      PushText(piece_, false, delta);
    }
  }
  finish.kind =
      *frame.finish == wire::FinishReason::kLength ? FinishKind::kLength : FinishKind::kStop;
  if (decoder_ != nullptr) {
    piece_.clear();
    decoder_->Flush(piece_);
    if (!piece_.empty()) {
      PushText(piece_, generated_ > options_.min_tokens, delta);
      if (ended_) {
        delta.cancel_upstream = false;  // the engine ended by itself
        return;
      }
    }
    delta.text += matcher_.Flush();
    Release(kUnresolved, false, delta);
  }
  delta.finish = std::move(finish);
  ended_ = true;
}

}  // namespace pixii::frontend
