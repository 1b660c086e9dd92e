// Any bytes as a GGUF file: what is accepted must lie inside the file without overlap, and its
// config, names, tokenizer and codes must be made or refused.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/assert.h"
#include "kernels/weight_source.h"
#include "model/config.h"
#include "model/gguf.h"
#include "model/gguf_blocks.h"
#include "model/gguf_model.h"
#include "model/gguf_tokenizer.h"
#include "text/tokenizer/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pixii::model;  // NOLINT(google-build-using-namespace): a program of one function
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto file = GgufFile::Parse(bytes, "fuzz");
  if (!file) {
    PX_ASSERT(file.error().detail().size() < 4096);
    return 0;
  }
  PartMemory memory;
  for (const GgufTensor& tensor : file->tensors()) {
    PX_ASSERT(tensor.file_offset + tensor.size_bytes <= size);
    const GgufBlock* block = FindGgufBlock(tensor.type);
    if (block->elements > 1) {
      const std::int64_t cols = tensor.shape.back();
      const std::int64_t rows = static_cast<std::int64_t>(tensor.size_bytes) /
                                (cols / block->elements * block->size_bytes);
      const auto part =
          DecodeGgufBlocks(*block, bytes.data() + tensor.file_offset, rows, cols, 0, memory);
      PX_ASSERT(pixii::kernels::CheckParts({&part, 1}, {}).has_value());
    }
    memory.Clear();
  }
  if (auto config = GgufConfig(*file)) {
    static_cast<void>(ParseConfig(std::move(*config), ""));
  }
  static_cast<void>(GgufTensorNames(*file));
  static_cast<void>(GgufTokenizerConfig(*file));
  if (const auto tokenizer = GgufTokenizer(*file)) {
    static_cast<void>(pixii::text::Tokenizer::FromJson(*tokenizer, "fuzz"));
  }
  return 0;
}
