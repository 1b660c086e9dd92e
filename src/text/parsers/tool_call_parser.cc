#include "text/parsers/tool_call_parser.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace pixii::text::parsers {

namespace {

constexpr int kRecoveriesMax = 64;  // how often a broken body is left behind at the end

}  // namespace

std::string WithoutMarks(std::string_view text) {
  std::string out(text);
  std::erase(out, kTokenMark);
  return out;
}

ToolCallParser::ToolCallParser(std::unique_ptr<CallReader> reader, ToolCallOptions options)
    : reader_(std::move(reader)),
      options_(options),
      opener_count_(reader_->openers().size()),
      scanner_(Joined({reader_->openers(), reader_->closers()})) {
  if (options_.pieces) {
    reader_->Watch();
  }
}

void ToolCallParser::StartInside(std::size_t opener) { Open(opener); }

void ToolCallParser::Push(std::string_view text, EventList& events) {
  for (char byte : text) {
    PushByte(byte, events);
  }
}

void ToolCallParser::Open(std::size_t opener) {
  inside_ = true;
  bare_ = opener == std::string::npos;
  called_ = false;
  body_.clear();
  pieces_.Forget();
  reader_->Open(opener);
}

void ToolCallParser::PushByte(char byte, EventList& events) {
  if (finished_) {
    return;
  }
  if (!inside_) {
    PushText(byte, events);
    if (!inside_ || !bare_) {
      return;
    }
  }
  body_ += byte;
  CallReader::Status status = reader_->Push(byte, out_);
  std::string again = std::exchange(out_.again, {});
  Give(events);
  if (status == CallReader::Status::kMore) {
    std::optional<CallInProgress> call =
        options_.pieces && !finished_ ? reader_->Writing() : std::nullopt;
    if (call && pieces_.Write(*call, events)) {
      space_.clear();
      fresh_ = true;
    }
    return;
  }
  inside_ = false;
  if (status == CallReader::Status::kRefused) {
    bool all = bare_ && !called_;
    bare_allowed_ = bare_allowed_ && !all;
    Push(all ? std::exchange(body_, {}) : again, events);
  }
}

void ToolCallParser::PushText(char byte, EventList& events) {
  if (fresh_ && bare_allowed_ && !scanner_.holds() && reader_->MayBeginBare(byte)) {
    Open(std::string::npos);
    return;
  }
  std::string text;
  std::optional<std::size_t> marker = scanner_.Push(byte, text);
  Emit(text, events);
  if (marker && *marker < opener_count_) {
    Open(*marker);
  }
}

void ToolCallParser::Give(EventList& events) {
  if (!out_.text.empty()) {
    Emit(std::exchange(out_.text, {}), events);
  }
  if (out_.calls.empty()) {
    return;
  }
  called_ = true;
  for (ParsedCall& call : std::exchange(out_.calls, {})) {
    if (finished_) {
      return;
    }
    space_.clear();
    fresh_ = true;
    pieces_.Finish(std::move(call), events);
    finished_ = options_.one_call;
  }
}

void ToolCallParser::Emit(std::string_view text, EventList& events) {
  if (fresh_) {
    space_ += text;
    if (Trimmed(text).empty()) {
      return;
    }
    fresh_ = false;
    events.Content(WithoutMarks(std::exchange(space_, {})));
    return;
  }
  events.Content(WithoutMarks(text));
}

void ToolCallParser::End(EventList& events) {
  for (int i = 0; inside_ && !finished_ && i < kRecoveriesMax; ++i) {
    inside_ = false;
    bool sound = reader_->End(out_);
    Give(events);
    if (finished_) {
      return;
    }
    std::string body = std::exchange(body_, {});
    if (bare_ && !called_) {
      bare_allowed_ = false;
      Push(body, events);
      continue;
    }
    if (sound) {
      break;
    }
    // What was begun and never ended is dropped, up to the first closer inside it.
    std::size_t rest = std::string::npos;
    for (const std::string& closer : reader_->closers()) {
      std::size_t at = closer.empty() ? std::string::npos : body.find(closer);
      rest = at == std::string::npos ? rest : std::min(rest, at + closer.size());
    }
    if (rest != std::string::npos && !called_) {
      Push(std::string_view(body).substr(rest), events);
    }
  }
  if (finished_) {
    return;
  }
  std::string held;
  scanner_.Flush(held);
  // A marker that was never completed is none: it is text.
  Emit(held, events);
  if (events.call_count() == 0) {
    events.Content(WithoutMarks(std::exchange(space_, {})));
  }
}

}  // namespace pixii::text::parsers
