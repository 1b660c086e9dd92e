// Which CPU a thread runs on, and how it leaves one.
//
// Thread: any; each call is about the thread that calls.
#pragma once

#include <cstdint>

namespace pixii::rt {

/// The CPU that the thread runs on, or has just left. Costs nanoseconds.
std::int32_t CurrentCpu();

/// How many it may run on.
std::int32_t AllowedCpuCount();

/// Goes on on another CPU than `cpu`, if it may run on another one; it may be moved back at any
/// time. Costs some 20 us.
void LeaveCpu(std::int32_t cpu);

}  // namespace pixii::rt
