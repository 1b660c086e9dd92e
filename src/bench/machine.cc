#include "bench/machine.h"

#include <fmt/format.h>

#include <string>

#include "kernels/operators.h"
#include "rt/file.h"
#include "rt/process.h"

namespace pixii::bench {

namespace {

constexpr std::uint64_t kCpuInfoSizeMax = 16 << 20;  // bytes

std::string ProcessorName() {
  Result<std::string> text = rt::ReadFile("/proc/cpuinfo", kCpuInfoSizeMax);
  constexpr std::string_view kKey = "model name";
  std::size_t at = text ? text->find(kKey) : std::string::npos;
  if (at == std::string::npos) {
    return "unknown";
  }
  std::size_t colon = text->find(": ", at);
  std::size_t end = text->find('\n', at);
  return colon == std::string::npos || colon > end ? "unknown"
                                                   : text->substr(colon + 2, end - colon - 2);
}

}  // namespace

wire::Json MachineJson() {
  wire::Json out(wire::Json::Object{});
  out.Set("processor", ProcessorName());
  if (Result<rt::MachineLimits> limits = rt::ReadMachineLimits()) {
    out.Set("cores", static_cast<std::int64_t>(limits->cpu_count));
    out.Set("memory_gib", static_cast<double>(limits->memory_bytes >> 20) / 1024);
  }
  wire::Json::Array isas;
  for (kernels::CpuIsa isa : kernels::AvailableIsas()) {
    isas.emplace_back(kernels::IsaName(isa));
  }
  out.Set("isa", std::move(isas));
  return out;
}

}  // namespace pixii::bench
