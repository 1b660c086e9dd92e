#include "rt/cpu.h"

#include <sched.h>

namespace pixii::rt {

namespace {

/// Empty where it cannot be told: machines of more CPUs than a set holds.
cpu_set_t Allowed() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof(set), &set) != 0) {
    CPU_ZERO(&set);
  }
  return set;
}

}  // namespace

std::int32_t CurrentCpu() { return ::sched_getcpu(); }

std::int32_t AllowedCpuCount() {
  const cpu_set_t allowed = Allowed();
  return CPU_COUNT(&allowed);
}

void LeaveCpu(std::int32_t cpu) {
  const cpu_set_t allowed = Allowed();
  cpu_set_t others = allowed;
  CPU_CLR(static_cast<std::size_t>(cpu), &others);
  // The first call moves it; the second leaves it where it is.
  if (CPU_COUNT(&others) > 0 && ::sched_setaffinity(0, sizeof(others), &others) == 0) {
    static_cast<void>(::sched_setaffinity(0, sizeof(allowed), &allowed));
  }
}

}  // namespace pixii::rt
