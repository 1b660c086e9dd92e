#include "model/encoder_spec.h"

#include <algorithm>

namespace pixii::model {
namespace {

using Shape = std::vector<std::int64_t>;

void AddBoth(const std::string& name, const Shape& shape, ParameterKind kind,
             std::vector<ExpectedTensor>& out) {
  out.push_back({.name = name + ".weight", .shape = shape, .kind = kind});
  out.push_back({.name = name + ".bias", .shape = {shape[0]}, .kind = kind});
}

}  // namespace

std::vector<ExpectedTensor> ExpectedTensors(const EncoderSpec& spec) {
  const EncoderNames& names = spec.names;
  const std::int64_t hidden = spec.hidden_size;
  std::vector<ExpectedTensor> out;
  const auto table = [&](const std::string& name, std::int64_t rows) {
    out.push_back(
        {.name = name + ".weight", .shape = {rows, hidden}, .kind = ParameterKind::kEmbedding});
  };
  table(names.word, spec.vocab_size);
  table(names.position, spec.position_count);
  if (spec.token_type_count > 0) {
    table(names.token_type, spec.token_type_count);
  }
  AddBoth(names.embedding_norm, {hidden}, ParameterKind::kNorm, out);
  for (std::size_t layer = 0; layer < static_cast<std::size_t>(spec.layer_count); ++layer) {
    for (const std::string& part : names.qkv) {
      AddBoth(LayerName(part, layer), {hidden, hidden}, ParameterKind::kAttention, out);
    }
    AddBoth(LayerName(names.o, layer), {hidden, hidden}, ParameterKind::kAttention, out);
    AddBoth(LayerName(names.attention_norm, layer), {hidden}, ParameterKind::kNorm, out);
    AddBoth(LayerName(names.up, layer), {spec.intermediate_size, hidden}, ParameterKind::kMlp, out);
    AddBoth(LayerName(names.down, layer), {hidden, spec.intermediate_size}, ParameterKind::kMlp,
            out);
    AddBoth(LayerName(names.output_norm, layer), {hidden}, ParameterKind::kNorm, out);
  }
  if (spec.head.class_count > 0) {
    AddBoth(spec.head.dense, {hidden, hidden}, ParameterKind::kHead, out);
    AddBoth(spec.head.out, {spec.head.class_count, hidden}, ParameterKind::kHead, out);
  }
  return out;
}

void ResolvePrefix(const Checkpoint& checkpoint, EncoderSpec& spec) {
  EncoderNames& names = spec.names;
  const auto fits = [&](const std::string& prefix) {
    return checkpoint.Find(prefix + names.word + ".weight") != nullptr;
  };
  const auto found = std::ranges::find_if(names.prefixes, fits);
  const std::string prefix = found == names.prefixes.end() ? names.prefixes.front() : *found;
  for (std::string* name :
       {&names.word, &names.position, &names.token_type, &names.embedding_norm, &names.o,
        &names.attention_norm, &names.up, &names.down, &names.output_norm}) {
    name->insert(0, prefix);
  }
  for (std::string& name : names.qkv) {
    name.insert(0, prefix);
  }
}

Result<void> CheckTensors(const EncoderSpec& spec, const Checkpoint& checkpoint) {
  return CheckTensors(ExpectedTensors(spec), spec.names.harmless, spec.architecture, checkpoint);
}

}  // namespace pixii::model
