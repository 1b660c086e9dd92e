// Records of requests as a trace that can be replayed: Mooncake's form, with or without what
// agents' turns wait for. docs/agents.md
//
// Thread: pure functions. Source: schema dynamo.request.trace.v1; the agentic form of Mooncake's
// traces (wait_for, delay, tool_wait_ms).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pixii::sim {

/// What of a record of a request a replay needs.
struct RecordedRequest {
  std::string id;
  std::string session;           // empty: it is of none
  std::string parent;            // session that began that one; empty: none
  std::int64_t received_ms = 0;  // since 1970
  std::int64_t ended_ms = 0;
  std::uint32_t input_tokens = 1;
  std::uint32_t output_tokens = 1;
  std::vector<std::uint64_t> hashes;  // of the prompt's blocks, the last one in part
};

struct RecordedTool {
  std::string session;
  std::int64_t ended_ms = 0;
  double took_ms = 0;
};

struct Records {
  std::vector<RecordedRequest> requests;
  std::vector<RecordedTool> tools;
  std::uint32_t block_tokens = 0;  // of each hash; 0: there is none yet
  std::size_t left_out = 0;        // requests without a prompt's hashes: refused ones
};

/// Adds the lines of one file, as they are or in {"event": …}. Other events are passed over.
/// Errors: kInvalidArgument naming `file` and the line; also where block sizes differ.
Result<void> AddRecords(std::string_view text, std::string_view file, Records& records);

/// One line for each request, in the order in which they came. `agentic`: each has its session, and
/// waits for the turn before it and for the tools between. Errors: kInvalidArgument if there is no
/// request, or in the agentic form one without a session.
Result<std::string> ToMooncake(Records records, bool agentic);

}  // namespace pixii::sim
