#include "model/vision_spec.h"

#include <fmt/format.h>

#include <algorithm>

namespace pixii::model {
namespace {

std::string ChoosePrefix(const Checkpoint& checkpoint, const std::vector<std::string>& prefixes,
                         const std::string& name) {
  const auto found = std::ranges::find_if(prefixes, [&](const std::string& prefix) {
    return checkpoint.Find(prefix + name) != nullptr;
  });
  return found == prefixes.end() ? prefixes.front() : *found;
}

void Prefix(const std::string& prefix, std::string& name) {
  if (!name.empty()) {
    name.insert(0, prefix);
  }
}

class TensorList final {
 public:
  explicit TensorList(const VisionSpec& spec) : spec_(spec) {}

  void Add(std::string name, std::vector<std::int64_t> shape, ParameterKind kind) {
    tensors_.push_back({.name = std::move(name), .shape = std::move(shape), .kind = kind});
  }

  void AddLinear(const std::string& name, std::int64_t rows, std::int64_t cols, bool bias,
                 ParameterKind kind) {
    Add(name + ".weight", {rows, cols}, kind);
    if (bias) {
      Add(name + ".bias", {rows}, kind);
    }
  }

  void AddNorm(const std::string& name, std::int64_t size) {
    if (name.empty()) {
      return;
    }
    Add(name + ".weight", {size}, ParameterKind::kNorm);
    if (!spec_.rms_norm) {
      Add(name + ".bias", {size}, ParameterKind::kNorm);
    }
  }

  void AddBlock(std::size_t block) {
    const VisionNames& names = spec_.names;
    const std::int64_t hidden = spec_.hidden_size;
    AddNorm(LayerName(names.attention_norm, block), hidden);
    const auto parts = static_cast<std::int64_t>(names.qkv.size());
    for (const std::string& part : names.qkv) {
      AddLinear(LayerName(part, block), 3 * hidden / parts, hidden, true,
                ParameterKind::kAttention);
    }
    AddLinear(LayerName(names.attention_out, block), hidden, hidden, true,
              ParameterKind::kAttention);
    AddNorm(LayerName(names.feed_forward_norm, block), hidden);
    for (const std::string& part : names.up) {
      AddLinear(LayerName(part, block), spec_.intermediate_size, hidden, true, ParameterKind::kMlp);
    }
    AddLinear(LayerName(names.down, block), hidden, spec_.intermediate_size, true,
              ParameterKind::kMlp);
  }

  void AddProjector(const ProjectorNames& names, std::size_t level, std::int64_t norm_size,
                    std::int64_t in) {
    if (spec_.projector == ProjectorKind::kMeans) {
      Add(names.norm, {norm_size}, ParameterKind::kNorm);
      Add(names.out, {norm_size, spec_.out_size}, ParameterKind::kHead);
      return;
    }
    if (names.in.empty()) {
      return;
    }
    AddNorm(LayerName(names.norm, level), norm_size);
    AddLinear(LayerName(names.in, level), spec_.projector_size, in, spec_.projector_bias,
              ParameterKind::kHead);
    AddLinear(LayerName(names.out, level), spec_.out_size, spec_.projector_size,
              spec_.projector_bias, ParameterKind::kHead);
  }

  std::vector<ExpectedTensor> Take() { return std::move(tensors_); }

 private:
  const VisionSpec& spec_;
  std::vector<ExpectedTensor> tensors_;
};

}  // namespace

Result<void> CheckGrid(const VisionSpec& spec, const PatchGrid& grid) {
  const auto bad = [&](std::string_view side, std::int64_t value, std::string_view what) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{} patches of a picture's {} {}", value, side, what), "patches");
  };
  for (const auto& [side, value] :
       {std::pair{"rows", grid.rows}, std::pair{"columns", grid.cols}}) {
    if (value < 1 || value > kImageSideMax) {
      return bad(side, value, fmt::format("are not in 1 to {}", kImageSideMax));
    }
    if (value % spec.merge_size != 0) {
      return bad(side, value, fmt::format("are no multiple of {}", spec.merge_size));
    }
    if (spec.image_size > 0 && value != spec.image_size / spec.patch_size) {
      return bad(
          side, value,
          fmt::format("are not the {} of the tower's pictures", spec.image_size / spec.patch_size));
    }
  }
  if (grid.frames < 1 || grid.frames > kMediaTokensMax) {
    return bad("frames", grid.frames, fmt::format("are not in 1 to {}", kMediaTokensMax));
  }
  return {};
}

std::vector<ExpectedTensor> ExpectedTensors(const VisionSpec& spec) {
  const VisionNames& names = spec.names;
  const std::int64_t hidden = spec.hidden_size;
  TensorList list(spec);
  list.AddLinear(names.patch, hidden, spec.patch_values(), spec.patch_bias,
                 ParameterKind::kEmbedding);
  if (spec.has_class_token()) {
    list.Add(names.class_token, {hidden}, ParameterKind::kEmbedding);
  }
  if (!names.positions.empty()) {
    list.Add(names.positions + ".weight", {spec.position_count, hidden}, ParameterKind::kEmbedding);
  }
  list.AddNorm(names.entry_norm, hidden);
  for (std::int32_t block = 0; block < spec.depth(); ++block) {
    list.AddBlock(static_cast<std::size_t>(block));
  }
  list.AddNorm(names.exit_norm, hidden);
  const std::int64_t merged = std::int64_t{spec.merge_size} * spec.merge_size;
  list.AddProjector(names.projector, 0, hidden, spec.feature_size() * merged);
  for (std::size_t level = 0; level < spec.deepstack_layers.size(); ++level) {
    list.AddProjector(names.deepstack, level, hidden * merged, hidden * merged);
  }
  if (!names.newline.empty()) {
    list.Add(names.newline, {spec.out_size}, ParameterKind::kEmbedding);
  }
  return list.Take();
}

void ResolveVisionNames(const Checkpoint& checkpoint, VisionSpec& spec) {
  VisionNames& names = spec.names;
  const std::string tower = ChoosePrefix(checkpoint, names.tower_prefixes, names.patch + ".weight");
  const std::string projector =
      names.projector_prefixes.empty()
          ? tower
          : ChoosePrefix(checkpoint, names.projector_prefixes,
                         spec.projector == ProjectorKind::kMeans ? names.projector.out
                                                                 : names.projector.in + ".weight");
  for (std::string* name :
       {&names.patch, &names.class_token, &names.positions, &names.entry_norm, &names.exit_norm,
        &names.attention_norm, &names.attention_out, &names.feed_forward_norm, &names.down}) {
    Prefix(tower, *name);
  }
  for (std::vector<std::string>* list : {&names.qkv, &names.up, &names.harmless}) {
    for (std::string& name : *list) {
      Prefix(tower, name);
    }
  }
  for (ProjectorNames* part : {&names.projector, &names.deepstack}) {
    for (std::string* name : {&part->norm, &part->in, &part->out}) {
      Prefix(projector, *name);
    }
  }
  Prefix(projector, names.newline);
}

}  // namespace pixii::model
