// A watched link that tells what it is asked, and may end answers apart from their last token, as
// outside engines do.
//
// Thread: the worker's loop.
#pragma once

#include <chrono>
#include <functional>
#include <utility>

#include "rt/loop.h"
#include "sim/watched_link.h"

namespace pixii::sim {

class AskedLink final : public WatchedLink {
 public:
  using WatchedLink::WatchedLink;

  /// Hears of each request before the engine does.
  void OnRequest(std::function<void(const wire::GenerateRequest&)> on_request) {
    on_request_ = std::move(on_request);
  }

  /// From now on an answer of full length ends a while after its last token.
  void EndLate(rt::Loop& loop) { loop_ = &loop; }

  Result<void> Generate(wire::GenerateRequest request, FrameHandler on_frame) override {
    if (on_request_) {
      on_request_(request);
    }
    return WatchedLink::Generate(
        std::move(request), loop_ == nullptr ? std::move(on_frame) : Late(std::move(on_frame)));
  }

 private:
  static constexpr rt::Duration kLate = std::chrono::milliseconds(10);

  FrameHandler Late(FrameHandler on_frame) {
    return [loop = loop_, on_frame = std::move(on_frame)](wire::TokenFrame frame) {
      if (frame.finish != wire::FinishReason::kLength || frame.tokens.empty()) {
        return on_frame(std::move(frame));
      }
      wire::TokenFrame end;
      end.id = frame.id;
      end.choice = frame.choice;
      end.finish = std::exchange(frame.finish, std::nullopt);
      loop->RunAt(loop->Now() + kLate, [on_frame, end = std::move(end)] { on_frame(end); });
      on_frame(std::move(frame));
    };
  }

  std::function<void(const wire::GenerateRequest&)> on_request_;
  rt::Loop* loop_ = nullptr;  // null: ends come with the last token
};

}  // namespace pixii::sim
