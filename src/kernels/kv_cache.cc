#include "kernels/kv_cache.h"

#include <array>

namespace pixii::kernels {
namespace {

constexpr std::array<std::string_view, 5> kNames = {"fp32", "bf16", "fp16", "fp8", "int8"};

}  // namespace

std::string_view KvDTypeName(KvDType dtype) { return kNames[static_cast<std::size_t>(dtype)]; }

std::optional<KvDType> KvDTypeOf(std::string_view name) {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == name) {
      return static_cast<KvDType>(i);
    }
  }
  return std::nullopt;
}

}  // namespace pixii::kernels
