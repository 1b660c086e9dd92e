// Any bytes as a safetensors file: what is accepted must lie inside the file, tile it, and match
// its shapes.
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/assert.h"
#include "model/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pixii::model;  // NOLINT(google-build-using-namespace): a program of one function
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto header = ParseSafetensorsHeader(bytes, size, "fuzz");
  if (!header) {
    PX_ASSERT(header.error().detail().size() < 4096);
    return 0;
  }
  std::uint64_t end = header->tensors.empty() ? size : header->tensors.front().file_offset;
  for (const StoredTensor& tensor : header->tensors) {
    std::uint64_t elements = 1;
    for (const std::int64_t dim : tensor.shape) {
      PX_ASSERT(dim >= 0);
      elements *= static_cast<std::uint64_t>(dim);
    }
    PX_ASSERT(tensor.file_offset == end);
    PX_ASSERT(tensor.size_bytes == elements * StoredTypeSize(tensor.type));
    end += tensor.size_bytes;
  }
  PX_ASSERT(end == size);
  return 0;
}
