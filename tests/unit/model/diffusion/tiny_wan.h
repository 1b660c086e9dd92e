// A whole Wan folder with random weights, small enough to run in milliseconds.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/operators.h"
#include "unit/model/checkpoint_writer.h"

namespace pixii::model::testing {

inline constexpr int kTinyTextDim = 16;
inline constexpr int kTinyLatentChannels = 4;

/// Latents are a quarter as high and wide and half as many frames; patches of 1 x 2 x 2. So sides
/// are multiples of 8, and frames are odd.
class TinyWan final {
 public:
  TinyWan();

  const std::string& path() const { return folder_.path(); }

  /// Rewrites `file` ("vae/config.json"), every `from` in it replaced by `to`.
  void Replace(const std::string& file, const std::string& from, const std::string& to) const;

  void Write(const std::string& file, std::string_view content) const {
    folder_.Write(file, content);
  }

  /// Rewrites the weights of `part` ("vae") as `change` leaves them.
  void ChangeWeights(const std::string& part,
                     const std::function<void(std::vector<WrittenTensor>&)>& change) const;

 private:
  TemporaryFolder folder_;
};

std::unique_ptr<kernels::Operators> CpuOperators(int threads = 1);

}  // namespace pixii::model::testing
