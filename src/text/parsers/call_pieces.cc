#include "text/parsers/call_pieces.h"

#include <utility>

#include "text/parsers/tool_call_parser.h"

namespace pixii::text::parsers {

bool CallPieces::Write(const CallInProgress& call, EventList& events) {
  const bool begins = call.serial != serial_;
  if (begins) {
    serial_ = call.serial;
    sent_ = 0;
    begun_.push_back({.name = std::string(call.name)});
    events.BeginCall(
        {.name = WithoutMarks(call.name), .arguments = {}, .id = WithoutMarks(call.id)});
  }
  if (call.arguments.size() > sent_ && !begun_.empty()) {
    events.MoreArguments(WithoutMarks(call.arguments.substr(sent_)), false);
    sent_ = call.arguments.size();
    begun_.back().sent = sent_;
  }
  return begins;
}

void CallPieces::Finish(ParsedCall call, EventList& events) {
  const bool begun = !begun_.empty() && begun_.front().name == call.name &&
                     begun_.front().sent <= call.arguments.size();
  if (!begun) {
    events.Call({.name = WithoutMarks(call.name),
                 .arguments = WithoutMarks(call.arguments),
                 .id = WithoutMarks(call.id)});
    return;
  }
  // Calls of one list become whole together: of all but the last nothing is missing.
  if (begun_.size() == 1) {
    events.MoreArguments(WithoutMarks(std::string_view(call.arguments).substr(begun_[0].sent)),
                         true);
  }
  events.CountWholeCall();
  begun_.pop_front();
}

}  // namespace pixii::text::parsers
