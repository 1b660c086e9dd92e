// Arguments of calls given out while they are written.
//
// Thread: a value of one choice. Law: the pieces of a call, joined, are its arguments; asked after
// every byte, so they depend on the bytes alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>

#include "text/parsers/call_reader.h"
#include "text/parsers/parse_events.h"

namespace pixii::text::parsers {

class CallPieces final {
 public:
  /// What `call` has more than it had. True: it is a new one.
  bool Write(const CallInProgress& call, EventList& events);

  /// `call` is whole: gives out what is missing of it, or all if it was not begun.
  void Finish(ParsedCall call, EventList& events);

  /// Calls that were begun and not finished never will be.
  void Forget() { begun_.clear(); }

 private:
  struct Begun {
    std::string name;
    std::size_t sent = 0;  // bytes of the arguments, marks counted
  };

  std::deque<Begun> begun_;
  std::uint32_t serial_ = 0;
  std::size_t sent_ = 0;  // of the last call
};

}  // namespace pixii::text::parsers
