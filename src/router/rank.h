// Names of who can serve a request.
//
// Thread: values.
#pragma once

#include <cstdint>

#include "control/instance.h"

namespace pixii::router {

using control::InstanceId;

/// A rank of a worker.
struct Target {
  InstanceId instance{};
  std::uint32_t rank = 0;

  friend auto operator<=>(const Target&, const Target&) = default;
};

/// A rank inside one router: small, dense, given again after its rank is gone.
enum class RankNumber : std::uint32_t {};

inline constexpr std::uint32_t kRankCountMax = 16'384;  // ranks of one router

}  // namespace pixii::router
