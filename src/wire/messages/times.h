// When things happened to a request, for its trace.
//
// Thread: values. docs/observability.md
// Clocks of two processes have nothing to do with one another: a worker says how long after the
// request came to it things happened, and whoever sent it places that between its own sending and
// receiving.
#pragma once

#include <cstdint>
#include <string>

namespace pixii::wire {

/// Nanoseconds since the request came to its worker, by the worker's steady clock; -1: never.
struct WorkerTimes {
  std::int64_t queued_ns = -1;     // blocks that others bring were there, or none were awaited
  std::int64_t scheduled_ns = -1;  // first in a step
  std::int64_t first_token_ns = -1;
  std::int64_t last_token_ns = -1;
  std::int64_t ended_ns = -1;
  bool awaited_blocks = false;  // it waited for blocks from elsewhere until `queued_ns`
  bool preempted = false;
  std::uint32_t cached_tokens = 0;    // of its prompt, found in the worker's cache
  std::uint32_t computed_tokens = 0;  // again after a preemption included
  std::uint64_t brought_bytes = 0;    // of the blocks that it waited for and that came
};

/// One attempt at one worker. The worker says `times`; the rest is whose who sent it, by the
/// sender's steady clock in nanoseconds, -1: never.
struct RequestLeg {
  enum class Phase : std::uint8_t {
    kWhole,    // prompt and answer
    kPrefill,  // the prompt, for another worker
    kDecode,   // the answer, behind another worker's prompt
    kFetch,    // blocks are brought to who decodes
  };

  Phase phase = Phase::kWhole;
  std::uint64_t worker = 0;  // its instance; 0: the process's own
  std::uint32_t rank = 0;
  std::uint32_t attempt = 0;    // of the request in this phase, from 1 on
  std::uint64_t span = 0;       // as the worker knows it
  std::int64_t routed_ns = -1;  // somebody was looked for
  std::int64_t sent_ns = -1;
  std::int64_t first_frame_ns = -1;  // with tokens
  std::int64_t ended_ns = -1;
  std::string error = {};  // name of its code; empty: it ended well
  bool moved = false;      // another attempt goes on
  WorkerTimes times = {};
};

}  // namespace pixii::wire
