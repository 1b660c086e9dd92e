// A request of this process' own, for example a line of a batch: what a connection is for a client.
//
// Thread: the frontend's loop.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "frontend/exchange.h"

namespace pixii::frontend {

class LocalExchange final : public Exchange {
 public:
  /// `on_change` is called inside the handler's calls: it may only note that something happened.
  /// `stream_bytes_max`: past it the handler is told to wait. `taker`: gets a generation in place
  /// of its answer here; null: nobody does.
  LocalExchange(wire::HttpRequest request, std::function<void()> on_change,
                std::size_t stream_bytes_max, PlanTaker* taker = nullptr)
      : request_(std::move(request)),
        on_change_(std::move(on_change)),
        stream_bytes_max_(stream_bytes_max),
        taker_(taker) {}

  /// Nobody waits for the answer any more. Whoever handled it forgets it; ended() is true.
  void HangUp();

  bool ended() const { return ended_; }

  /// The answer, if it was a whole one.
  const std::optional<Response>& response() const { return response_; }

  /// Whether it is or was a stream.
  bool streaming() const { return streaming_; }

  /// What a stream has brought since the last call; the handler may then go on.
  std::string TakeStream();

  // Exchange
  const wire::HttpRequest& request() const override { return request_; }

  void Watch(ExchangeWatcher* watcher) override { watcher_ = watcher; }

  void Respond(Response response) override;
  void StartStream(std::string_view content_type, std::vector<wire::HttpField> fields) override;
  std::string& stream() override;

  void EndStream() override { End(); }

  void Abort() override { End(); }

  std::size_t unsent_bytes() const override { return stream_.size(); }

  bool congested() override;

  PlanTaker* plan_taker() override { return taker_; }

 private:
  void End();

  const wire::HttpRequest request_;
  const std::function<void()> on_change_;
  const std::size_t stream_bytes_max_;
  PlanTaker* const taker_;
  ExchangeWatcher* watcher_ = nullptr;
  std::optional<Response> response_;
  std::string stream_;
  bool streaming_ = false;
  bool room_wanted_ = false;
  bool ended_ = false;
};

}  // namespace pixii::frontend
