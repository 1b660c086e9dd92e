// Where requests go that their clients send there themselves: as a gateway does, which is told of a
// worker and reaches it its own way.
//
// Thread: one loop. docs/endpoint_picker.md
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "base/result.h"
#include "control/instance.h"
#include "wire/messages/generate.h"

namespace pixii::frontend {

/// Where a request goes.
struct PlacedAt {
  control::Instance instance;
  std::uint32_t rank = 0;            // of all ranks of its workers
  std::uint32_t overlap_tokens = 0;  // of the prompt that it should have cached
};

/// A request that waits for its place, or counts there. Destroyed: it is over.
class PlacedRequest {
 public:
  virtual ~PlacedRequest() = default;
  /// So many more tokens of its answer were seen; with the first ones its prompt is computed.
  virtual void OnTokens(std::uint32_t count) = 0;
};

class Placer {
 public:
  /// Whether a worker may have it.
  using Filter = std::function<bool(const control::Instance& instance)>;
  using PlacedHandler = std::function<void(Result<PlacedAt>)>;

  virtual ~Placer() = default;

  /// `on_placed` is called once, not inside this call, unless what is returned is gone before.
  /// Errors there: kUnavailable if nobody may have it; kResourceExhausted if all who may are full;
  /// kDeadlineExceeded; kInvalidArgument for a wish that cannot be granted.
  virtual std::unique_ptr<PlacedRequest> Place(wire::GenerateRequest request, Filter may_have,
                                               PlacedHandler on_placed) = 0;
};

}  // namespace pixii::frontend
