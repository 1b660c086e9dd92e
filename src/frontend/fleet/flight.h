// One request on its way over workers: what its client has, and what happens when a worker fails.
//
// Thread: a value; decides and does nothing. docs/fault_tolerance.md
// Everything that a worker needs to go on stands in the request (architecture.md section 4): the
// tokens so far and the state that travels with them. So an answer that moves is the answer that
// would have come.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "wire/messages/generate.h"

namespace pixii::frontend {

struct FlightOptions {
  std::uint32_t moves_max = 3;    // of one request to another worker; 0: its first failure is final
  std::uint32_t deaths_max = 2;   // workers that may die under it before it is refused
  std::uint32_t misses_max = 32;  // attempts at workers that were gone before they had it
  std::uint32_t tokens_max = 0;  // prompt and generated; a longer request does not move; 0: any may
};

class Flight final {
 public:
  enum class MoveKind : std::uint8_t {
    kNewRequest,  // no worker had given anything of its answer
    kOngoing,     // one had
  };

  struct Outcome {
    std::vector<wire::TokenFrame> frames;  // for whoever waits, in order
    std::optional<MoveKind> move;          // send Attempt() to another worker
    bool missed = false;                   // it was at a worker that never had it
    bool too_long = false;                 // it would move, were it shorter
  };

  Flight(wire::GenerateRequest request, FlightOptions options);

  /// The request as the next worker gets it, which computes under `numerics_id`; empty: nobody
  /// knows.
  wire::GenerateRequest Attempt(std::string_view numerics_id = {});

  /// What the tokens that its client has were computed under, those of choices that go on; empty:
  /// there are none, or nobody knows.
  std::string_view numerics_id() const;

  /// Choices of an attempt that are to be cancelled at the worker before it begins.
  std::vector<std::uint32_t> ended_choices() const;

  /// The attempt was not sent.
  Outcome OnRefused(const Error& error);

  /// A frame of the attempt that runs.
  Outcome OnFrame(wire::TokenFrame frame);

  /// Nobody is left who could take it.
  Outcome Fail(const Error& error) {
    return {.frames = EndAll(error), .move = {}, .too_long = false};
  }

  /// The client wants no more of a choice, or of all: it ends where it is and does not move.
  void OnCancel(std::optional<std::uint32_t> choice);

  bool ended() const { return live_count_ == 0; }

  const wire::GenerateRequest& request() const { return request_; }

  /// Why it moved last; nothing: it has not.
  const std::optional<Error>& last_failure() const { return last_failure_; }

  /// Whether any worker has sent a frame of it.
  bool begun() const { return begun_; }

  /// A worker's first word of a request: it has it, and nothing more.
  static bool IsAcknowledgement(const wire::TokenFrame& frame);

 private:
  struct Choice {
    bool ended = false;
    bool cancelled = false;
    bool has_frame = false;
    bool greeted = false;     // it had a frame of the attempt that runs
    std::string numerics_id;  // of the tokens it has; empty: it has none, or nobody knows
  };

  static bool MayMove(Code code);
  Outcome Failed(const Error& error);
  bool MovesOn(bool missed);
  std::vector<wire::TokenFrame> EndAll(const Error& error);
  wire::TokenFrame End(std::uint32_t choice, wire::FinishReason finish,
                       const std::optional<Error>& error);
  std::uint64_t token_count() const;

  wire::GenerateRequest request_;  // with all that its client has
  FlightOptions options_;
  std::vector<Choice> choices_;
  std::uint32_t live_count_;
  std::uint32_t attempt_ = 0;
  std::string numerics_id_;  // of the attempt that runs
  std::uint32_t moves_ = 0;
  std::uint32_t deaths_ = 0;
  std::uint32_t misses_ = 0;
  bool acknowledged_ = false;  // the worker of this attempt has it
  std::optional<Error> last_failure_;
  bool begun_ = false;
  bool prompt_logprobs_sent_ = false;
};

}  // namespace pixii::frontend
