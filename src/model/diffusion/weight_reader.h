// Reads one part of a diffusion pipeline (text encoder, transformer, VAE) from its folder and
// prepares it for a backend: every tensor is asked for by name and shape, and none may be left
// over. For benches it invents them.
//
// Thread: one caller, while a part is made. Source: the folder layout of diffusers.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "kernels/operators.h"
#include "model/checkpoint.h"
#include "model/diffusion/lora_merger.h"
#include "model/encoder_block.h"
#include "model/part_memory.h"
#include "wire/json.h"

namespace pixii::model {

/// config.json, or `name`, of a part. Errors: kNotFound, kDataCorrupt.
Result<wire::Json> ReadPartConfig(const CheckpointFolder& folder, std::string_view name);

/// Memory of the small vectors that a part keeps: norms, biases, tables.
class VectorStore final {
 public:
  explicit VectorStore(kernels::Operators& operators) : operators_(operators) {}

  Result<std::span<const float>> Keep(std::span<const float> values);

 private:
  kernels::Operators& operators_;
  std::vector<kernels::Buffer> buffers_;
};

class WeightReader final {
 public:
  /// All outlive the reader; `part` stands in errors.
  WeightReader(const Checkpoint& checkpoint, std::string part, kernels::Operators& operators,
               VectorStore& vectors, kernels::ComputeType compute)
      : checkpoint_(&checkpoint),
        part_(std::move(part)),
        operators_(operators),
        vectors_(vectors),
        compute_(compute) {}

  /// Reads nothing: whatever is asked for is there and holds noise, of a size that keeps what a
  /// linear gives about as large as what it takes.
  WeightReader(kernels::Operators& operators, VectorStore& vectors, kernels::ComputeType compute)
      : part_("noise"), operators_(operators), vectors_(vectors), compute_(compute) {}

  /// Linears are read with what adapters add to them, if there are any; `part` is what adapters
  /// call this one ("transformer").
  void MergeFrom(LoraMerger* loras, std::string part) {
    loras_ = loras;
    lora_part_ = std::move(part);
  }

  struct Rows {
    std::string name;  // without ".weight"
    std::int64_t count = 0;
  };

  struct LinearRequest {
    std::vector<Rows> parts;  // stacked
    std::int64_t cols = 0;
    bool bias = true;
    bool exact = false;         // multiplied in fp32 whatever the part's compute type is
    std::int32_t k_shards = 1;  // LinearOptions
    std::vector<std::int64_t> trailing = {};  // extents after [rows, cols'] that make up cols
    // A rank's share, as LinearOptions have it.
    std::vector<kernels::RowRange> rows = {};
    std::int32_t shard_begin = 0;
    std::int32_t shard_end = 0;
  };

  Result<std::unique_ptr<kernels::LinearWeight>> Linear(const LinearRequest& request);

  struct ConvolutionRequest {
    std::string name;
    std::int64_t outputs = 0;
    std::int64_t channels = 0;
    std::vector<std::int64_t> kernel;  // as stored: [frames, height, width] or [height, width]
  };

  /// A convolution's weight [outputs, channels, kernel...] with its columns in the order that
  /// Operators::Convolve wants: kernel pixels, then channels.
  Result<std::unique_ptr<kernels::LinearWeight>> Convolution(const ConvolutionRequest& request);

  Result<std::unique_ptr<kernels::LinearWeight>> Table(const std::string& name, std::int64_t rows,
                                                       std::int64_t cols);

  /// Tensor `name` of `shape` as fp32, in the host's memory.
  Result<std::vector<float>> Values(const std::string& name,
                                    const std::vector<std::int64_t>& shape);
  /// The same kept in the store.
  Result<std::span<const float>> Vector(const std::string& name,
                                        const std::vector<std::int64_t>& shape);

  /// `name`.weight and `name`.bias, each of `size`.
  Result<NormWeights> Norm(const std::string& name, std::int64_t size);

  /// Errors: kUnsupported naming a tensor that nothing has asked for.
  Result<void> CheckAllRead() const;

  bool Has(const std::string& name) const {
    return checkpoint_ != nullptr && checkpoint_->Find(name) != nullptr;
  }

  /// Tensors below this prefix are known and not needed.
  void Ignore(std::string_view prefix);

 private:
  Result<const CheckpointTensor*> Find(const std::string& name,
                                       const std::vector<std::int64_t>& shape);
  const CheckpointTensor& Invent(const std::string& name, const std::vector<std::int64_t>& shape);

  struct Invented {
    CheckpointTensor tensor;
    std::vector<std::uint16_t> values;  // bf16
  };

  const Checkpoint* checkpoint_ = nullptr;  // null: tensors are invented
  std::deque<Invented> invented_;
  std::string part_;
  kernels::Operators& operators_;
  VectorStore& vectors_;
  kernels::ComputeType compute_;
  LoraMerger* loras_ = nullptr;
  std::string lora_part_;
  std::set<std::string, std::less<>> read_;
};

}  // namespace pixii::model
