#include "unit/model/gguf_writer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "kernels/tensor.h"
#include "support/golden.h"
#include "wire/json.h"

namespace pixii::model::testing {
namespace {

template <class T>
void Append(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void AppendString(std::string& out, std::string_view text) {
  Append(out, static_cast<std::uint64_t>(text.size()));
  out.append(text);
}

void Pad(std::string& out, std::size_t alignment) {
  out.resize((out.size() + alignment - 1) / alignment * alignment);
}

}  // namespace

void GgufWriter::Key(std::string_view key, std::uint32_t type) {
  AppendString(entries_, key);
  Append(entries_, type);
  ++entry_count_;
}

GgufWriter& GgufWriter::U32(std::string_view key, std::uint32_t value) {
  Key(key, 4);
  Append(entries_, value);
  return *this;
}

GgufWriter& GgufWriter::F32(std::string_view key, float value) {
  Key(key, 6);
  Append(entries_, value);
  return *this;
}

GgufWriter& GgufWriter::Bool(std::string_view key, bool value) {
  Key(key, 7);
  Append(entries_, static_cast<std::uint8_t>(value));
  return *this;
}

GgufWriter& GgufWriter::String(std::string_view key, std::string_view value) {
  Key(key, 8);
  AppendString(entries_, value);
  return *this;
}

GgufWriter& GgufWriter::Strings(std::string_view key, const std::vector<std::string>& values) {
  Key(key, 9);
  Append(entries_, std::uint32_t{8});
  Append(entries_, static_cast<std::uint64_t>(values.size()));
  for (const std::string& value : values) {
    AppendString(entries_, value);
  }
  return *this;
}

GgufWriter& GgufWriter::F32s(std::string_view key, const std::vector<float>& values) {
  Key(key, 9);
  Append(entries_, std::uint32_t{6});
  Append(entries_, static_cast<std::uint64_t>(values.size()));
  for (const float value : values) {
    Append(entries_, value);
  }
  return *this;
}

GgufWriter& GgufWriter::I32s(std::string_view key, const std::vector<std::int32_t>& values) {
  Key(key, 9);
  Append(entries_, std::uint32_t{5});
  Append(entries_, static_cast<std::uint64_t>(values.size()));
  for (const std::int32_t value : values) {
    Append(entries_, value);
  }
  return *this;
}

GgufWriter& GgufWriter::Tensor(std::string_view name, std::uint32_t type,
                               const std::vector<std::int64_t>& shape, std::string bytes) {
  tensors_.push_back({std::string(name), type, shape, std::move(bytes)});
  return *this;
}

std::string GgufWriter::Bytes(std::uint32_t version, std::uint32_t alignment) const {
  GgufWriter copy = *this;
  if (alignment != 32) {
    copy.U32("general.alignment", alignment);
  }
  std::string out = "GGUF";
  Append(out, version);
  Append(out, static_cast<std::uint64_t>(tensors_.size()));
  Append(out, copy.entry_count_);
  out += copy.entries_;
  std::string data;
  for (const Info& tensor : tensors_) {
    Pad(data, alignment);
    AppendString(out, tensor.name);
    Append(out, static_cast<std::uint32_t>(tensor.shape.size()));
    for (auto dim = tensor.shape.rbegin(); dim != tensor.shape.rend(); ++dim) {
      Append(out, *dim);
    }
    Append(out, tensor.type);
    Append(out, static_cast<std::uint64_t>(data.size()));
    data += tensor.bytes;
  }
  Pad(out, alignment);
  return out + data;
}

EncodedTensor EncodeF32(const std::vector<float>& values) {
  return {0, std::string(reinterpret_cast<const char*>(values.data()), values.size() * 4)};
}

EncodedTensor EncodeF16(const std::vector<float>& values) {
  EncodedTensor out{1, {}};
  for (const float value : values) {
    Append(out.bytes, kernels::F16FromFloat(value));
  }
  return out;
}

EncodedTensor EncodeBf16(const std::vector<float>& values) {
  EncodedTensor out{30, {}};
  for (const float value : values) {
    Append(out.bytes, kernels::Bf16FromFloat(value));
  }
  return out;
}

EncodedTensor EncodeQ8(const std::vector<float>& values) {
  EncodedTensor out{8, {}};
  for (std::size_t begin = 0; begin < values.size(); begin += 32) {
    float largest = 0.0F;
    for (std::size_t i = begin; i < begin + 32; ++i) {
      largest = std::max(largest, std::abs(values[i]));
    }
    const std::uint16_t scale = kernels::F16FromFloat(largest / 127.0F);
    const float divisor = kernels::FloatFromF16(scale);
    Append(out.bytes, scale);
    for (std::size_t i = begin; i < begin + 32; ++i) {
      const float code = divisor == 0.0F ? 0.0F : std::round(values[i] / divisor);
      Append(out.bytes, static_cast<std::int8_t>(std::clamp(code, -127.0F, 127.0F)));
    }
  }
  return out;
}

std::vector<float> DecodeQ8(const std::string& bytes) {
  std::vector<float> out;
  for (std::size_t at = 0; at < bytes.size(); at += 34) {
    std::uint16_t scale = 0;
    std::memcpy(&scale, bytes.data() + at, 2);
    for (std::size_t i = 0; i < 32; ++i) {
      out.push_back(static_cast<float>(static_cast<signed char>(bytes[at + 2 + i])) *
                    kernels::FloatFromF16(scale));
    }
  }
  return out;
}

namespace {

std::vector<float> Widen(const WrittenTensor& tensor) {
  std::vector<float> out(tensor.bytes.size() / (tensor.dtype == "F32" ? 4 : 2));
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (tensor.dtype == "F32") {
      std::memcpy(&out[i], tensor.bytes.data() + i * 4, 4);
    } else {
      std::uint16_t bits = 0;
      std::memcpy(&bits, tensor.bytes.data() + i * 2, 2);
      out[i] = kernels::FloatFromBf16(bits);
    }
  }
  return out;
}

/// Rows (0, half), (1, half + 1), … of each head side by side.
std::vector<float> PairRows(const std::vector<float>& values, std::size_t rows, std::size_t head) {
  std::vector<float> out;
  const std::size_t cols = values.size() / rows;
  for (std::size_t begin = 0; begin < rows; begin += head) {
    for (std::size_t i = 0; i < head; ++i) {
      const std::size_t from = begin + i % 2 * (head / 2) + i / 2;
      out.insert(out.end(), values.begin() + static_cast<std::ptrdiff_t>(from * cols),
                 values.begin() + static_cast<std::ptrdiff_t>((from + 1) * cols));
    }
  }
  return out;
}

/// Experts' tensors without their number: "….mlp.experts.up_proj.weight".
std::string WithoutExpert(std::string name) {
  constexpr std::string_view kExperts = ".experts.";
  const std::size_t at = name.find(kExperts);
  if (at != std::string::npos) {
    const std::size_t begin = at + kExperts.size();
    name.erase(begin, name.find('.', begin) + 1 - begin);
  }
  return name;
}

std::string GgmlName(std::string name, bool four_norms) {
  const std::pair<const char*, const char*> renames[] = {
      {"model.embed_tokens.", "token_embd."},
      {"model.norm.", "output_norm."},
      {"lm_head.", "output."},
      {"model.layers.", "blk."},
      {"self_attn.q_proj.", "attn_q."},
      {"self_attn.k_proj.", "attn_k."},
      {"self_attn.v_proj.", "attn_v."},
      {"self_attn.qkv_proj.", "attn_qkv."},
      {"self_attn.o_proj.", "attn_output."},
      {"self_attn.q_norm.", "attn_q_norm."},
      {"self_attn.k_norm.", "attn_k_norm."},
      {"input_layernorm.", "attn_norm."},
      {"post_attention_layernorm.", four_norms ? "post_attention_norm." : "ffn_norm."},
      {"pre_feedforward_layernorm.", "ffn_norm."},
      {"post_feedforward_layernorm.", "post_ffw_norm."},
      {"block_sparse_moe.experts.w1.", "ffn_gate_exps."},
      {"block_sparse_moe.experts.w2.", "ffn_down_exps."},
      {"block_sparse_moe.experts.w3.", "ffn_up_exps."},
      {"block_sparse_moe.gate.", "ffn_gate_inp."},
      {"mlp.experts.gate_proj.", "ffn_gate_exps."},
      {"mlp.experts.up_proj.", "ffn_up_exps."},
      {"mlp.experts.down_proj.", "ffn_down_exps."},
      {"mlp.shared_expert.gate_proj.", "ffn_gate_shexp."},
      {"mlp.shared_expert.up_proj.", "ffn_up_shexp."},
      {"mlp.shared_expert.down_proj.", "ffn_down_shexp."},
      {"mlp.shared_expert_gate.", "ffn_gate_inp_shexp."},
      {"mlp.gate.", "ffn_gate_inp."},
      {"mlp.gate_up_proj.", "ffn_up."},
      {"mlp.gate_proj.", "ffn_gate."},
      {"mlp.up_proj.", "ffn_up."},
      {"mlp.down_proj.", "ffn_down."},
  };
  for (const auto& [from, to] : renames) {
    const std::size_t at = name.find(from);
    if (at != std::string::npos) {
      name.replace(at, std::string_view(from).size(), to);
    }
  }
  return name;
}

std::string GgmlArchitecture(const std::string& model_type) {
  if (model_type == "mistral" || model_type == "mixtral") {
    return "llama";
  }
  std::string out = model_type;
  std::erase(out, '_');
  return out;
}

}  // namespace

GgufWriter GgufOfFolder(const std::string& folder, TensorEncoder encode) {
  GgufWriter out;
  const auto config = wire::ParseJson(pixii::testing::ReadFileOrFail(folder + "/config.json"));
  const std::string arch = GgmlArchitecture(config->Find("model_type")->string());
  const bool gemma = arch.starts_with("gemma");
  const auto size = [&](const char* key) {
    const wire::Json* value = config->Find(key);
    return value == nullptr || value->is_null() ? std::uint32_t{0}
                                                : static_cast<std::uint32_t>(*value->AsInt());
  };
  const std::uint32_t heads = size("num_attention_heads");
  const std::uint32_t head_dim =
      size("head_dim") != 0 ? size("head_dim") : size("hidden_size") / heads;
  out.String("general.architecture", arch)
      .U32(arch + ".block_count", size("num_hidden_layers"))
      .U32(arch + ".embedding_length", size("hidden_size"))
      .U32(arch + ".feed_forward_length", size("intermediate_size"))
      .U32(arch + ".context_length", size("max_position_embeddings"))
      .U32(arch + ".attention.head_count", heads)
      .U32(arch + ".attention.head_count_kv", size("num_key_value_heads"))
      .U32(arch + ".attention.key_length", head_dim)
      .U32(arch + ".attention.value_length", head_dim)
      .U32(arch + ".rope.dimension_count", head_dim)
      .F32(arch + ".attention.layer_norm_rms_epsilon",
           static_cast<float>(*config->Find("rms_norm_eps")->AsDouble()))
      .U32("tokenizer.ggml.eos_token_id", size("eos_token_id"));
  const wire::Json* parameters = config->Find("rope_parameters");
  const wire::Json* theta =
      parameters == nullptr ? config->Find("rope_theta") : parameters->Find("rope_theta");
  if (theta != nullptr) {
    out.F32(arch + ".rope.freq_base", static_cast<float>(*theta->AsDouble()));
  }
  for (const auto& [key, name] :
       {std::pair{"sliding_window", "attention.sliding_window"},
        std::pair{"num_local_experts", "expert_count"}, std::pair{"num_experts", "expert_count"},
        std::pair{"num_experts_per_tok", "expert_used_count"},
        std::pair{"moe_intermediate_size", "expert_feed_forward_length"},
        std::pair{"shared_expert_intermediate_size", "expert_shared_feed_forward_length"}}) {
    if (size(key) != 0) {
      out.U32(arch + "." + name, size(key));
    }
  }
  std::vector<WrittenTensor> tensors;
  for (WrittenTensor& tensor : ReadSafetensors(folder + "/model.safetensors")) {
    const std::string name = WithoutExpert(tensor.name);
    if (name == tensor.name) {
      tensors.push_back(std::move(tensor));
      continue;
    }
    const auto stack = std::find_if(tensors.begin(), tensors.end(),
                                    [&](const WrittenTensor& other) { return other.name == name; });
    if (stack != tensors.end()) {
      ++stack->shape[0];
      stack->bytes += tensor.bytes;
    } else {
      tensor.name = name;
      tensor.shape.insert(tensor.shape.begin(), 1);
      tensors.push_back(std::move(tensor));
    }
  }
  for (WrittenTensor& tensor : tensors) {
    std::vector<float> values = Widen(tensor);
    if (gemma && tensor.name.ends_with("norm.weight")) {
      for (float& value : values) {
        value += 1.0F;
      }
    }
    if (tensor.shape.size() == 2 && tensor.shape[0] == 1) {
      tensor.shape.erase(tensor.shape.begin());  // converters squeeze
    }
    const bool permuted = arch == "llama" && (tensor.name.find("q_proj") != std::string::npos ||
                                              tensor.name.find("k_proj") != std::string::npos);
    if (permuted) {
      values = PairRows(values, static_cast<std::size_t>(tensor.shape[0]), head_dim);
    }
    EncodedTensor encoded = tensor.shape.size() == 1 || tensor.shape.back() % 32 != 0
                                ? EncodeF32(values)
                                : encode(values);
    out.Tensor(GgmlName(tensor.name, gemma), encoded.type, tensor.shape, std::move(encoded.bytes));
  }
  return out;
}

}  // namespace pixii::model::testing
