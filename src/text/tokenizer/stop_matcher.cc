#include "text/tokenizer/stop_matcher.h"

#include <fmt/format.h>

namespace pixii::text {

Result<StopMatcher> StopMatcher::Create(std::vector<std::string> stops, bool include_stop) {
  if (stops.size() > kStopStringsMax) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{} stop strings were given, at most {} are allowed", stops.size(),
                            kStopStringsMax),
                "stop");
  }
  for (const std::string& stop : stops) {
    if (stop.empty() || stop.size() > kStopStringBytesMax) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("a stop string has {} bytes, allowed are 1 to {}", stop.size(),
                              kStopStringBytesMax),
                  "stop");
    }
  }
  StopMatcher out;
  if (!stops.empty()) {
    AhoCorasick automaton(stops);
    out.stops_ =
        std::make_shared<const Stops>(Stops{std::move(stops), std::move(automaton), include_stop});
  }
  return out;
}

std::string StopMatcher::Push(std::string_view text) {
  if (matched_) {
    return {};
  }
  if (stops_ == nullptr) {
    return std::string(text);
  }
  const AhoCorasick& automaton = stops_->automaton;
  for (std::size_t i = 0; i < text.size(); ++i) {
    state_ = automaton.Next(state_, static_cast<unsigned char>(text[i]));
    std::uint32_t found = automaton.Longest(state_);
    if (found == AhoCorasick::kNone) {
      continue;
    }
    matched_ = found;
    std::string out = std::move(held_);
    held_.clear();
    out.append(text.substr(0, i + 1));
    if (!stops_->include) {
      out.resize(out.size() - stops_->strings[found].size());
    }
    return out;
  }
  std::string out = std::move(held_);
  out.append(text);
  std::size_t keep = automaton.Depth(state_);
  held_.assign(out, out.size() - keep);
  out.resize(out.size() - keep);
  return out;
}

std::string StopMatcher::Flush() {
  state_ = AhoCorasick::kRoot;
  std::string out = std::move(held_);
  held_.clear();
  return out;
}

}  // namespace pixii::text
