#include "model/inspect.h"

#include <fmt/format.h>

#include <algorithm>

#include "model/checkpoint.h"
#include "model/checkpoint_folder.h"
#include "model/config.h"
#include "model/decoder.h"
#include "model/encoder.h"
#include "model/weights.h"

namespace pixii::model {
namespace {

constexpr std::uint64_t kBf16Size = 2;

std::uint64_t Elements(const std::vector<std::int64_t>& shape) {
  std::uint64_t count = 1;
  for (const std::int64_t dim : shape) {
    count *= static_cast<std::uint64_t>(dim);
  }
  return count;
}

/// "BPE", "Unigram", … from tokenizer.json's model.type.
Result<std::string> TokenizerKind(const CheckpointFolder& folder) {
  if (folder.Has("tokenizer.json")) {
    PX_TRY(const std::string text, folder.ReadText("tokenizer.json", kTokenizerSizeMax));
    const auto json = wire::ParseJson(text);
    if (!json) {
      return Fail(Code::kDataCorrupt,
                  fmt::format("{}/tokenizer.json: {}", folder.path(), json.error().detail()));
    }
    const wire::Json* model = json->Find("model");
    const wire::Json* type = model == nullptr ? nullptr : model->Find("type");
    return std::string(type != nullptr && type->is_string() ? type->string() : "of unknown kind");
  }
  if (folder.Has("tokenizer.model")) {
    return std::string("SentencePiece file");
  }
  return std::string("none");
}

Result<bool> HasChatTemplate(const CheckpointFolder& folder) {
  if (folder.Has("chat_template.jinja") || folder.Has("chat_template.json")) {
    return true;
  }
  if (!folder.Has("tokenizer_config.json")) {
    return false;
  }
  PX_TRY(const std::string text, folder.ReadText("tokenizer_config.json", kTokenizerSizeMax));
  const auto json = wire::ParseJson(text);
  return json && json->Find("chat_template") != nullptr;
}

void CountParameters(std::span<const ExpectedTensor> tensors, bool tied_head,
                     InspectReport& report) {
  for (const ExpectedTensor& tensor : tensors) {
    const std::uint64_t count = Elements(tensor.shape);
    report.parameters[std::string(ParameterKindName(tensor.kind))] += count;
    const bool is_table = tensor.kind == ParameterKind::kEmbedding;
    const std::uint64_t copies = is_table && tied_head ? 2 : 1;
    const bool is_vector = tensor.shape.size() == 1;
    report.weights_bytes += copies * count * (is_vector ? sizeof(float) : kBf16Size);
  }
}

void CountStored(const Checkpoint& checkpoint, InspectReport& report) {
  for (const CheckpointTensor& tensor : checkpoint.tensors()) {
    DTypeShare& share = report.dtypes[std::string(StoredTypeName(tensor.stored.type))];
    share.tensor_count += 1;
    share.size_bytes += tensor.stored.size_bytes;
  }
}

void FitContexts(std::int32_t context_tokens, InspectReport& report) {
  const std::uint64_t fixed = report.weights_bytes + report.workspace_bytes;
  if (report.memory_bytes > fixed) {
    report.kv_tokens_fit = (report.memory_bytes - fixed) / report.kv_bytes_per_token;
    report.full_contexts_fit = report.kv_tokens_fit / static_cast<std::uint64_t>(context_tokens);
  }
}

std::string Mebibytes(std::uint64_t bytes) {
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1 << 20));
}

}  // namespace

Result<InspectReport> InspectFolder(const std::string& folder_path, const InspectOptions& options) {
  PX_TRY(const CheckpointFolder folder, CheckpointFolder::Open(folder_path));
  PX_TRY(ModelConfig config, LoadConfig(folder));
  PX_TRY(const Checkpoint checkpoint, Checkpoint::Open(folder));
  ResolveNames(checkpoint, config);
  PX_CHECK_OK(CheckTensors(config, checkpoint));
  InspectReport report;
  report.folder = folder_path;
  PX_TRY(report.spec, MakeModelSpec(config, checkpoint));
  report.files.assign(checkpoint.file_names().begin(), checkpoint.file_names().end());
  report.checkpoint_size_bytes = checkpoint.size_bytes();
  PX_TRY(report.tokenizer, TokenizerKind(folder));
  PX_TRY(report.has_chat_template, HasChatTemplate(folder));
  report.memory_bytes = options.memory_bytes;
  CountStored(checkpoint, report);
  if (config.encoder) {
    const EncoderSpec& encoder = *config.encoder;
    CountParameters(ExpectedTensors(encoder), false, report);
    report.head_count = encoder.head_count;
    report.intermediate_size = encoder.intermediate_size;
    report.rope = "none: learned positions";
    report.workspace_bytes = EncoderWorkspace(encoder, options.load).size_bytes();
    // Of one layer in fp32, for the length of a step.
    report.kv_bytes_per_token = sizeof(float) * 2 * static_cast<std::uint64_t>(encoder.hidden_size);
    FitContexts(encoder.context_tokens_max(), report);
    return report;
  }
  const DecoderSpec& decoder = config.decoder;
  report.head_count = decoder.head_count;
  report.intermediate_size = decoder.intermediate_size;
  report.tied_head = decoder.tied_head;
  for (const LayerSpec& layer : decoder.layers) {
    report.window_layer_count += layer.window_tokens > 0 ? 1 : 0;
    report.window_tokens = std::max(report.window_tokens, layer.window_tokens);
  }
  report.rope = RopeKindName(decoder.rope.kind);
  CountParameters(ExpectedTensors(decoder), decoder.tied_head, report);
  if (config.vision) {
    CountParameters(ExpectedTensors(*config.vision), false, report);
  }
  report.workspace_bytes = MakeWorkspacePlan(decoder, options.load).size_bytes();
  report.kv_bytes_per_token =
      kBf16Size * decoder.layers.size() * static_cast<std::uint64_t>(decoder.cached_head_count()) *
      static_cast<std::uint64_t>(decoder.key_dim() +
                                 (decoder.is_latent() ? 0 : decoder.value_dim()));
  FitContexts(decoder.context_tokens_max, report);
  return report;
}

