#include "model/quantize.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>
#include <map>
#include <utility>
#include <vector>

#include "kernels/weight_source.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/weights.h"
#include "rt/file.h"
#include "wire/json.h"
#include "wire/quoted.h"
#include "wire/safetensors_writer.h"

namespace pixii::model {
namespace {

constexpr std::size_t kEntryCountMax = 10'000;                      // files of the source
constexpr std::uint64_t kCopiedSizeMax = std::uint64_t{256} << 20;  // bytes of a file copied
constexpr std::array<float, 12> kInt4Divisors = {7.0F,  7.2F, 7.4F,  7.6F, 7.8F, 8.0F,
                                                 8.25F, 8.5F, 8.75F, 9.0F, 9.5F, 10.0F};

/// A tensor to write.
struct Output {
  enum class Kind : std::uint8_t { kCopy, kCodes, kScales, kShape };

  Kind kind = Kind::kCopy;
  std::string name;
  StoredType type = StoredType::kBf16;
  std::vector<std::int64_t> shape;
  std::uint64_t size_bytes = 0;
  const CheckpointTensor* source = nullptr;
};

std::string_view Bytes(const void* data, std::size_t size) {
  return {static_cast<const char*>(data), size};
}

float RoundedScale(float scale) { return kernels::RoundToBf16(scale); }

float Code(float value, float scale, float low, float high) {
  return scale == 0.0F ? 0.0F : std::clamp(std::nearbyint(value / scale), low, high);
}

float LargestOf(std::span<const float> values) {
  float largest = 0.0F;
  for (const float value : values) {
    largest = std::max(largest, std::abs(value));
  }
  return largest;
}

/// Modules that choose experts: small, and an error there changes which weights run.
bool IsRouter(std::string_view module) {
  return module.ends_with(".gate") || module.ends_with(".router") ||
         module.ends_with("shared_expert_gate");
}

class Quantizer final {
 public:
  Quantizer(const Checkpoint& checkpoint, const DecoderSpec& spec, const QuantizeOptions& options)
      : checkpoint_(checkpoint), spec_(spec), options_(options) {}

  bool int4() const { return options_.scheme == QuantizeScheme::kInt4; }

  /// Lists the tensors to write.
  Result<void> Plan() {
    for (const ExpectedTensor& expected : ExpectedTensors(spec_)) {
      const CheckpointTensor* tensor = checkpoint_.Find(expected.name);
      if (tensor == nullptr) {
        return Fail(Code::kDataCorrupt, fmt::format("tensor {} is missing", expected.name),
                    expected.name);
      }
      if (expected.shape.size() != 2 || expected.kind == ParameterKind::kEmbedding ||
          !expected.name.ends_with(".weight")) {
        AddCopy(*tensor);
        continue;
      }
      const std::string module = expected.name.substr(0, expected.name.size() - 7);
      const bool head = expected.kind == ParameterKind::kHead && !options_.head;
      const bool fits = !int4() || expected.shape[1] % options_.group_size == 0;
      if (head || IsRouter(module) || !fits) {
        ignored_.push_back(module);
        report_.kept_count += 1;
        AddCopy(*tensor);
        continue;
      }
      AddLinear(*tensor, module);
    }
    if (report_.quantized_count == 0) {
      return Fail(Code::kUnsupported,
                  fmt::format("no linear of this model can be quantised in groups of {}",
                              options_.group_size),
                  "group");
    }
    // Largest elements first, so that every tensor is aligned to its own.
    std::vector<Output> sorted;
    for (const std::size_t size : {8U, 4U, 2U, 1U}) {
      std::copy_if(outputs_.begin(), outputs_.end(), std::back_inserter(sorted),
                   [&](const Output& output) { return StoredTypeSize(output.type) == size; });
    }
    outputs_ = std::move(sorted);
    for (const Output& output : outputs_) {
      report_.target_bytes += output.size_bytes;
    }
    report_.source_bytes = checkpoint_.size_bytes();
    return {};
  }

