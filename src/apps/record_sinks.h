// Where records of requests go: files, standard error, a collector, NATS, an S3-compatible store.
//
// Thread: one, which they block.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "apps/option_structs.h"
#include "base/result.h"
#include "rt/time.h"

namespace pixii::apps {

struct RecordLine {
  std::int64_t unix_ns = 0;
  std::string trace_id;  // empty: it has none
  std::string json;      // on one line, without its end
};

/// What became of lines, those of earlier calls included.
struct RecordCounts {
  std::uint64_t written = 0;
  std::uint64_t lost = 0;
};

class RecordSink {
 public:
  virtual ~RecordSink() = default;
  virtual std::string_view name() const = 0;
  /// Called now and then without lines, too. `stopping`: for the last time, perhaps. Errors: why
  /// lines are lost.
  virtual Result<RecordCounts> Write(std::span<const RecordLine> lines, bool stopping) = 0;
};

struct SinkPlace {
  const HttpFlags& flags;
  const ProcessFlags& process;
  std::function<rt::WallTime()> wall_now;  // on any thread
  /// Waits, or says that there is no time for another try.
  std::function<bool(rt::Duration pause)> sleep;
};

/// One of --request-trace-sinks. Errors: kInvalidArgument naming the flag, those of the file.
Result<std::unique_ptr<RecordSink>> MakeRecordSink(std::string_view name, const SinkPlace& place);

}  // namespace pixii::apps
