// Server-sent events: writing them, and reading them back in any pieces. Source: WHATWG HTML,
// section 9.2.
//
// Thread: values.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pixii::wire {

inline constexpr std::string_view kSseDone = "data: [DONE]\n\n";

/// Appends an event. Pre: `data` and `event` have no line ends (JSON text has none).
void AppendSseData(std::string& out, std::string_view data);
void AppendSseEvent(std::string& out, std::string_view event, std::string_view data);
/// A line that clients ignore.
inline constexpr std::string_view kSseComment = ":\n\n";

struct SseEvent {
  std::string event;  // empty: message
  std::string data;
};

/// Reads a stream of events as a client does.
class SseParser final {
 public:
  explicit SseParser(std::size_t event_bytes_max = 16 * 1024 * 1024)
      : event_bytes_max_(event_bytes_max) {}

  /// Appends the events that `bytes` complete to `out`. Errors: kTooLarge past event_bytes_max.
  Result<void> Feed(std::string_view bytes, std::vector<SseEvent>& out);

  /// Whether an event is begun and not ended.
  bool mid_event() const { return !line_.empty() || has_data_; }

 private:
  void Line(std::string_view line, std::vector<SseEvent>& out);

  std::size_t event_bytes_max_;
  std::string line_;
  SseEvent pending_;
  bool has_data_ = false;
  bool after_cr_ = false;
};

}  // namespace pixii::wire