  /// Writes model.safetensors, or shards and their index, into `folder`.
  Result<void> Write(const std::string& folder) {
    std::vector<std::size_t> ends;  // of shards, into outputs_
    std::uint64_t size = 0;
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
      if (size > 0 && size + outputs_[i].size_bytes > options_.shard_size_max) {
        ends.push_back(i);
        size = 0;
      }
      size += outputs_[i].size_bytes;
    }
    ends.push_back(outputs_.size());
    wire::Json weight_map(wire::Json::Object{});
    std::size_t begin = 0;
    for (std::size_t shard = 0; shard < ends.size(); ++shard) {
      const std::string name = ends.size() == 1 ? "model.safetensors"
                                                : fmt::format("model-{:05}-of-{:05}.safetensors",
                                                              shard + 1, ends.size());
      const auto outputs = std::span(outputs_).subspan(begin, ends[shard] - begin);
      PX_CHECK_OK(WriteShard(folder + "/" + name, outputs));
      for (const Output& output : outputs) {
        weight_map.Set(output.name, name);
      }
      begin = ends[shard];
    }
    if (ends.size() == 1) {
      return {};
    }
    wire::Json index(wire::Json::Object{});
    wire::Json metadata(wire::Json::Object{});
    metadata.Set("total_size", report_.target_bytes);
    index.Set("metadata", std::move(metadata));
    index.Set("weight_map", std::move(weight_map));
    return rt::WriteFileAtomic(folder + "/model.safetensors.index.json", index.Dump(), 0644);
  }

  wire::Json ConfigJson() const {
    wire::Json weights(wire::Json::Object{});
    weights.Set("num_bits", int4() ? 4 : 8);
    weights.Set("type", "int");
    weights.Set("symmetric", true);
    weights.Set("strategy", int4() ? "group" : "channel");
    weights.Set("group_size", int4() ? wire::Json(options_.group_size) : wire::Json());
    weights.Set("dynamic", false);
    weights.Set("observer", "minmax");
    wire::Json group(wire::Json::Object{});
    group.Set("targets", wire::Json::Array{"Linear"});
    group.Set("weights", std::move(weights));
    group.Set("output_activations", wire::Json());
    if (!int4()) {
      // Readers that multiply in int8 round inputs by token; others may keep them.
      wire::Json inputs(wire::Json::Object{});
      inputs.Set("num_bits", 8);
      inputs.Set("type", "int");
      inputs.Set("symmetric", true);
      inputs.Set("strategy", "token");
      inputs.Set("dynamic", true);
      group.Set("input_activations", std::move(inputs));
    } else {
      group.Set("input_activations", wire::Json());
    }
    wire::Json groups(wire::Json::Object{});
    groups.Set("group_0", std::move(group));
    wire::Json out(wire::Json::Object{});
    out.Set("quant_method", "compressed-tensors");
    out.Set("format", int4() ? "pack-quantized" : "int-quantized");
    out.Set("quantization_status", "compressed");
    out.Set("config_groups", std::move(groups));
    wire::Json::Array ignored(ignored_.begin(), ignored_.end());
    if (spec_.tied_head) {
      ignored.emplace_back(spec_.names.head);
    }
    out.Set("ignore", std::move(ignored));
    out.Set("kv_cache_scheme", wire::Json());
    return out;
  }

  QuantizeReport Report() const {
    QuantizeReport out = report_;
    out.signal_to_noise_db = noise_ == 0.0 ? 0.0 : 10.0 * std::log10(signal_ / noise_);
    return out;
  }

 private:
  void Add(Output output, std::int64_t elements) {
    output.size_bytes = static_cast<std::uint64_t>(elements) * StoredTypeSize(output.type);
    outputs_.push_back(std::move(output));
  }

  void AddCopy(const CheckpointTensor& tensor) {
    outputs_.push_back({.kind = Output::Kind::kCopy,
                        .name = tensor.stored.name,
                        .type = tensor.stored.type,
                        .shape = tensor.stored.shape,
                        .size_bytes = tensor.stored.size_bytes,
                        .source = &tensor});
  }

  void AddLinear(const CheckpointTensor& tensor, const std::string& module) {
    const std::int64_t rows = tensor.stored.shape[0];
    const std::int64_t cols = tensor.stored.shape[1];
    const std::int64_t groups = int4() ? cols / options_.group_size : 1;
    report_.quantized_count += 1;
    Add({.kind = Output::Kind::kScales,
         .name = module + ".weight_scale",
         .type = StoredType::kBf16,
         .shape = {rows, groups},
         .source = &tensor},
        rows * groups);
    if (!int4()) {
      Add({.kind = Output::Kind::kCodes,
           .name = module + ".weight",
           .type = StoredType::kI8,
           .shape = {rows, cols},
           .source = &tensor},
          rows * cols);
      return;
    }
    Add({.kind = Output::Kind::kCodes,
         .name = module + ".weight_packed",
         .type = StoredType::kI32,
         .shape = {rows, cols / 8},
         .source = &tensor},
        rows * cols / 8);
    Add({.kind = Output::Kind::kShape,
         .name = module + ".weight_shape",
         .type = StoredType::kI64,
         .shape = {2},
         .source = &tensor},
        2);
  }

