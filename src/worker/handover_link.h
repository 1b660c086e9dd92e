// A worker whose requests other workers go on with: what they may end with is held back as long as
// blocks are kept for them.
//
// Thread: one loop, that of the link below. docs/kv_transfer.md
// So the stream of a prefill stands for what it keeps: whoever cancels it, or dies, keeps nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "rt/loop.h"
#include "worker/request_link.h"

namespace pixii::worker {

/// Who keeps a prompt's blocks once its request has ended.
class HandoverKeeper {
 public:
  virtual ~HandoverKeeper() = default;

  /// With the record of what is kept; without one: nothing is, any more.
  using News = std::function<void(std::optional<std::string> record)>;

  /// With a record of the request's first blocks: more come while it is computed.
  using EarlyNews = std::function<void(std::string record)>;

  /// Calls `news` on the caller's loop, not inside the call, at most once and before Watch's.
  virtual void WatchEarly(RequestId request, EarlyNews news) = 0;

  /// Calls `news` on the caller's loop, not inside the call: with the record, and once without.
  virtual void Watch(RequestId request, News news) = 0;

  /// Nobody goes on with it.
  virtual void Forget(RequestId request) = 0;
};

/// A prefill, of which something is kept, or will be.
struct HandoverEntry {
  enum class Choice : std::uint8_t { kRuns, kHeld, kEnded };

  control::WorkerLink::FrameHandler on_frame;
  std::vector<Choice> choices;
  std::vector<bool> cancelled;
  bool watched = false;
};

class HandoverLink final : public RequestLink<HandoverEntry> {
 public:
  /// All outlive it.
  HandoverLink(rt::Loop& loop, control::WorkerLink& link, HandoverKeeper& keeper)
      : RequestLink(loop, link), keeper_(keeper) {}

  Result<void> Generate(wire::GenerateRequest request, FrameHandler on_frame) override;
  void Cancel(const wire::CancelRequest& cancel) override;

 private:
  using Choice = HandoverEntry::Choice;

  void OnFrame(RequestId id, const EntryPtr& entry, wire::TokenFrame frame);
  void OnEarlyNews(RequestId id, std::string record);
  void Settle(RequestId id, const EntryPtr& entry);
  void OnNews(RequestId id, std::optional<std::string> record);
  void EndHeld(RequestId id, const EntryPtr& entry, wire::FinishReason finish,
               std::optional<std::uint32_t> choice);

  HandoverKeeper& keeper_;
};

}  // namespace pixii::worker
