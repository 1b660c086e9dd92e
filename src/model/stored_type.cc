#include "model/safetensors.h"

namespace pixii::model {

bool HoldsIntegerCodes(StoredType type) {
  switch (type) {
    case StoredType::kI8:
    case StoredType::kU8:
    case StoredType::kI32:
    case StoredType::kU32:
      return true;
    default:
      return type >= StoredType::kQ4_0 && type != StoredType::kMxfp4;
  }
}

std::optional<kernels::DType> AsWeightType(StoredType type) {
  switch (type) {
    case StoredType::kF32:
      return kernels::DType::kF32;
    case StoredType::kF16:
      return kernels::DType::kF16;
    case StoredType::kBf16:
      return kernels::DType::kBf16;
    default:
      return std::nullopt;
  }
}

}  // namespace pixii::model
