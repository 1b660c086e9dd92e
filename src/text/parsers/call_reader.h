// The part of a tool-call format that lies between its markers: one engine each for families of
// formats, told apart by tables.
//
// Thread: a value of one choice. Bytes come one at a time, so what is read cannot depend on how the
// stream was cut.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/parsers/parse_events.h"

namespace pixii::text::parsers {

/// What a reader makes of the bytes since the last look.
struct CallOutput {
  std::vector<ParsedCall> calls;
  std::string text;   // content after all, its markers left out
  std::string again;  // kRefused: bytes that are no part of the calls, to be read as content
};

/// A call whose arguments are being written, as far as they are.
struct CallInProgress {
  std::uint32_t serial = 0;  // another number for each call of a reader
  std::string_view name;
  std::string_view id;
  std::string_view arguments;
};

class CallReader {
 public:
  enum class Status : std::uint8_t {
    kMore,
    kClosed,   // the calls end with this byte
    kRefused,  // they ended before; output.again has what was not taken
  };

  virtual ~CallReader() = default;

  /// Markers that begin calls, and those that only end them, which are dropped where they stand
  /// alone.
  virtual std::vector<std::string> openers() const = 0;
  virtual std::vector<std::string> closers() const = 0;

  /// Calls may stand at the start of the content without a marker, beginning with `byte`.
  virtual bool MayBeginBare(char byte) const = 0;

  /// `opener` index of openers(); npos: bare, and the first byte is still to come.
  virtual void Open(std::size_t opener) = 0;
  virtual Status Push(char byte, CallOutput& out) = 0;

  /// From now on Writing() is asked for.
  virtual void Watch() {}

  /// The last call that was begun in JSON of the model's own: its arguments only ever grow, up to
  /// those of the call that is given out. Nothing where calls are brought to JSON.
  virtual std::optional<CallInProgress> Writing() const { return std::nullopt; }

  /// The stream ended inside: what is complete may be given out. Returns false if something was
  /// begun and is lost.
  virtual bool End(CallOutput& out) = 0;
};

}  // namespace pixii::text::parsers
