#include "model/weight_loader.h"

#include <cstring>

namespace pixii::model {

Result<std::unique_ptr<kernels::LinearWeight>> WeightLoader::Prepare(
    const LinearRequest& request, kernels::ComputeType compute,
    std::vector<AdaptableLinear>& linears) {
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
    linears.push_back({.name = name, .in_features = request.cols, .out_features = rows[i]});
  }
  auto prepared =
      operators_.PrepareLinear(parts, {.compute = compute, .k_shards = request.k_shards});
  weights_.Release();
  return prepared;
}

Result<AdaptedLinear> WeightLoader::Linear(const LinearRequest& request,
                                           kernels::ComputeType compute) {
  AdaptedLinear out;
  std::vector<AdaptableLinear> linears;
  PX_TRY(out.weight, Prepare(request, compute, linears));
  out.sites = adapters_.Add(linears);
  return out;
}

Result<std::unique_ptr<kernels::LinearWeight>> WeightLoader::ExpertLinear(
    const LinearRequest& request, const AdapterSites& sites, std::int32_t expert) {
  std::vector<AdaptableLinear> linears;
  PX_TRY(auto weight, Prepare(request, compute_, linears));
  for (std::size_t i = 0; i < linears.size(); ++i) {
    const std::int64_t rows = linears[i].out_features;
    adapters_.AddLinear(std::move(linears[i]),
                        {{.site = sites.first + i, .variant = expert, .row_count = rows}});
  }
  return weight;
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
