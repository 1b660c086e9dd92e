#include "model/weight_loader.h"

#include <cstring>

namespace pixii::model {

namespace {

/// The rows of each part that `request` wants: several ranges where one part holds several sizes.
std::vector<std::vector<RowRange>> RangesByPart(const LinearRequest& request,
                                                std::span<const std::int64_t> part_rows) {
  std::vector<std::vector<RowRange>> out(part_rows.size());
  if (request.rows.empty()) {
    for (std::size_t i = 0; i < part_rows.size(); ++i) {
      out[i] = {{0, part_rows[i]}};
    }
  } else if (part_rows.size() == request.sizes.size()) {
    for (std::size_t i = 0; i < part_rows.size(); ++i) {
      out[i] = InEach({&part_rows[i], 1}, {&request.rows[i], 1});
    }
  } else {
    out[0] = InEach(request.sizes, request.rows);
  }
  return out;
}

}  // namespace

kernels::LinearOptions SumOptions(const SumCut& cut) {
  return {
      .k_shards = kRowParallelShards, .shard_begin = cut.shard_begin, .shard_end = cut.shard_end};
}

Result<AdaptedLinear> WeightLoader::Prepare(const LinearRequest& request,
                                            kernels::ComputeType compute,
                                            std::vector<LinearRows>& linears) {
  AdaptedLinear out;
  out.in_features = request.cols;
  out.joined = request.sum != nullptr && request.sum->shard_end != 0;
  const std::vector<std::int64_t> rows = PartRows(request.names, request.sizes);
  const std::vector<std::vector<RowRange>> ranges = RangesByPart(request, rows);
  std::vector<kernels::WeightPart> parts;
  std::vector<std::vector<float>> biases(rows.size());
  bool any_rows = false;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::string name = LayerName(request.names.parts[i], request.layer);
    linears.push_back(
        {.linear = {.name = name, .in_features = request.cols, .out_features = rows[i]},
         .rows = held_ ? ranges[i] : std::vector<RowRange>()});
    if (!held_) {
      continue;
    }
    any_rows = any_rows || !ranges[i].empty();
    PX_TRY(kernels::WeightPart part, weights_.Part(name + ".weight", rows[i], request.cols));
    if (request.names.bias) {
      PX_TRY(biases[i], weights_.Vector(name + ".bias", rows[i]));
      part.bias = out.joined ? nullptr : biases[i].data();
    }
    parts.push_back(part);
  }
  kernels::LinearOptions options =
      request.sum != nullptr ? SumOptions(*request.sum) : kernels::LinearOptions();
  options.compute = compute;
  if (!request.rows.empty()) {
    options.rows = InEach(request.sizes, request.rows);
  }
  if (any_rows && (request.sum == nullptr || SizeOf(request.sum->columns) > 0)) {
    PX_TRY(out.weight, operators_.PrepareLinear(parts, options));
  }
  if (out.joined && request.names.bias && held_) {
    out.bias = std::move(biases[0]);  // a row-parallel linear has one part
  }
  weights_.Release();
  return out;
}

Result<AdaptedLinear> WeightLoader::Linear(const LinearRequest& request,
                                           kernels::ComputeType compute) {
  std::vector<LinearRows> linears;
  PX_TRY(AdaptedLinear out, Prepare(request, compute, linears));
  out.sites = adapters_.Add(linears);
  return out;
}

Result<std::unique_ptr<kernels::LinearWeight>> WeightLoader::ExpertLinear(
    const LinearRequest& request, const AdapterSites& sites, std::int32_t expert) {
  std::vector<LinearRows> linears;
  PX_TRY(AdaptedLinear out, Prepare(request, compute_, linears));
  for (std::size_t i = 0; i < linears.size(); ++i) {
    std::vector<AdapterPlace> places;
    for (const RowRange& rows : linears[i].rows) {
      places.push_back({.site = sites.first + i,
                        .variant = expert,
                        .row_begin = rows.begin,
                        .row_count = SizeOf(rows)});
    }
    adapters_.AddLinear(std::move(linears[i].linear), std::move(places));
  }
  return std::move(out.weight);
}

Result<std::unique_ptr<kernels::LinearWeight>> WeightLoader::Stacked(
    std::span<const kernels::WeightPart> parts, kernels::LinearOptions options) {
  options.compute = compute_;
  auto prepared = operators_.PrepareLinear(parts, options);
  weights_.Release();
  return prepared;
}

Result<std::span<const float>> WeightLoader::Vector(const std::string& name, std::int64_t size) {
  if (!held_) {
    return std::span<const float>();
  }
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