  Result<void> WriteShard(const std::string& path, std::span<const Output> outputs) {
    std::vector<StoredTensor> tensors;
    for (const Output& output : outputs) {
      tensors.push_back({.name = output.name,
                         .type = output.type,
                         .shape = output.shape,
                         .size_bytes = output.size_bytes});
    }
    PX_TRY(rt::FileWriter file, rt::FileWriter::Open(path, 0));
    PX_CHECK_OK(file.Append(wire::SafetensorsHead(tensors)));
    for (const Output& output : outputs) {
      PX_CHECK_OK(WriteTensor(output, file));
      written_ += output.size_bytes;
      if (options_.progress) {
        options_.progress(written_, report_.target_bytes);
      }
    }
    return file.Sync();
  }

  Result<void> WriteTensor(const Output& output, rt::FileWriter& file) {
    const CheckpointTensor& source = *output.source;
    if (output.kind == Output::Kind::kCopy) {
      return file.Append(Bytes(source.bytes.data(), source.bytes.size()));
    }
    if (output.kind == Output::Kind::kShape) {
      return file.Append(Bytes(source.stored.shape.data(), 16));
    }
    if (output.kind == Output::Kind::kScales && int4()) {
      const std::vector<std::uint16_t>& scales = int4_scales_[source.stored.name];
      return file.Append(Bytes(scales.data(), scales.size() * 2));
    }
    const kernels::WeightPart part{.data = source.bytes.data(),
                                   .dtype = *AsWeightType(source.stored.type),
                                   .rows = source.stored.shape[0],
                                   .cols = source.stored.shape[1]};
    std::vector<float> row(static_cast<std::size_t>(part.cols));
    std::string out;
    for (std::int64_t i = 0; i < part.rows; ++i) {
      kernels::ReadRow(part, i, row.data());
      if (!std::isfinite(LargestOf(row))) {
        return Fail(Code::kDataCorrupt,
                    fmt::format("{}: row {} is not finite", checkpoint_.Place(source), i),
                    source.stored.name);
      }
      if (output.kind == Output::Kind::kScales) {
        const std::uint16_t bits = kernels::Bf16FromFloat(LargestOf(row) / 127.0F);
        out.append(Bytes(&bits, sizeof(bits)));
      } else if (int4()) {
        AppendInt4Row(row, int4_scales_[source.stored.name], out);
      } else {
        AppendInt8Row(row, out);
      }
      if (out.size() > kFlushSize) {
        PX_CHECK_OK(file.Append(out));
        out.clear();
      }
    }
    return file.Append(out);
  }

  void Count(float value, float back) {
    signal_ += double{value} * double{value};
    noise_ += (double{value} - double{back}) * (double{value} - double{back});
  }

  void AppendInt8Row(std::span<const float> row, std::string& out) {
    const float scale = RoundedScale(LargestOf(row) / 127.0F);
    for (const float value : row) {
      const float code = pixii::model::Code(value, scale, -128.0F, 127.0F);
      Count(value, code * scale);
      out.push_back(static_cast<char>(static_cast<std::int8_t>(code)));
    }
  }

  void AppendInt4Row(std::span<const float> row, std::vector<std::uint16_t>& scales,
                     std::string& out) {
    const auto group = static_cast<std::size_t>(options_.group_size);
    for (std::size_t begin = 0; begin < row.size(); begin += group) {
      const auto values = row.subspan(begin, group);
      const float scale = SearchInt4Scale(values);
      scales.push_back(kernels::Bf16FromFloat(scale));
      for (std::size_t i = 0; i < group; i += 2) {
        unsigned byte = 0;
        for (std::size_t j = 0; j < 2; ++j) {
          const float code = pixii::model::Code(values[i + j], scale, -8.0F, 7.0F);
          Count(values[i + j], code * scale);
          byte |= static_cast<unsigned>(static_cast<int>(code) + 8) << 4 * j;
        }
        out.push_back(static_cast<char>(byte));
      }
    }
  }

  static constexpr std::size_t kFlushSize = 8 << 20;  // bytes gathered before a write

