// What every line about a request says, so that its lines of all processes are found together.
//
// Thread: functions of values.
#pragma once

#include <string_view>

#include "obs/log.h"

namespace pixii::obs {

/// trace_id of a W3C traceparent, and the client's x-request-id; those that are empty are left out.
inline Event& AddLabels(Event& event, std::string_view traceparent, std::string_view label) {
  constexpr std::size_t kTraceAt = 3;
  constexpr std::size_t kTraceSize = 32;
  if (traceparent.size() > kTraceAt + kTraceSize) {
    event.kv("trace_id", traceparent.substr(kTraceAt, kTraceSize));
  }
  if (!label.empty()) {
    event.kv("x_request_id", label);
  }
  return event;
}

}  // namespace pixii::obs
