#include "wire/safetensors_writer.h"

#include <utility>

#include "wire/json.h"

namespace pixii::wire {

namespace {

constexpr std::size_t kAlignment = 8;  // bytes: where the first tensor begins

}  // namespace

std::string SafetensorsHead(std::span<const StoredTensor> tensors) {
  Json header(Json::Object{});
  Json metadata(Json::Object{});
  metadata.Set("format", "pt");
  header.Set("__metadata__", std::move(metadata));
  std::uint64_t offset = 0;
  for (const StoredTensor& tensor : tensors) {
    Json fields(Json::Object{});
    fields.Set("dtype", std::string(StoredTypeName(tensor.type)));
    fields.Set("shape", Json::Array(tensor.shape.begin(), tensor.shape.end()));
    fields.Set("data_offsets", Json::Array{offset, offset + tensor.size_bytes});
    offset += tensor.size_bytes;
    header.Set(tensor.name, std::move(fields));
  }
  std::string text = header.Dump();
  text.resize((text.size() + kAlignment - 1) / kAlignment * kAlignment, ' ');
  std::string out;
  for (std::size_t i = 0; i < sizeof(std::uint64_t); ++i) {
    out.push_back(static_cast<char>(static_cast<unsigned char>(text.size() >> (8 * i))));
  }
  return out + text;
}

}  // namespace pixii::wire
