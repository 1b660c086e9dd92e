// A golden diffusion folder of tests/golden/diffusion, copied so that a test may change it.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "unit/model/checkpoint_writer.h"

namespace pixii::model::testing {

class GoldenFolder final {
 public:
  /// "wan-i2v" or "flux".
  explicit GoldenFolder(const std::string& name);

  const std::string& path() const { return folder_.path(); }

  /// Rewrites `file` ("vae/config.json"), every `from` in it replaced by `to`.
  void Replace(const std::string& file, const std::string& from, const std::string& to) const;

  void Write(const std::string& file, std::string_view content) const {
    folder_.Write(file, content);
  }

  /// Rewrites the tensors of `file` as `change` leaves them.
  void ChangeTensors(const std::string& file,
                     const std::function<void(std::vector<WrittenTensor>&)>& change) const;

 private:
  TemporaryFolder folder_;
};

/// F32 of these values.
WrittenTensor FloatTensor(const std::string& name, std::vector<std::int64_t> shape,
                          const std::vector<float>& values);

std::vector<float> FloatsOf(const WrittenTensor& tensor);

}  // namespace pixii::model::testing