wire::Json InspectReport::ToJson() const {
  wire::Json out(wire::Json::Object{});
  out.Set("folder", folder);
  out.Set("architecture", spec.architecture);
  out.Set("fingerprint", spec.fingerprint);
  out.Set("parameter_count", spec.parameter_count);
  wire::Json kinds(wire::Json::Object{});
  for (const auto& [kind, count] : parameters) {
    kinds.Set(kind, count);
  }
  out.Set("parameters", std::move(kinds));
  wire::Json types(wire::Json::Object{});
  for (const auto& [name, share] : dtypes) {
    wire::Json entry(wire::Json::Object{});
    entry.Set("tensors", share.tensor_count);
    entry.Set("bytes", share.size_bytes);
    types.Set(name, std::move(entry));
  }
  out.Set("dtypes", std::move(types));
  wire::Json::Array names(files.begin(), files.end());
  out.Set("files", std::move(names));
  out.Set("checkpoint_bytes", checkpoint_size_bytes);
  out.Set("layers", spec.layer_count);
  out.Set("hidden_size", spec.hidden_size);
  out.Set("intermediate_size", intermediate_size);
  out.Set("attention_heads", head_count);
  out.Set("kv_heads", spec.kv_head_count);
  out.Set("head_dim", spec.head_dim);
  out.Set("vocab_size", spec.vocab_size);
  out.Set("context_tokens", spec.context_tokens_max);
  out.Set("rope", rope);
  out.Set("window_tokens", window_tokens);
  out.Set("window_layers", window_layer_count);
  out.Set("tied_head", tied_head);
  wire::Json::Array eos(spec.eos_token_ids.begin(), spec.eos_token_ids.end());
  out.Set("eos_token_ids", std::move(eos));
  out.Set("bos_token_id", spec.bos_token_id < 0 ? wire::Json() : wire::Json(spec.bos_token_id));
  out.Set("tokenizer", tokenizer);
  out.Set("chat_template", has_chat_template);
  out.Set("weights_bytes", weights_bytes);
  out.Set("workspace_bytes", workspace_bytes);
  out.Set("kv_bytes_per_token", kv_bytes_per_token);
  if (memory_bytes > 0) {
    out.Set("memory_bytes", memory_bytes);
    out.Set("kv_tokens_fit", kv_tokens_fit);
    out.Set("full_contexts_fit", full_contexts_fit);
  }
  return out;
}

std::string InspectReport::ToText() const {
  std::string out;
  const auto line = [&](std::string_view name, const std::string& value) {
    out += fmt::format("{:<16} {}\n", name, value);
  };
  line("folder", folder);
  line("architecture", spec.architecture);
  line("fingerprint", spec.fingerprint);
  line("parameters", fmt::format("{}", spec.parameter_count));
  for (const auto& [kind, count] : parameters) {
    line("  " + kind, fmt::format("{}", count));
  }
  for (const auto& [name, share] : dtypes) {
    line("stored as",
         fmt::format("{}: {} tensors, {}", name, share.tensor_count, Mebibytes(share.size_bytes)));
  }
  line("files", fmt::format("{} ({})", files.size(), Mebibytes(checkpoint_size_bytes)));
  line("layers", fmt::format("{} of width {}, feed-forward {}", spec.layer_count, spec.hidden_size,
                             intermediate_size));
  line("heads", fmt::format("{} of {}, {} for keys and values", head_count, spec.head_dim,
                            spec.kv_head_count));
  line("vocabulary",
       fmt::format("{}{}", spec.vocab_size, tied_head ? ", head tied to the embeddings" : ""));
  line("context", fmt::format("{} tokens, rope {}", spec.context_tokens_max, rope));
  if (window_tokens > 0) {
    line("window", fmt::format("{} tokens in {} layers", window_tokens, window_layer_count));
  }
  line("tokenizer", fmt::format("{}{}", tokenizer,
                                has_chat_template ? ", chat template" : ", no chat template"));
  line("weights", fmt::format("{} in bf16, workspace {}", Mebibytes(weights_bytes),
                              Mebibytes(workspace_bytes)));
  line("KV cache",
       fmt::format(
           "{} bytes a token in bf16, {} for one whole context", kv_bytes_per_token,
           Mebibytes(kv_bytes_per_token * static_cast<std::uint64_t>(spec.context_tokens_max))));
  if (memory_bytes > 0) {
    line("fits", kv_tokens_fit == 0
                     ? fmt::format("not in {}", Mebibytes(memory_bytes))
                     : fmt::format("{} leave room for {} tokens of KV: {} whole contexts",
                                   Mebibytes(memory_bytes), kv_tokens_fit, full_contexts_fit));
  }
  return out;
}

}  // namespace pixii::model
