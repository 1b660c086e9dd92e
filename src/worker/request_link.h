// A link that knows something of each request until its engine is done with it: the base of links
// that do part of a request themselves.
//
// Thread: one loop, that of the link below.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>

#include "control/forwarding_link.h"
#include "rt/loop.h"

namespace pixii::worker {

/// `Entry` is what is known of a request; it has an `on_frame`.
template <class Entry>
class RequestLink : public control::ForwardingLink {
 public:
  /// Both outlive it.
  RequestLink(rt::Loop& loop, control::WorkerLink& link) : ForwardingLink(link), loop_(loop) {}

  RequestLink(const RequestLink&) = delete;
  RequestLink& operator=(const RequestLink&) = delete;

  Result<void> WatchKvEvents(KvEventHandler on_events) override {
    return link().WatchKvEvents(std::move(on_events));
  }

  /// Requests that it knows.
  std::size_t outstanding_count() const { return entries_.size(); }

 protected:
  using EntryPtr = std::shared_ptr<Entry>;

  rt::Loop& loop() { return loop_; }

  std::unordered_map<RequestId, EntryPtr>& entries() { return entries_; }

  /// Null: none, or no longer.
  EntryPtr Find(RequestId id) const {
    const auto found = entries_.find(id);
    return found == entries_.end() ? nullptr : found->second;
  }

  /// `fn` as long as this lives; nothing after.
  template <class Fn>
  auto WhileAlive(Fn fn) const {
    return [alive = std::weak_ptr<const bool>(alive_), fn = std::move(fn)](auto&&... arguments) {
      if (!alive.expired()) {
        fn(std::forward<decltype(arguments)>(arguments)...);
      }
    };
  }

  /// Calls `entry`'s frame handler; whether this still lives behind it.
  bool Tell(const EntryPtr& entry, wire::TokenFrame frame) const {
    const std::weak_ptr<const bool> alive(alive_);
    entry->on_frame(std::move(frame));
    return !alive.expired();
  }

  /// Tells it that these choices are over.
  void TellEnd(RequestId id, const EntryPtr& entry, std::span<const std::uint32_t> choices,
               wire::FinishReason finish, const std::optional<Error>& error = std::nullopt) const {
    const std::weak_ptr<const bool> alive(alive_);
    for (std::size_t i = 0; i < choices.size() && !alive.expired(); ++i) {
      wire::TokenFrame frame;
      frame.id = id;
      frame.choice = choices[i];
      frame.finish = finish;
      frame.error = error;
      entry->on_frame(std::move(frame));
    }
  }

 private:
  rt::Loop& loop_;
  std::unordered_map<RequestId, EntryPtr> entries_;
  std::shared_ptr<const bool> alive_ = std::make_shared<bool>(true);  // on the loop alone
};

}  // namespace pixii::worker
