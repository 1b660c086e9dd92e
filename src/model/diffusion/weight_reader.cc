#include "model/diffusion/weight_reader.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>

#include "model/config_reader.h"
#include "model/finite.h"
#include "model/quantized_weights.h"

namespace pixii::model {

Result<wire::Json> ReadPartConfig(const CheckpointFolder& folder, std::string_view name) {
  PX_TRY(const std::string text, folder.ReadText(name, kConfigSizeMax));
  return ParseConfigJson(text, fmt::format("{}/{}", folder.path(), name));
}

Result<std::span<const float>> VectorStore::Keep(std::span<const float> values) {
  PX_TRY(kernels::Buffer buffer, AllocateFilled(operators_, values.size_bytes(), [&](void* host) {
           std::memcpy(host, values.data(), values.size_bytes());
         }));
  buffers_.push_back(std::move(buffer));
  return std::span(static_cast<const float*>(buffers_.back().data()), values.size());
}

Result<const CheckpointTensor*> WeightReader::Find(const std::string& name,
                                                   const std::vector<std::int64_t>& shape) {
  if (checkpoint_ == nullptr) {
    return &Invent(name, shape);
  }
  const CheckpointTensor* tensor = checkpoint_->Find(name);
  if (tensor == nullptr) {
    return Fail(
        Code::kDataCorrupt,
        fmt::format("{}: tensor {} of shape [{}] is missing", part_, name, fmt::join(shape, ", ")),
        name);
  }
  if (tensor->stored.shape != shape) {
    return Fail(Code::kDataCorrupt,
                fmt::format("{}: {} has shape [{}], config.json asks for [{}]", part_,
                            checkpoint_->Place(*tensor), fmt::join(tensor->stored.shape, ", "),
                            fmt::join(shape, ", ")),
                name);
  }
  if (!AsWeightType(tensor->stored.type)) {
    return Fail(Code::kUnsupported,
                fmt::format("{}: {} has dtype {}; this build reads F32, F16 and BF16 there", part_,
                            checkpoint_->Place(*tensor), StoredTypeName(tensor->stored.type)),
                name);
  }
  PX_CHECK_OK(CheckFinite(*checkpoint_, *tensor, tensor->bytes));
  read_.insert(name);
  return tensor;
}

const CheckpointTensor& WeightReader::Invent(const std::string& name,
                                             const std::vector<std::int64_t>& shape) {
  Invented& out = invented_.emplace_back();
  const std::int64_t count =
      std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
  const double inputs = static_cast<double>(count) / static_cast<double>(shape.front());
  const double spread = inputs > 1.0 ? std::sqrt(3.0 / inputs) : 1.0;
  std::uint32_t state = static_cast<std::uint32_t>(invented_.size());
  out.values.resize(static_cast<std::size_t>(count));
  for (std::uint16_t& value : out.values) {
    state = state * 1664525U + 1013904223U;  // Numerical Recipes' generator
    const auto noise =
        static_cast<float>((static_cast<double>(state >> 8U) * 0x1p-23 - 1.0) * spread);
    value = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(noise) >> 16U);
  }
  out.tensor.stored.name = name;
  out.tensor.stored.type = StoredType::kBf16;
  out.tensor.stored.shape = shape;
  out.tensor.bytes = std::as_bytes(std::span(out.values));
  return out.tensor;
}

Result<std::unique_ptr<kernels::LinearWeight>> WeightReader::Linear(const LinearRequest& request) {
  std::vector<kernels::WeightPart> parts;
  std::vector<std::vector<float>> biases;
  std::vector<std::vector<float>> merged;
  for (const Rows& rows : request.parts) {
    std::vector<std::int64_t> shape = {rows.count, request.cols};
    if (!request.trailing.empty()) {
      for (const std::int64_t extent : request.trailing) {
        shape[1] /= extent;
        shape.push_back(extent);
      }
    }
    PX_TRY(const CheckpointTensor* tensor, Find(rows.name + ".weight", shape));
    parts.push_back({.data = tensor->bytes.data(),
                     .dtype = *AsWeightType(tensor->stored.type),
                     .rows = rows.count,
                     .cols = request.cols});
    if (loras_ != nullptr && loras_->Changes(lora_part_, rows.name)) {
      std::vector<float>& values =
          merged.emplace_back(static_cast<std::size_t>(rows.count * request.cols));
      WidenTo(*tensor, values);
      PX_CHECK_OK(loras_->Merge(lora_part_, rows.name, {rows.count, request.cols}, values));
      parts.back().data = values.data();
      parts.back().dtype = kernels::DType::kF32;
    }
    if (request.bias) {
      PX_TRY(std::vector<float> bias, Values(rows.name + ".bias", {rows.count}));
      biases.push_back(std::move(bias));
      parts.back().bias = biases.back().data();
    }
  }
  return operators_.PrepareLinear(parts,
                                  {.compute = request.exact ? kernels::ComputeType::kF32 : compute_,
                                   .k_shards = request.k_shards,
                                   .shard_begin = request.shard_begin,
                                   .shard_end = request.shard_end,
                                   .rows = request.rows});
}

