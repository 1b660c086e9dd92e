// Handlers of another language as a WorkerLink: what they are to do waits in an inbox, what they
// yielded comes in batches.
//
// Thread: the loop, but for Inbox, which both sides use, and Give(), which any thread calls.
// No call here ever waits for a handler. Whatever one does (raises, hangs, yields nonsense, goes on
// after its end, blocks its thread), each choice ends exactly once, and those of others go on.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "control/worker_link.h"
#include "rt/loop.h"
#include "rt/thread.h"

namespace pixii::python {

/// One choice of one request, as handlers know it.
enum class CallKey : std::uint64_t {};

/// What a handler's side is to do.
struct Task {
  enum class Kind : std::uint8_t {
    kBegin,   // of `request`, its `choice`
    kCancel,  // nobody wants more of `key`
    kProve,   // begin the health check's payload as `key`
    kPing,    // nothing: that it is taken shows that the handlers' side turns
  };

  Kind kind = Kind::kPing;
  CallKey key{};
  std::uint32_t choice = 0;
  std::shared_ptr<const wire::GenerateRequest> request = nullptr;
};

/// From the loop to the handlers' side. `wake` is called on the loop when there is something again.
class Inbox final {
 public:
  explicit Inbox(std::function<void()> wake) : wake_(std::move(wake)) {}

  void Put(Task task);
  /// All there is, in order.
  std::vector<Task> Take();

  /// Times that the handlers' side looked.
  std::uint64_t taken_count();

  std::size_t size();

 private:
  std::function<void()> wake_;
  rt::Mutex mutex_;
  std::vector<Task> tasks_ PX_GUARDED_BY(mutex_);
  std::uint64_t taken_ PX_GUARDED_BY(mutex_) = 0;
};

/// What a handler yielded, or how it ended.
struct Output {
  CallKey key{};
  std::vector<TokenId> tokens = {};
  std::vector<wire::TokenLogprob> logprobs = {};  // [tokens] or empty
  std::uint32_t cached_tokens = 0;
  std::optional<wire::FinishReason> finish = {};
  std::optional<Error> error = {};  // ends it
  bool ended = false;               // the handler is done, whether it said so or not
};

struct HandlerLinkOptions {
  wire::ModelCard card;
  std::uint32_t choices_max = 4096;                        // that run at a time
  rt::Duration silence_max = std::chrono::seconds(120);    // of a handler; zero: not watched
  bool proves = false;                                     // it has a payload to check health with
  rt::Duration prove_interval = std::chrono::seconds(10);  // after the last sign of life
  rt::Duration prove_timeout = std::chrono::seconds(10);
};

struct HandlerCounts {
  std::uint64_t late = 0;    // outputs for what had ended
  std::uint64_t faults = 0;  // choices that ended for what their handler did
};

class HandlerLink final : public control::WorkerLink {
 public:
  /// Both outlive it.
  HandlerLink(rt::Loop& loop, Inbox& inbox, HandlerLinkOptions options);

  HandlerLink(const HandlerLink&) = delete;
  HandlerLink& operator=(const HandlerLink&) = delete;
  /// No handler of frames is called any more.
  ~HandlerLink() override;

  const wire::ModelCard& card() const override { return options_.card; }

  /// Errors: also kUnsupported, naming what handlers are not told of.
  Result<void> Generate(wire::GenerateRequest request, FrameHandler on_frame) override;
  void Cancel(const wire::CancelRequest& cancel) override;
  control::WorkerLoad load() const override;
  Result<void> WatchKvEvents(KvEventHandler on_events) override;

  /// Of one turn of the handlers' side, in order.
  void OnOutputs(std::vector<Output> outputs);

  /// What the handlers' cache holds now; told to whoever watches.
  void TellKvEvents(std::vector<wire::KvEvent> events);

  void Drain() { draining_ = true; }

  /// Ends what runs with `error` and takes nothing more.
  void Close(const Error& error);

  std::size_t running_count() const { return calls_.size(); }

  const HandlerCounts& counts() const { return counts_; }

 private:
  struct Request {
    FrameHandler on_frame;
    std::shared_ptr<const wire::GenerateRequest> request;
    std::vector<CallKey> keys;  // [choice]
    std::size_t live = 0;
  };

  struct Call {
    std::shared_ptr<Request> request;
    std::uint32_t choice = 0;
    std::uint32_t given = 0;  // tokens, those of workers before included
    std::uint32_t cached = 0;
    bool told_cached = false;
    bool begun = false;
    rt::Time last{};  // that its handler gave something
    rt::Time deadline = rt::kNever;
  };

  void OnOutput(Output output);
  void OnProof(const Output& output);
  std::optional<Error> Fault(const Call& call, const Output& output) const;
  void Fill(const Call& call, Output& output, wire::TokenFrame& frame) const;
  void End(CallKey key, wire::FinishReason finish, std::optional<Error> error, bool cancels);
  void EndLater(CallKey key, wire::FinishReason finish);
  void Give(CallKey key, wire::TokenFrame frame);
  void Tick();
  void Prove(rt::Time now);

  rt::Loop& loop_;
  Inbox& inbox_;
  HandlerLinkOptions options_;
  std::uint64_t last_key_ = 0;
  std::unordered_map<CallKey, Call> calls_;
  std::unordered_map<RequestId, std::shared_ptr<Request>> requests_;
  std::uint32_t begun_ = 0;    // of calls_, that gave something
  std::uint64_t outputs_ = 0;  // so far
  bool draining_ = false;
  std::optional<Error> closed_;
  HandlerCounts counts_;
  rt::Time proven_at_{};          // last sign of life
  std::optional<CallKey> proof_;  // under way
  rt::Time proof_begun_{};
  bool healthy_ = true;
  KvEventHandler on_kv_events_;
  std::vector<std::vector<wire::KvEvent>> kv_waiting_;  // told before anybody watched
  rt::TimerId tick_ = rt::TimerId::kNone;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // on the loop alone
};

}  // namespace pixii::python
