#include "model/weight_loader.h"

#include <cstring>

namespace pixii::model {

Result<std::unique_ptr<kernels::LinearWeight>> WeightLoader::Linear(const LinearRequest& request,
                                                                    kernels::ComputeType compute) {
  const std::vector<std::int64_t> rows = PartRows(request.names, request.sizes);
  std::vector<kernels::WeightPart> parts;
  std::vector<std::vector<float>> biases(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::string name = LayerName(request.names.parts[i], request.layer);
    PX_TRY(kernels::WeightPart part, weights_.Part(name + ".weight", rows[i], request.cols));
    if (request.names.bias) {
      PX_TRY(biases[i], weights_.Vector(name + ".bias", rows[i]));
      part.bias = biases[i].data();
    }
    parts.push_back(part);
  }
  auto prepared =
      operators_.PrepareLinear(parts, {.compute = compute, .k_shards = request.k_shards});
  weights_.Release();
  return prepared;
}

Result<std::unique_ptr<kernels::LinearWeight>> WeightLoader::Stacked(
    std::span<const kernels::WeightPart> parts, std::int32_t k_shards) {
  auto prepared = operators_.PrepareLinear(parts, {.compute = compute_, .k_shards = k_shards});
  weights_.Release();
  return prepared;
}

Result<std::span<const float>> WeightLoader::Vector(const std::string& name, std::int64_t size) {
  PX_TRY(const std::vector<float> values, weights_.Vector(name, size));
  const std::size_t size_bytes = values.size() * sizeof(float);
  PX_TRY(kernels::Buffer buffer, kernels::AllocateFilled(operators_, size_bytes, [&](void* host) {
           std::memcpy(host, values.data(), size_bytes);
         }));
  vectors_.push_back(std::move(buffer));
  return std::span(static_cast<const float*>(vectors_.back().data()), values.size());
}

Result<std::span<const float>> WeightLoader::Norm(const std::string& pattern, std::size_t layer,
                                                  std::int64_t size) {
  if (pattern.empty()) {
    return std::span<const float>();
  }
  return Vector(LayerName(pattern, layer) + ".weight", size);
}

}  // namespace pixii::model
