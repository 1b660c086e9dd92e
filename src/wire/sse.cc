#include "wire/sse.h"

#include <fmt/format.h>

namespace pixii::wire {

void AppendSseData(std::string& out, std::string_view data) {
  out += "data: ";
  out += data;
  out += "\n\n";
}

void AppendSseEvent(std::string& out, std::string_view event, std::string_view data) {
  out += "event: ";
  out += event;
  out += '\n';
  AppendSseData(out, data);
}

void SseParser::Line(std::string_view line, std::vector<SseEvent>& out) {
  if (line.empty()) {
    if (has_data_) {
      out.push_back(std::move(pending_));
    }
    pending_ = {};
    has_data_ = false;
    return;
  }
  std::size_t colon = line.find(':');
  std::string_view field = line.substr(0, colon);
  std::string_view value =
      colon == std::string_view::npos ? std::string_view() : line.substr(colon + 1);
  if (value.starts_with(' ')) {
    value.remove_prefix(1);
  }
  if (field == "event") {
    pending_.event = value;
  } else if (field == "data") {
    if (has_data_) {
      pending_.data += '\n';
    }
    pending_.data += value;
    has_data_ = true;
  }
}

Result<void> SseParser::Feed(std::string_view bytes, std::vector<SseEvent>& out) {
  for (char c : bytes) {
    if (c == '\n' && after_cr_) {
      after_cr_ = false;
      continue;
    }
    after_cr_ = c == '\r';
    if (c == '\n' || c == '\r') {
      Line(line_, out);
      line_.clear();
      continue;
    }
    line_ += c;
    if (line_.size() + pending_.data.size() > event_bytes_max_) {
      return Fail(Code::kTooLarge,
                  fmt::format("a server-sent event is longer than {} bytes", event_bytes_max_));
    }
  }
  return {};
}

}  // namespace pixii::wire
