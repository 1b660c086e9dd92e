// Which tensors a DecoderSpec asks of a checkpoint.
#include <utility>

#include "model/feed_forward.h"
#include "model/weights.h"

namespace pixii::model {
namespace {

class TensorList final {
 public:
  explicit TensorList(const DecoderSpec& spec) : spec_(spec) {}

  void AddLayer(std::size_t layer) {
    layer_ = layer;
    const WeightNames& names = spec_.names;
    if (spec_.layers[layer].input_norm) {
      AddNorm(names.input_norm, spec_.hidden_size);
    }
    if (spec_.is_latent()) {
      AddLatent(spec_.latent);
    } else {
      AddLinear(names.qkv, {spec_.q_size(), spec_.kv_size(), spec_.kv_size()}, spec_.hidden_size,
                ParameterKind::kAttention);
      AddNorm(names.q_norm, spec_.head_dim);
      AddNorm(names.k_norm, spec_.head_dim);
      if (!names.sinks.empty()) {
        Add(LayerName(names.sinks, layer), {spec_.head_count}, ParameterKind::kAttention);
      }
    }
    AddLinear(names.o, {spec_.hidden_size}, spec_.attention_size(), ParameterKind::kAttention);
    AddNorm(names.attention_out_norm, spec_.hidden_size);
    AddNorm(names.post_attention_norm, spec_.hidden_size);
    if (spec_.layers[layer].experts) {
      AddExperts(spec_.experts);
    } else {
      AddGated(names.gate_up, names.down, spec_.intermediate_size);
    }
    AddNorm(names.feed_forward_out_norm, spec_.hidden_size);
  }

  void AddFusion(const FusionSpec& fusion) {
    AddNorm(fusion.embed_norm, spec_.hidden_size);
    AddNorm(fusion.hidden_norm, spec_.hidden_size);
    AddLinear(fusion.project, {spec_.hidden_size}, std::int64_t{2} * spec_.hidden_size,
              ParameterKind::kMlp);
  }

  void Add(std::string name, std::vector<std::int64_t> shape, ParameterKind kind,
           bool transposed = false) {
    tensors_.push_back({std::move(name), std::move(shape), kind, transposed});
  }

  std::vector<ExpectedTensor> Take() { return std::move(tensors_); }

 private:
  void AddNorm(const std::string& pattern, std::int64_t size) {
    if (!pattern.empty()) {
      Add(LayerName(pattern, layer_) + ".weight", {size}, ParameterKind::kNorm);
    }
  }

  void AddLinear(const LinearNames& names, const std::vector<std::int64_t>& sizes,
                 std::int64_t cols, ParameterKind kind) {
    const std::vector<std::int64_t> rows = PartRows(names, sizes);
    for (std::size_t part = 0; part < rows.size(); ++part) {
      const std::string name = LayerName(names.parts[part], layer_);
      Add(name + ".weight", {rows[part], cols}, kind);
      if (names.bias) {
        Add(name + ".bias", {rows[part]}, kind);
      }
    }
  }

  void AddGated(const LinearNames& gate_up, const LinearNames& down, std::int64_t features) {
    AddLinear(gate_up, {features, features}, spec_.hidden_size, ParameterKind::kMlp);
    AddLinear(down, {spec_.hidden_size}, features, ParameterKind::kMlp);
  }

  void AddLatent(const LatentSpec& latent) {
    const std::int64_t heads = spec_.head_count;
    std::int64_t q_cols = spec_.hidden_size;
    if (latent.q_rank > 0) {
      AddLinear(latent.q_a, {latent.q_rank}, q_cols, ParameterKind::kAttention);
      AddNorm(latent.q_a_norm, latent.q_rank);
      q_cols = latent.q_rank;
    }
    AddLinear(latent.q_b, {heads * (latent.nope_dim + latent.rope_dim)}, q_cols,
              ParameterKind::kAttention);
    AddLinear(latent.kv_a, {spec_.key_dim()}, spec_.hidden_size, ParameterKind::kAttention);
    AddNorm(latent.kv_a_norm, latent.kv_rank);
    Add(LayerName(latent.kv_b, layer_) + ".weight",
        {heads * (latent.nope_dim + latent.value_dim), latent.kv_rank}, ParameterKind::kAttention);
  }

