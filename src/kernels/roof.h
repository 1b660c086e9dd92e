// The limits of this host, measured now: memory read bandwidth and multiply-add rate. For benches;
// not on any hot path.
//
// Thread: one caller; a measurement uses all workers of its own pool for about kRoofMeasureTime.
// Source: limits move from second to second on shared hosts, so measure them between the repeats of
// the work.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "kernels/operators.h"

namespace pixii::kernels {

inline constexpr std::chrono::milliseconds kRoofMeasureTime{20};

struct HostDescription {
  std::string cpu_model;
  std::string flags;              // instruction sets that matter, "avx2 avx512 avx512_vnni"
  std::int32_t core_count = 0;    // this process may use
  std::vector<std::string> isas;  // IsaName of each that runs here, best last
};

HostDescription DescribeHost();

class Roof {
 public:
  virtual ~Roof() = default;

  /// Bytes per second that all workers together read from `working_set_bytes`, over and over: the
  /// last level of cache helps as it helps work that reads as many. At most kReadBufferBytes count.
  virtual double ReadBytesPerSecond(std::size_t working_set_bytes) = 0;
  /// Multiply-adds per second (one multiply and one add = one) in the instruction that the
  /// backend's linear uses for `compute`, all workers together, operands in registers.
  virtual double MultiplyAddsPerSecond(ComputeType compute) = 0;

  static constexpr std::size_t kReadBufferBytes = std::size_t{512} << 20;
};

/// Multiply-adds of linears, convolutions and attention, by what they are multiplied in. Padding of
/// a convolution counts, that of panels and tiles does not.
struct MultiplyAdds {
  double f32 = 0;
  double bf16 = 0;
  double int8 = 0;
};

/// What `operators` of the host's memory ran so far; nothing of those that do not count.
MultiplyAdds MultiplyAddsRun(const Operators& operators);

/// For the instruction set and thread count that MakeCpuOperators would use. Errors: as
/// MakeCpuOperators, and kResourceExhausted for the buffer.
Result<std::unique_ptr<Roof>> MakeRoof(const CpuOptions& options);

}  // namespace pixii::kernels