Result<std::unique_ptr<kernels::LinearWeight>> WeightReader::Convolution(
    const ConvolutionRequest& request) {
  std::vector<std::int64_t> shape = {request.outputs, request.channels};
  shape.insert(shape.end(), request.kernel.begin(), request.kernel.end());
  PX_TRY(const std::vector<float> stored, Values(request.name + ".weight", shape));
  PX_TRY(const std::vector<float> bias, Values(request.name + ".bias", {request.outputs}));
  const std::int64_t pixels = std::accumulate(request.kernel.begin(), request.kernel.end(),
                                              std::int64_t{1}, std::multiplies<>());
  std::vector<float> turned(stored.size());
  const float* from = stored.data();
  for (std::int64_t output = 0; output < request.outputs; ++output) {
    float* row = turned.data() + output * request.channels * pixels;
    for (std::int64_t channel = 0; channel < request.channels; ++channel) {
      for (std::int64_t pixel = 0; pixel < pixels; ++pixel) {
        row[pixel * request.channels + channel] = *from++;
      }
    }
  }
  const kernels::WeightPart part{.data = turned.data(),
                                 .rows = request.outputs,
                                 .cols = request.channels * pixels,
                                 .bias = bias.data()};
  return operators_.PrepareLinear({&part, 1}, {.compute = compute_});
}

Result<std::unique_ptr<kernels::LinearWeight>> WeightReader::Table(const std::string& name,
                                                                   std::int64_t rows,
                                                                   std::int64_t cols) {
  PX_TRY(const CheckpointTensor* tensor, Find(name, {rows, cols}));
  return operators_.PrepareEmbedding({.data = tensor->bytes.data(),
                                      .dtype = *AsWeightType(tensor->stored.type),
                                      .rows = rows,
                                      .cols = cols});
}

Result<std::vector<float>> WeightReader::Values(const std::string& name,
                                                const std::vector<std::int64_t>& shape) {
  PX_TRY(const CheckpointTensor* tensor, Find(name, shape));
  std::vector<float> out(static_cast<std::size_t>(
      std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>())));
  WidenTo(*tensor, out);
  return out;
}

Result<std::span<const float>> WeightReader::Vector(const std::string& name,
                                                    const std::vector<std::int64_t>& shape) {
  PX_TRY(const std::vector<float> values, Values(name, shape));
  return vectors_.Keep(values);
}

Result<NormWeights> WeightReader::Norm(const std::string& name, std::int64_t size) {
  NormWeights out;
  PX_TRY(out.weight, Vector(name + ".weight", {size}));
  PX_TRY(out.bias, Vector(name + ".bias", {size}));
  return out;
}

void WeightReader::Ignore(std::string_view prefix) {
  if (checkpoint_ == nullptr) {
    return;
  }
  for (const CheckpointTensor& tensor : checkpoint_->tensors()) {
    if (tensor.stored.name.starts_with(prefix)) {
      read_.insert(tensor.stored.name);
    }
  }
}

Result<void> WeightReader::CheckAllRead() const {
  if (checkpoint_ == nullptr) {
    return {};
  }
  for (const CheckpointTensor& tensor : checkpoint_->tensors()) {
    if (!read_.contains(tensor.stored.name)) {
      return Fail(Code::kUnsupported,
                  fmt::format("{}: {} is no part of the model as config.json describes it, so it "
                              "would be run without it",
                              part_, checkpoint_->Place(tensor)),
                  tensor.stored.name);
    }
  }
  return {};
}

}  // namespace pixii::model
