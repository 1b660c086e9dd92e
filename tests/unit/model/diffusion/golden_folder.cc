#include "unit/model/diffusion/golden_folder.h"

#include <gtest/gtest.h>

#include <cstring>

#include "support/golden.h"

namespace pixii::model::testing {

GoldenFolder::GoldenFolder(const std::string& name) {
  std::filesystem::copy(
      pixii::testing::OwnGoldenDir() + "/diffusion/" + name, path(),
      std::filesystem::copy_options::recursive | std::filesystem::copy_options::overwrite_existing);
}

void GoldenFolder::Replace(const std::string& file, const std::string& from,
                           const std::string& to) const {
  std::string text = pixii::testing::ReadFileOrFail(path() + "/" + file);
  std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << file << " has no " << from;
  for (; at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
  Write(file, text);
}

void GoldenFolder::ChangeTensors(
    const std::string& file, const std::function<void(std::vector<WrittenTensor>&)>& change) const {
  std::vector<WrittenTensor> tensors = ReadSafetensors(path() + "/" + file);
  change(tensors);
  Write(file, Safetensors(tensors));
}

WrittenTensor FloatTensor(const std::string& name, std::vector<std::int64_t> shape,
                          const std::vector<float>& values) {
  return {.name = name,
          .dtype = "F32",
          .shape = std::move(shape),
          .bytes = std::string(reinterpret_cast<const char*>(values.data()),
                               values.size() * sizeof(float))};
}

std::vector<float> FloatsOf(const WrittenTensor& tensor) {
  std::vector<float> out(tensor.bytes.size() / sizeof(float));
  std::memcpy(out.data(), tensor.bytes.data(), tensor.bytes.size());
  return out;
}

}  // namespace pixii::model::testing
