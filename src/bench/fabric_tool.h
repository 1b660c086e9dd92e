// What UCX and libfabric reach by their own measuring programs, ucx_perftest and fi_pingpong, over
// TCP of this host: the floor that our transfers through them are measured beside.
//
// Thread: the caller's, which waits.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "transport/fabric.h"

namespace pixii::bench {

struct FabricToolOptions {
  transport::FabricKind kind = transport::FabricKind::kUcx;
  std::uint64_t message_bytes = 0;
  std::uint64_t count = 0;     // messages
  std::uint64_t depth = 1;     // under way at a time; of ucx_perftest alone
  bool shared_memory = false;  // of ucx_perftest alone: puts into memory that UCX allocated
};

/// GB/s. ucx_perftest reads one-sided as our transfers do; fi_pingpong sends back and forth, one
/// message at a time, as there is no other program of libfabric's. Errors: kNotFound without the
/// program (packages ucx-utils, libfabric-bin); kUnavailable with what it said,
/// or if it came to no end within 20 s.
Result<double> RunFabricTool(const FabricToolOptions& options);

}  // namespace pixii::bench
