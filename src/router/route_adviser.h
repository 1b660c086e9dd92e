// Somebody who may be asked where requests should go, beside a router of one's own.
//
// Thread: one loop.
// Advice is not needed: whoever asks decides itself if there is none, or if it does not fit.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "base/result.h"
#include "router/route_request.h"

namespace pixii::router {

struct Advice {
  Target target;
  std::uint32_t overlap_tokens = 0;  // of the prompt that the worker should have cached
};

class RouteAdviser {
 public:
  /// Nothing: there is no advice. An error: nobody is to get the request now (kResourceExhausted),
  /// or it cannot be served as it is.
  using AdviceHandler = std::function<void(std::optional<Result<Advice>>)>;

  virtual ~RouteAdviser() = default;

  /// `on_advice` is called once, not inside this call, unless Withdraw comes before. False: it will
  /// not be called, there is no advice now. Either way the adviser is to be told what becomes of
  /// the request.
  virtual bool Ask(const RouteRequest& request, AdviceHandler on_advice) = 0;

  /// It was sent to `target`, as advised or not. `prefill_tokens` of its prompt are not cached
  /// there as far as the caller knows.
  virtual void OnSent(RequestId id, const Target& target, std::uint64_t prefill_tokens) = 0;

  virtual void OnFirstToken(RequestId id) = 0;
  virtual void OnTokens(RequestId id, std::uint32_t count) = 0;

  /// It is over, or goes elsewhere under another id.
  virtual void Withdraw(RequestId id) = 0;
};

}  // namespace pixii::router
