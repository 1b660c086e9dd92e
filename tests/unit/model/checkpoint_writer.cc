#include "unit/model/checkpoint_writer.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "model/safetensors.h"
#include "support/golden.h"
#include "wire/json.h"

namespace pixii::model::testing {

TemporaryFolder::TemporaryFolder() {
  std::string path = ::testing::TempDir() + "pixii-model-XXXXXX";
  EXPECT_NE(mkdtemp(path.data()), nullptr) << path;
  path_ = std::filesystem::canonical(path);
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void TemporaryFolder::Write(const std::string& name, std::string_view content) const {
  std::ofstream out(path_ + "/" + name, std::ios::binary);
  out.write(content.data(), static_cast<std::streamsize>(content.size()));
  EXPECT_TRUE(out.good()) << name;
}

std::string RawSafetensors(std::string_view header, std::string_view data) {
  std::string out(8, '\0');
  const std::uint64_t size = header.size();
  std::memcpy(out.data(), &size, sizeof(size));
  return out.append(header).append(data);
}

std::string Safetensors(const std::vector<WrittenTensor>& tensors, std::size_t misalignment) {
  wire::Json header(wire::Json::Object{});
  std::string data;
  for (const WrittenTensor& tensor : tensors) {
    wire::Json::Array shape;
    for (const std::int64_t dim : tensor.shape) {
      shape.emplace_back(dim);
    }
    const auto begin = static_cast<std::uint64_t>(data.size());
    data += tensor.bytes;
    wire::Json fields(wire::Json::Object{});
    fields.Set("dtype", tensor.dtype);
    fields.Set("shape", std::move(shape));
    fields.Set("data_offsets", wire::Json::Array{begin, static_cast<std::uint64_t>(data.size())});
    header.Set(tensor.name, std::move(fields));
  }
  std::string text = header.Dump();
  text.resize((text.size() + 7) / 8 * 8 + misalignment, ' ');
  return RawSafetensors(text, data);
}

std::vector<WrittenTensor> ReadSafetensors(const std::string& path) {
  const std::string file = pixii::testing::ReadFileOrFail(path);
  const auto header = ParseSafetensorsHeader(std::as_bytes(std::span(file)), file.size(), path);
  std::vector<WrittenTensor> out;
  if (!header) {
    ADD_FAILURE() << header.error().ToString();
    return out;
  }
  for (const StoredTensor& tensor : header->tensors) {
    out.push_back({tensor.name, std::string(StoredTypeName(tensor.type)), tensor.shape,
                   file.substr(tensor.file_offset, tensor.size_bytes)});
  }
  return out;
}

}  // namespace pixii::model::testing
