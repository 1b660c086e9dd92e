// Writes small checkpoints for tests: a folder that goes away, safetensors files whole or broken.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pixii::model::testing {

/// A fresh folder, removed with the handle.
class TemporaryFolder final {
 public:
  TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder();

  const std::string& path() const { return path_; }

  void Write(const std::string& name, std::string_view content) const;

 private:
  std::string path_;
};

struct WrittenTensor {
  std::string name;
  std::string dtype = "F32";
  std::vector<std::int64_t> shape = {};
  std::string bytes = {};
};

/// Size field, `header` as it is, `data` as it is.
std::string RawSafetensors(std::string_view header, std::string_view data);

/// A valid file of `tensors` in this order; the header is padded to a multiple of 8 plus
/// `misalignment` bytes.
std::string Safetensors(const std::vector<WrittenTensor>& tensors, std::size_t misalignment = 0);

/// Reads the tensors of a valid file back.
std::vector<WrittenTensor> ReadSafetensors(const std::string& path);

}  // namespace pixii::model::testing