  void AddExperts(const ExpertsSpec& experts) {
    const std::int64_t hidden = spec_.hidden_size;
    const std::int64_t features = experts.intermediate_size;
    AddLinear({{experts.router}, experts.router_bias}, {experts.count}, hidden,
              ParameterKind::kMlp);
    if (!experts.correction.empty()) {
      Add(LayerName(experts.correction, layer_), {experts.count}, ParameterKind::kMlp);
    }
    if (!experts.stacked_gate_up.empty()) {
      const std::string gate_up = LayerName(experts.stacked_gate_up, layer_);
      const std::string down = LayerName(experts.stacked_down, layer_);
      Add(gate_up, {experts.count, 2 * features, hidden}, ParameterKind::kMlp, true);
      Add(gate_up + "_bias", {experts.count, 2 * features}, ParameterKind::kMlp);
      Add(down, {experts.count, hidden, features}, ParameterKind::kMlp, true);
      Add(down + "_bias", {experts.count, hidden}, ParameterKind::kMlp);
      return;
    }
    for (std::int32_t expert = 0; expert < experts.count; ++expert) {
      for (const std::string* name : {&experts.gate, &experts.up}) {
        Add(ExpertName(*name, layer_, expert) + ".weight", {features, hidden}, ParameterKind::kMlp);
      }
      Add(ExpertName(experts.down, layer_, expert) + ".weight", {hidden, features},
          ParameterKind::kMlp);
    }
    if (experts.shared_intermediate_size > 0) {
      AddGated(experts.shared_gate_up, experts.shared_down, experts.shared_intermediate_size);
      if (!experts.shared_gate.empty()) {
        AddLinear({{experts.shared_gate}}, {1}, hidden, ParameterKind::kMlp);
      }
    }
  }

  const DecoderSpec& spec_;
  std::size_t layer_ = 0;
  std::vector<ExpectedTensor> tensors_;
};

}  // namespace

void ForEachName(DecoderSpec& spec, const std::function<void(std::string&)>& visit) {
  WeightNames& names = spec.names;
  ExpertsSpec& experts = spec.experts;
  LatentSpec& latent = spec.latent;
  for (std::string* name : {&names.embed,
                            &names.final_norm,
                            &names.head,
                            &names.input_norm,
                            &names.sinks,
                            &names.post_attention_norm,
                            &names.q_norm,
                            &names.attention_out_norm,
                            &names.k_norm,
                            &names.feed_forward_out_norm,
                            &experts.router,
                            &experts.correction,
                            &experts.gate,
                            &experts.up,
                            &experts.down,
                            &experts.stacked_gate_up,
                            &experts.stacked_down,
                            &experts.shared_gate,
                            &latent.q_a_norm,
                            &latent.kv_a_norm,
                            &latent.kv_b,
                            &spec.fusion.embed_norm,
                            &spec.fusion.hidden_norm}) {
    visit(*name);
  }
  for (LinearNames* linear :
       {&names.qkv, &names.o, &names.gate_up, &names.down, &experts.shared_gate_up,
        &experts.shared_down, &latent.q_a, &latent.q_b, &latent.kv_a, &spec.fusion.project}) {
    for (std::string& part : linear->parts) {
      visit(part);
    }
  }
  for (std::string& pattern : names.harmless) {
    visit(pattern);
  }
}

std::vector<ExpectedTensor> ExpectedTensors(const DecoderSpec& spec) {
  TensorList list(spec);
  list.Add(spec.names.embed + ".weight", {spec.vocab_size, spec.hidden_size},
           ParameterKind::kEmbedding);
  if (spec.is_draft_head()) {
    list.AddFusion(spec.fusion);
  }
  for (std::size_t layer = 0; layer < spec.layers.size(); ++layer) {
    list.AddLayer(layer);
  }
  if (!spec.names.final_norm.empty()) {
    list.Add(spec.names.final_norm + ".weight", {spec.hidden_size}, ParameterKind::kNorm);
  }
  const bool tied = spec.tied_head && spec.head == HeadKind::kVocab;
  if (!tied && spec.head != HeadKind::kNone) {
    list.Add(spec.names.head + ".weight", {spec.row_size(), spec.hidden_size},
             ParameterKind::kHead);
  }
  return list.Take();
}

}  // namespace pixii::model
