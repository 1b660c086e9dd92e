// Answers that were given, computed once more without any cache: which, when, and whether they are
// the same.
//
// Thread: the engine thread. Decides and compares; EngineLoop runs what it says.
// One in `rate` requests is drawn. When the engine has nothing else to do, the request runs again
// from its prompt, cold; by promise 1 its tokens are the same, whatever the first run found in
// caches, was sent by other workers or was preempted by. A difference means that some block was
// believed that should not have been.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "wire/messages/generate.h"

namespace pixii::engine {

struct AuditCounters {
  std::uint64_t equal = 0;
  std::uint64_t mismatches = 0;
  std::uint64_t given_up = 0;  // too many waited, or it could not run or was interrupted too often
};

struct AuditMismatch {
  RequestId request{};
  std::uint32_t choice = 0;
  std::uint32_t position = 0;  // among the tokens that this engine gave
  TokenId given = -1;          // -1: none, the answer had ended
  TokenId recomputed = -1;     // likewise
};

/// The id under which answers are computed again, in this engine alone.
inline constexpr RequestId kAuditRequestId{~std::uint64_t{0}};

class SelfAudit final {
 public:
  /// One in `rate` requests is drawn; 0: none.
  explicit SelfAudit(std::uint32_t rate) : rate_(rate) {}

  /// A request was taken.
  void Begin(const wire::GenerateRequest& request);

  /// It was refused.
  void Drop(RequestId id) { live_.erase(id); }

  /// A frame of any request goes out.
  void Take(const wire::TokenFrame& frame);

  /// What to run cold now; nothing: nothing waits. One at a time.
  std::optional<wire::GenerateRequest> Next();

  bool running() const { return running_.has_value(); }

  /// A frame of what runs, or ran until it was interrupted.
  std::optional<AuditMismatch> TakeRecomputed(const wire::TokenFrame& frame);

  /// What ran was stopped because there is other work: it comes again, a few times.
  void Interrupted();

  /// What ran cannot run.
  void Refused();

  const AuditCounters& counters() const { return counters_; }

 private:
  struct Choice {
    std::vector<TokenId> tokens;
    std::optional<wire::FinishReason> finish;
  };

  struct Drawn {
    wire::GenerateRequest request;
    std::vector<Choice> given;
    std::uint32_t live_choices = 0;
    std::uint32_t interruptions = 0;
  };

  void Keep(Drawn drawn);
  std::optional<AuditMismatch> Compare() const;

  std::uint32_t rate_;
  std::uint64_t count_ = 0;
  std::unordered_map<RequestId, Drawn> live_;  // drawn, not ended
  std::deque<Drawn> waiting_;
  std::optional<Drawn> running_;
  std::vector<Choice> recomputed_;
  std::uint32_t recomputed_live_ = 0;
  AuditCounters counters_;
};

}  // namespace pixii::engine
