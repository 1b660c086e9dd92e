#include "text/parsers/marker_scanner.h"

#include <utility>

namespace pixii::text::parsers {

MarkerScanner::MarkerScanner(std::vector<std::string> markers) : markers_(std::move(markers)) {
  for (const std::string& marker : markers_) {
    if (!marker.empty()) {
      first_bytes_ += marker[0];
    }
  }
}

std::optional<std::size_t> MarkerScanner::Push(char byte, std::string& text) {
  if (held_.empty() && first_bytes_.find(byte) == std::string::npos) {
    text += byte;
    return std::nullopt;
  }
  held_ += byte;
  while (!held_.empty()) {
    for (std::size_t i = 0; i < markers_.size(); ++i) {
      if (!markers_[i].empty() && markers_[i].starts_with(held_)) {
        if (markers_[i].size() > held_.size()) {
          return std::nullopt;
        }
        held_.clear();
        return i;
      }
    }
    text += held_[0];
    held_.erase(0, 1);
  }
  return std::nullopt;
}

void MarkerScanner::Flush(std::string& text) {
  text += held_;
  held_.clear();
}

std::vector<std::string> Joined(std::initializer_list<std::vector<std::string>> lists) {
  std::vector<std::string> out;
  for (const std::vector<std::string>& list : lists) {
    out.insert(out.end(), list.begin(), list.end());
  }
  return out;
}

std::string_view Trimmed(std::string_view text) {
  while (!text.empty() && IsSpace(text.front())) {
    text.remove_prefix(1);
  }
  while (!text.empty() && IsSpace(text.back())) {
    text.remove_suffix(1);
  }
  return text;
}

}  // namespace pixii::text::parsers
