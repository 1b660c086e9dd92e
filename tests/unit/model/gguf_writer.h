// Writes GGUF files for tests: metadata and tensors as given, or a folder's model under ggml's
// names.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "unit/model/checkpoint_writer.h"

namespace pixii::model::testing {

class GgufWriter final {
 public:
  GgufWriter& U32(std::string_view key, std::uint32_t value);
  GgufWriter& F32(std::string_view key, float value);
  GgufWriter& Bool(std::string_view key, bool value);
  GgufWriter& String(std::string_view key, std::string_view value);
  GgufWriter& Strings(std::string_view key, const std::vector<std::string>& values);
  GgufWriter& F32s(std::string_view key, const std::vector<float>& values);
  GgufWriter& I32s(std::string_view key, const std::vector<std::int32_t>& values);

  /// `type`: ggml's number; `shape`: row-major.
  GgufWriter& Tensor(std::string_view name, std::uint32_t type,
                     const std::vector<std::int64_t>& shape, std::string bytes);

  std::string Bytes(std::uint32_t version = 3, std::uint32_t alignment = 32) const;

 private:
  struct Info {
    std::string name;
    std::uint32_t type;
    std::vector<std::int64_t> shape;
    std::string bytes;
  };

  void Key(std::string_view key, std::uint32_t type);

  std::string entries_;
  std::uint64_t entry_count_ = 0;
  std::vector<Info> tensors_;
};

/// What a converter makes of a folder's config.json and tensors: keys and names of ggml, rows of
/// llama's q and k in pairs. `encode(name, values)` gives each matrix's ggml type and bytes;
/// vectors stay F32. The folder's tensors are F32 or BF16.
struct EncodedTensor {
  std::uint32_t type = 0;
  std::string bytes;
};

using TensorEncoder = EncodedTensor (*)(const std::vector<float>& values);

GgufWriter GgufOfFolder(const std::string& folder, TensorEncoder encode);

EncodedTensor EncodeF32(const std::vector<float>& values);
EncodedTensor EncodeF16(const std::vector<float>& values);
EncodedTensor EncodeBf16(const std::vector<float>& values);
/// Blocks of 32: scale as f16, then int8.
EncodedTensor EncodeQ8(const std::vector<float>& values);
/// What EncodeQ8 keeps of the values.
std::vector<float> DecodeQ8(const std::string& bytes);

}  // namespace pixii::model::testing
