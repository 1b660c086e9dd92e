#include "model/quantization.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>

#include "text/tokenizer/regex.h"
#include "wire/quoted.h"

namespace pixii::model {
namespace {

constexpr std::int64_t kBlockSizeMax = 1 << 20;    // rows or columns of one scale
constexpr std::size_t kPatternCountMax = 1 << 17;  // entries of an ignore list
constexpr std::string_view kMethods = "compressed-tensors, fp8, fbgemm_fp8, gptq, awq and mxfp4";

using Keys = std::initializer_list<std::string_view>;

/// A key that nothing here reads may change what the weights mean, so it ends the load.
Result<void> RefuseOtherKeys(const ConfigReader& reader, const wire::Json& json, Keys known) {
  for (const auto& [key, value] : json.object()) {
    if (std::find(known.begin(), known.end(), key) == known.end() && !value.is_null()) {
      return reader.Unsupported(key, "is a key this build does not know");
    }
  }
  return {};
}

/// A module name as the lists of compressed-tensors write it: "re:" begins a regular expression.
Result<ModulePattern> ReadPattern(const ConfigReader& reader, std::string_view key,
                                  std::string text) {
  ModulePattern out{std::move(text), nullptr};
  if (!out.text.starts_with("re:")) {
    return out;
  }
  auto regex = text::Regex::Compile(out.text.substr(3));
  if (!regex) {
    return reader.Unsupported(
        key, fmt::format("has the pattern {}: {}", wire::Quoted(out.text), regex.error().detail()));
  }
  out.regex = std::make_shared<const text::Regex>(std::move(*regex));
  return out;
}

Result<std::vector<ModulePattern>> ReadPatterns(const ConfigReader& reader, std::string_view key) {
  PX_TRY(const std::vector<std::string> texts, reader.Strings(key));
  if (texts.size() > kPatternCountMax) {
    return reader.Bad(key, fmt::format("has more than {} entries", kPatternCountMax));
  }
  std::vector<ModulePattern> out;
  for (const std::string& text : texts) {
    PX_TRY(ModulePattern pattern, ReadPattern(reader, key, text));
    out.push_back(std::move(pattern));
  }
  return out;
}

/// [rows, cols] as a list, or "128x128" as some writers spell it.
Result<std::pair<std::int64_t, std::int64_t>> ReadBlock(const ConfigReader& reader,
                                                        std::string_view key) {
  PX_TRY(const std::vector<std::int64_t> sizes, reader.IntOrInts(key));
  if (sizes.size() != 2 || std::min(sizes[0], sizes[1]) < 1 ||
      std::max(sizes[0], sizes[1]) > kBlockSizeMax) {
    return reader.Bad(key, fmt::format("is not a pair of 1 to {}", kBlockSizeMax));
  }
  return std::pair{sizes[0], sizes[1]};
}

// -------------------------------------------------------------------------------------------------
// compressed-tensors

Result<void> ReadStrategy(const ConfigReader& args, WeightScheme& scheme) {
  PX_TRY(const std::int64_t group, args.Int("group_size", {-1, kBlockSizeMax}, 0));
  PX_TRY(const std::string strategy, args.String("strategy", group > 0     ? "group"
                                                             : group == -1 ? "channel"
                                                                           : "tensor"));
  if (strategy == "tensor") {
    scheme.scale_rows = 0;
    scheme.scale_cols = 0;
  } else if (strategy == "channel") {
    scheme.scale_rows = 1;
    scheme.scale_cols = 0;
  } else if (strategy == "group") {
    if (group < 1) {
      return args.Bad("group_size", fmt::format("is not in 1 to {}", kBlockSizeMax));
    }
    scheme.scale_rows = 1;
    scheme.scale_cols = group;
  } else if (strategy == "block") {
    PX_TRY(const auto block, ReadBlock(args, "block_structure"));
    scheme.scale_rows = block.first;
    scheme.scale_cols = block.second;
  } else {
    return args.Unsupported("strategy",
                            "is not built; this build reads tensor, channel, group and "
                            "block");
  }
  return {};
}

Result<WeightScheme> ReadCompressedWeights(const ConfigReader& args, const wire::Json& json,
                                           const std::string& format) {
  PX_CHECK_OK(RefuseOtherKeys(
      args, json,
      {"num_bits", "type", "symmetric", "strategy", "group_size", "block_structure", "actorder",
       "dynamic", "observer", "observer_kwargs", "scale_dtype", "zp_dtype"}));
  WeightScheme scheme;
  PX_TRY(const std::int64_t bits, args.Int("num_bits", {1, 16}, 8));
  PX_TRY(const std::string type, args.String("type", "int"));
  PX_TRY(scheme.symmetric, args.Bool("symmetric", true));
  PX_TRY(const bool dynamic, args.Bool("dynamic", false));
  if (dynamic) {
    return args.Unsupported("dynamic", "makes no sense for stored weights");
  }
  scheme.bits = static_cast<std::int32_t>(bits);
  PX_CHECK_OK(ReadStrategy(args, scheme));
  if (type == "float") {
    if (bits != 8) {
      return args.Unsupported("num_bits", "is not built for floats; this build reads 8 (e4m3)");
    }
    scheme.kind = QuantKind::kFp8;
    if (!scheme.symmetric) {
      return args.Unsupported("symmetric", "has no meaning here for floats");
    }
  } else if (type == "int") {
    if (bits != 8 && bits != 4) {
      return args.Unsupported("num_bits", "is not built for integers; this build reads 8 and 4");
    }
    scheme.kind = format == "pack-quantized" ? QuantKind::kPacked : QuantKind::kInt8;
  } else {
    return args.Unsupported("type", "is not built; this build reads int and float");
  }
  return scheme;
}

Result<TargetedScheme> ReadGroup(const ConfigReader& groups, const std::string& name,
                                 std::string format) {
  PX_TRY(const ConfigReader group, groups.Object(name));
  PX_CHECK_OK(
      RefuseOtherKeys(group, *groups.Find(name),
                      {"targets", "weights", "input_activations", "output_activations", "format"}));
  PX_TRY(format, group.String("format", format));
  if (format != "pack-quantized" && format != "int-quantized" && format != "float-quantized" &&
      format != "naive-quantized") {
    return group.Unsupported("format", fmt::format("is {}; this build reads pack-quantized, "
                                                   "int-quantized, float-quantized and "
                                                   "naive-quantized",
                                                   wire::Quoted(format)));
  }
  if (group.Find("output_activations") != nullptr) {
    return group.Unsupported("output_activations", "are not built");
  }
  // input_activations say how another engine may round a linear's inputs to multiply faster. Here
  // inputs keep their precision (docs/formats/quantized_weights.md).
  if (group.Find("weights") == nullptr) {
    return group.Unsupported("weights", "is absent: nothing is known of how weights are stored");
  }
  TargetedScheme out;
  PX_TRY(const ConfigReader weights, group.Object("weights"));
  PX_TRY(out.scheme, ReadCompressedWeights(weights, *group.Find("weights"), format));
  PX_TRY(out.targets, ReadPatterns(group, "targets"));
  // "Linear" is a class of modules: all of them.
  if (std::any_of(out.targets.begin(), out.targets.end(),
                  [](const ModulePattern& target) { return target.text == "Linear"; })) {
    out.targets.clear();
  } else if (out.targets.empty()) {
    return group.Bad("targets", "names no module");
  }
  return out;
}

Result<void> ReadCompressedTensors(const ConfigReader& config, const wire::Json& json,
                                   QuantizationSpec& spec) {
  PX_CHECK_OK(RefuseOtherKeys(config, json,
                              {"quant_method", "format", "quantization_status",
                               "global_compression_ratio", "kv_cache_scheme", "ignore",
                               "config_groups", "sparsity_config", "transform_config", "version"}));
  for (const std::string_view key : {"sparsity_config", "transform_config"}) {
    const wire::Json* value = config.Find(key);
    if (value == nullptr || (value->is_object() && value->object().empty())) {
      continue;
    }
    const wire::Json* format = value->Find("format");
    if (format == nullptr || !format->is_string() || format->string() != "dense") {
      return config.Unsupported(key, "is not built");
    }
  }
  PX_TRY(const std::string status, config.String("quantization_status", "compressed"));
  if (status != "compressed" && status != "frozen") {
    return config.Unsupported("quantization_status", "is not a finished checkpoint's");
  }
  PX_TRY(const std::string format, config.String("format", "naive-quantized"));
  PX_TRY(const ConfigReader groups, config.Object("config_groups"));
  for (const auto& [name, group] : config.Find("config_groups")->object()) {
    PX_TRY(TargetedScheme scheme, ReadGroup(groups, name, format));
    spec.schemes.push_back(std::move(scheme));
  }
  PX_TRY(spec.ignored, ReadPatterns(config, "ignore"));
  return {};
}

// -------------------------------------------------------------------------------------------------
// The others: one scheme for every linear.

Result<void> ReadActivationScheme(const ConfigReader& config) {
  // Either way only says how inputs may be rounded; a static one comes with X.input_scale.
  PX_TRY(const std::string scheme, config.String("activation_scheme", "dynamic"));
  if (scheme != "dynamic" && scheme != "static") {
    return config.Unsupported("activation_scheme", "is neither dynamic nor static");
  }
  return {};
}

Result<WeightScheme> ReadFp8(const ConfigReader& config, const wire::Json& json,
                             const std::string& method) {
  PX_CHECK_OK(RefuseOtherKeys(
      config, json,
      {"quant_method", "fmt", "activation_scheme", "weight_block_size", "modules_to_not_convert",
       "ignored_layers", "activation_scale_ub", "scale_fmt", "dequantize"}));
  PX_TRY(const std::string format, config.String("fmt", "e4m3"));
  if (format != "e4m3" && format != "float8_e4m3fn") {
    return config.Unsupported("fmt", "is not built; this build reads e4m3");
  }
  PX_TRY(const std::string scale_format, config.String("scale_fmt", "float"));
  if (scale_format != "float" && scale_format != "ue8m0") {
    return config.Unsupported("scale_fmt", "is not built; this build reads float and ue8m0");
  }
  PX_CHECK_OK(ReadActivationScheme(config));
  WeightScheme scheme{.kind = QuantKind::kFp8, .bits = 8, .scale_rows = 0, .scale_cols = 0};
  if (config.Find("weight_block_size") != nullptr) {
    PX_TRY(const auto block, ReadBlock(config, "weight_block_size"));
    scheme.scale_rows = block.first;
    scheme.scale_cols = block.second;
  } else if (method == "fbgemm_fp8") {
    scheme.scale_rows = 1;
  }
  return scheme;
}

Result<std::int64_t> ReadGroupSize(const ConfigReader& config, std::string_view key) {
  PX_TRY(const std::int64_t size, config.Int(key, {-1, kBlockSizeMax}));
  if (size == 0) {
    return config.Bad(key, "is 0; -1 means a scale for each whole row");
  }
  return std::max<std::int64_t>(size, 0);
}

Result<WeightScheme> ReadGptq(const ConfigReader& config, const wire::Json& json) {
  PX_CHECK_OK(RefuseOtherKeys(config, json,
                              {"quant_method",
                               "bits",
                               "group_size",
                               "desc_act",
                               "sym",
                               "checkpoint_format",
                               "lm_head",
                               "damp_percent",
                               "damp_auto_increment",
                               "true_sequential",
                               "static_groups",
                               "dynamic",
                               "model_name_or_path",
                               "model_file_base_name",
                               "meta",
                               "pack_dtype",
                               "format",
                               "quantizer",
                               "dataset",
                               "tokenizer",
                               "batch_size",
                               "model_seqlen",
                               "block_name_to_quantize",
                               "module_name_preceding_first_block",
                               "pad_token_id",
                               "use_exllama",
                               "disable_exllama",
                               "exllama_config",
                               "max_input_length",
                               "use_cuda_fp16",
                               "cache_block_outputs",
                               "modules_in_block_to_quantize",
                               "is_marlin_format",
                               "backend",
                               "version"}));
  const wire::Json* dynamic = config.Find("dynamic");
  if (dynamic != nullptr && dynamic->is_object() && !dynamic->object().empty()) {
    return config.Unsupported("dynamic", "gives modules schemes of their own, which is not built");
  }
  PX_TRY(const bool marlin, config.Bool("is_marlin_format", false));
  if (marlin) {
    return config.Unsupported("is_marlin_format", "is a layout of one GPU kernel; not built");
  }
  PX_TRY(const std::string pack, config.String("pack_dtype", "int32"));
  if (pack != "int32") {
    return config.Unsupported("pack_dtype", "is not built; this build reads int32");
  }
  WeightScheme scheme{.kind = QuantKind::kGptq, .symmetric = false};
  PX_TRY(const std::int64_t bits, config.Int("bits", {1, 16}));
  if (bits != 2 && bits != 4 && bits != 8) {
    return config.Unsupported("bits", "is not built; this build reads 2, 4 and 8");
  }
  scheme.bits = static_cast<std::int32_t>(bits);
  PX_TRY(scheme.scale_cols, ReadGroupSize(config, "group_size"));
  PX_TRY(const std::string format, config.String("checkpoint_format", "gptq"));
  if (format != "gptq" && format != "gptq_v2") {
    return config.Unsupported("checkpoint_format",
                              "is not built; this build reads gptq and gptq_v2");
  }
  scheme.zero_plus_one = format == "gptq";
  return scheme;
}

Result<WeightScheme> ReadAwq(const ConfigReader& config, const wire::Json& json) {
  PX_CHECK_OK(
      RefuseOtherKeys(config, json,
                      {"quant_method", "bits", "w_bit", "group_size", "q_group_size", "zero_point",
                       "version", "modules_to_not_convert", "backend", "do_fuse",
                       "fuse_max_seq_len", "modules_to_fuse", "exllama_config"}));
  WeightScheme scheme{.kind = QuantKind::kAwq, .bits = 4, .symmetric = false};
  const std::string_view bits_key = config.Find("bits") != nullptr ? "bits" : "w_bit";
  PX_TRY(const std::int64_t bits, config.Int(bits_key, {1, 16}));
  if (bits != 4) {
    return config.Unsupported(bits_key, "is not built; this build reads 4");
  }
  PX_TRY(
      scheme.scale_cols,
      ReadGroupSize(config, config.Find("group_size") != nullptr ? "group_size" : "q_group_size"));
  PX_TRY(const bool zero_point, config.Bool("zero_point", true));
  if (!zero_point) {
    return config.Unsupported("zero_point", "is not built; this build reads true");
  }
  PX_TRY(std::string version, config.String("version", "gemm"));
  std::transform(version.begin(), version.end(), version.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (version != "gemm") {
    return config.Unsupported("version", "is not built; this build reads gemm");
  }
  return scheme;
}

Result<WeightScheme> ReadMxfp4(const ConfigReader& config, const wire::Json& json) {
  PX_CHECK_OK(
      RefuseOtherKeys(config, json, {"quant_method", "modules_to_not_convert", "dequantize"}));
  return WeightScheme{.kind = QuantKind::kMxfp4, .bits = 4, .scale_rows = 1, .scale_cols = 32};
}

Result<void> ReadSingleScheme(const ConfigReader& config, const wire::Json& json,
                              QuantizationSpec& spec) {
  TargetedScheme all;
  if (spec.method == "fp8" || spec.method == "fbgemm_fp8") {
    PX_TRY(all.scheme, ReadFp8(config, json, spec.method));
  } else if (spec.method == "gptq") {
    PX_TRY(all.scheme, ReadGptq(config, json));
  } else if (spec.method == "awq") {
    PX_TRY(all.scheme, ReadAwq(config, json));
  } else if (spec.method == "mxfp4") {
    PX_TRY(all.scheme, ReadMxfp4(config, json));
  } else {
    return config.Unsupported("quant_method",
                              fmt::format("is not built; this build reads {}", kMethods));
  }
  spec.schemes.push_back(std::move(all));
  // These lists are matched by substring, prefix or pattern, by whom depends. What the file holds
  // says it better: only a module named in full contradicts.
  for (const std::string_view key : {"modules_to_not_convert", "ignored_layers"}) {
    PX_TRY(const std::vector<std::string> names, config.Strings(key));
    for (const std::string& name : names) {
      spec.ignored.push_back({name, nullptr});
    }
  }
  return {};
}

}  // namespace

bool ModulePattern::Matches(std::string_view module) const {
  if (regex == nullptr) {
    return text == module;
  }
  text::RegexScan scan(*regex);
  scan.Reset(module);
  text::TextRange match;
  const auto found = scan.Next(match);
  return found && *found && match.begin == 0;
}

const WeightScheme* QuantizationSpec::SchemeOf(std::string_view module) const {
  const TargetedScheme* all = nullptr;
  for (const TargetedScheme& candidate : schemes) {
    if (candidate.targets.empty()) {
      all = all == nullptr ? &candidate : all;
    } else if (std::any_of(candidate.targets.begin(), candidate.targets.end(),
                           [&](const ModulePattern& target) { return target.Matches(module); })) {
      return &candidate.scheme;
    }
  }
  return all == nullptr ? nullptr : &all->scheme;
}

bool QuantizationSpec::Ignores(std::string_view module) const {
  return std::any_of(ignored.begin(), ignored.end(),
                     [&](const ModulePattern& pattern) { return pattern.Matches(module); });
}

Result<QuantizationSpec> ReadQuantization(const ConfigReader& config) {
  QuantizationSpec spec;
  std::string_view key = "quantization_config";
  if (config.Find(key) == nullptr) {
    key = "compression_config";
  }
  if (config.Find(key) == nullptr) {
    return spec;
  }
  PX_TRY(const ConfigReader reader, config.Object(key));
  const wire::Json& json = *config.Find(key);
  PX_TRY(spec.method,
         reader.String("quant_method", key == "compression_config"
                                           ? std::optional<std::string>("compressed-tensors")
                                           : std::nullopt));
  if (spec.method == "compressed-tensors") {
    PX_CHECK_OK(ReadCompressedTensors(reader, json, spec));
  } else {
    PX_CHECK_OK(ReadSingleScheme(reader, json, spec));
  }
  return spec;
}

}  // namespace pixii::model
