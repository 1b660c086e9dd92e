// What is remembered of a request for its trace, and the spans that it becomes.
//
// Thread: values and pure functions; a store may be used by several loops. docs/observability.md
// A request costs one such value; spans are made when somebody wants to see or export them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "frontend/session_headers.h"
#include "frontend/text_processor.h"
#include "obs/trace.h"
#include "rt/thread.h"
#include "rt/time.h"
#include "wire/messages/times.h"

namespace pixii::frontend {

/// One choice of an answer, as its client got it.
struct TraceAnswer {
  struct Call {
    std::string id;
    std::string name;
    std::string arguments;
  };

  std::string text;
  std::string reasoning;
  std::vector<Call> calls;
  std::string finish;
};

/// What was asked and answered; nobody keeps it longer than a listener wants it.
struct TracePayload {
  std::string body;                  // JSON in OpenAI's form; empty: nobody wants it
  std::vector<TokenId> prompt;       // of the first one
  std::vector<TraceAnswer> answers;  // [choices]
};

struct RequestTrace {
  obs::TraceContext context;  // its parent is the client's span
  obs::SpanId root{};
  std::string label;  // the client's x-request-id
  std::string id;     // of the answer
  std::string path;
  std::string operation;  // gen_ai.operation.name
  std::string model;
  rt::WallTime wall;  // of `begun`
  rt::Time begun{};
  SessionIdentity session;
  bool ahead = false;        // nobody asked for it: it warms the cache for a turn to come
  std::string next_turn_of;  // owner for whom the turn behind it is prepared; empty: nobody
  PromptTimes prompt_times;
  rt::Time prepared = rt::kNever;  // its body was read and its prompt made
  rt::Time first_token = rt::kNever;
  rt::Time last_frame = rt::kNever;  // of any worker
  rt::Time answered = rt::kNever;
  bool stream = false;
  std::uint64_t prompt_tokens = 0;
  std::uint64_t cached_tokens = 0;
  std::uint64_t output_tokens = 0;
  std::vector<std::string> finish_reasons;  // [choices]
  std::optional<Error> error;
  std::vector<wire::RequestLeg> legs;     // in the order in which they ended
  std::unique_ptr<TracePayload> payload;  // null: nobody wants it
};

/// Pre: it was answered. Every span but the root lies within its parent.
obs::SpanTree SpansOf(const RequestTrace& trace);

/// As GET /v1/traces/{id} has it.
std::string TraceJson(const RequestTrace& trace);

/// What a planner needs of a request, as GET /v1/requests has it; `sequence`: its number among
/// those that ended.
std::string EndedRequestJson(const RequestTrace& trace, std::uint64_t sequence);

using EndedTrace = std::shared_ptr<const RequestTrace>;

/// The last ended requests of a process.
class TraceStore final {
 public:
  static constexpr std::size_t kCountMax = 2048;  // requests; some 1 KiB each

  struct Options {
    std::size_t count_max = kCountMax;
    double sample_ratio = 1;     // of traces that begin here
    bool wants_payload = false;  // prompts and what was answered
    bool wants_bodies = false;   // what was asked, too
    /// Hears of each, on the loop that ended it; must not block. `payload`: null if there is none.
    std::function<void(const EndedTrace&, std::shared_ptr<const TracePayload> payload)> on_ended =
        {};
  };

  TraceStore() : TraceStore(Options()) {}

  explicit TraceStore(Options options) : options_(std::move(options)) {}

  const Options& options() const { return options_; }

  /// Keeps it without its payload.
  void Add(std::unique_ptr<RequestTrace> trace);

  /// A request came whose trace will be added.
  void Begin();

  struct Recent {
    std::uint64_t begun = 0;  // since the start
    std::uint64_t ended = 0;
    std::vector<EndedTrace> traces;  // the last ones of those that ended, the oldest first
  };

  /// What ended after the first `after` of all that did, as far as it is remembered.
  Recent Since(std::uint64_t after) const;

  /// The last one whose answer, client or trace has this id; null: there is none.
  EndedTrace Find(std::string_view id) const;

 private:
  const Options options_;
  mutable rt::Mutex mutex_;
  std::deque<EndedTrace> traces_ PX_GUARDED_BY(mutex_);
  std::uint64_t begun_ PX_GUARDED_BY(mutex_) = 0;
  std::uint64_t ended_ PX_GUARDED_BY(mutex_) = 0;
};

}  // namespace pixii::frontend