  const Checkpoint& checkpoint_;
  const DecoderSpec& spec_;
  const QuantizeOptions& options_;
  std::vector<Output> outputs_;
  std::vector<std::string> ignored_;
  std::map<std::string, std::vector<std::uint16_t>> int4_scales_;
  QuantizeReport report_;
  std::uint64_t written_ = 0;
  double signal_ = 0.0;
  double noise_ = 0.0;
};

/// Everything of the source that is neither weights nor config: tokenizer, templates, licence.
Result<void> CopyOthers(const std::string& source, const std::string& target) {
  PX_TRY(const auto entries, rt::ListFolder(source, kEntryCountMax));
  for (const rt::FolderEntry& entry : entries) {
    const std::string_view name = entry.name;
    const bool weights = name.ends_with(".safetensors") || name.ends_with(".bin") ||
                         name.ends_with(".gguf") || name.ends_with(".pth") ||
                         name.ends_with(".index.json");
    if (entry.info.kind != rt::FileKind::kFile || weights || name == "config.json" ||
        entry.info.size_bytes > kCopiedSizeMax) {
      continue;
    }
    PX_TRY(const std::string text, rt::ReadFile(source + "/" + entry.name, kCopiedSizeMax));
    PX_CHECK_OK(rt::WriteFileAtomic(target + "/" + entry.name, text, 0644));
  }
  return {};
}

Result<void> CheckOptions(const QuantizeOptions& options, const std::string& target) {
  const std::int64_t group = options.group_size;
  if (options.scheme == QuantizeScheme::kInt4 && group != 32 && group != 64 && group != 128) {
    return Fail(Code::kInvalidArgument, fmt::format("group {} is not 32, 64 or 128", group),
                "group");
  }
  PX_TRY(const auto there, rt::StatFile(target));
  if (there) {
    return Fail(Code::kInvalidArgument, fmt::format("{} exists already", wire::Quoted(target)),
                "TARGET");
  }
  return {};
}

/// An empty folder beside `target`; what an earlier run left there is removed.
Result<std::string> MakePartial(const std::string& target) {
  const std::string partial = target + ".partial";
  PX_CHECK_OK(rt::CreateFolders(partial));
  PX_TRY(const auto entries, rt::ListFolder(partial, kEntryCountMax));
  for (const rt::FolderEntry& entry : entries) {
    PX_CHECK_OK(rt::RemoveFile(partial + "/" + entry.name));
  }
  return partial;
}

}  // namespace

float SearchInt4Scale(std::span<const float> values) {
  const float largest = LargestOf(values);
  float best = 0.0F;
  double best_error = std::numeric_limits<double>::infinity();
  for (const float divisor : kInt4Divisors) {
    const float scale = RoundedScale(largest / divisor);
    if (scale == 0.0F) {
      break;
    }
    const float inverse = 1.0F / scale;
    float error = 0.0F;
    for (const float value : values) {
      const float code = std::clamp(std::nearbyint(value * inverse), -8.0F, 7.0F);
      const float difference = value - code * scale;
      error += difference * difference;
    }
    if (double{error} < best_error) {
      best_error = double{error};
      best = scale;
    }
  }
  return best;
}

Result<QuantizeReport> QuantizeFolder(const std::string& source, const std::string& target,
                                      const QuantizeOptions& options) {
  std::string path = target;
  while (path.size() > 1 && path.ends_with('/')) {
    path.pop_back();
  }
  PX_CHECK_OK(CheckOptions(options, path));
  PX_TRY(const CheckpointFolder folder, CheckpointFolder::Open(source));
  PX_TRY(const ModelConfig config, LoadConfig(folder));
  if (config.encoder) {
    return Fail(Code::kUnsupported,
                fmt::format("{}: architectures = {} is an encoder; only decoders are quantised",
                            source, wire::Quoted(config.encoder->architecture)),
                "SOURCE");
  }
  if (config.vision) {
    return Fail(Code::kUnsupported,
                fmt::format("{}: architectures = {} has a vision tower; only decoders of text are "
                            "quantised",
                            source, wire::Quoted(config.vision->architecture)),
                "SOURCE");
  }
  if (folder.gguf() != nullptr || !config.decoder.quantization.method.empty()) {
    return Fail(
        Code::kUnsupported,
        fmt::format("{} is quantised already or a GGUF file; quantise a folder in bf16, f16 "
                    "or f32",
                    source),
        "SOURCE");
  }
  PX_TRY(const Checkpoint checkpoint, Checkpoint::Open(folder));
  PX_CHECK_OK(CheckTensors(config.decoder, checkpoint));
  Quantizer quantizer(checkpoint, config.decoder, options);
  PX_CHECK_OK(quantizer.Plan());
  auto json = wire::ParseJson(config.text);
  if (!json) {
    return Fail(Code::kUnsupported,
                fmt::format("{}/config.json is not plain JSON: {}", source, json.error().detail()),
                "SOURCE");
  }
  json->Set("quantization_config", quantizer.ConfigJson());
  PX_TRY(const std::string partial, MakePartial(path));
  PX_CHECK_OK(quantizer.Write(partial));
  PX_CHECK_OK(CopyOthers(source, partial));
  PX_CHECK_OK(rt::WriteFileAtomic(partial + "/config.json", json->Dump(), 0644));
  PX_CHECK_OK(rt::RenameFile(partial, path));
  return quantizer.Report();
}

}  // namespace pixii::model
