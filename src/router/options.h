// What an operator can set of the router.
//
// Thread: values.
#pragma once

#include <cstdint>

namespace pixii::router {

enum class RouterMode : std::uint8_t {
  kRoundRobin,
  kRandom,
  kPowerOfTwo,   // of two random workers the one with fewer requests
  kLeastLoaded,  // fewest requests
  kKv,           // least cost by what is cached and what runs
  kDirect,       // the request names its worker
};

struct RouterOptions {
  RouterMode mode = RouterMode::kRoundRobin;
};

}  // namespace pixii::router
