#include "model/diffusion/lora_merger.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>

#include "base/assert.h"
#include "model/config_reader.h"
#include "model/finite.h"
#include "model/quantized_weights.h"
#include "rt/file.h"

namespace pixii::model {
namespace {

constexpr std::uint64_t kAdapterConfigSizeMax = std::uint64_t{4} << 20;  // bytes
constexpr double kScaleMax = 1e4;
constexpr std::string_view kPeftPrefix = "base_model.model.";

enum class Role : std::uint8_t { kDown, kUp, kAlpha };

struct Ending {
  std::string_view text;
  Role role;
};

constexpr std::array kEndings = {Ending{".lora_A.weight", Role::kDown},
                                 Ending{".lora_B.weight", Role::kUp},
                                 Ending{".lora_A.default.weight", Role::kDown},
                                 Ending{".lora_B.default.weight", Role::kUp},
                                 Ending{".lora_down.weight", Role::kDown},
                                 Ending{".lora_up.weight", Role::kUp},
                                 Ending{".lora.down.weight", Role::kDown},
                                 Ending{".lora.up.weight", Role::kUp},
                                 Ending{".alpha", Role::kAlpha}};

struct Renaming {
  std::string_view ours;
  std::string_view original;
};

/// Of Wan's own repository.
constexpr std::array kWanNames = {
    Renaming{".attn1.to_q", ".self_attn.q"},
    Renaming{".attn1.to_k", ".self_attn.k"},
    Renaming{".attn1.to_v", ".self_attn.v"},
    Renaming{".attn1.to_out.0", ".self_attn.o"},
    Renaming{".attn2.to_q", ".cross_attn.q"},
    Renaming{".attn2.to_k", ".cross_attn.k"},
    Renaming{".attn2.to_v", ".cross_attn.v"},
    Renaming{".attn2.to_out.0", ".cross_attn.o"},
    Renaming{".attn2.add_k_proj", ".cross_attn.k_img"},
    Renaming{".attn2.add_v_proj", ".cross_attn.v_img"},
    Renaming{".ffn.net.0.proj", ".ffn.0"},
    Renaming{".ffn.net.2", ".ffn.2"},
    Renaming{"condition_embedder.time_embedder.linear_1", "time_embedding.0"},
    Renaming{"condition_embedder.time_embedder.linear_2", "time_embedding.2"},
    Renaming{"condition_embedder.time_proj", "time_projection.1"},
    Renaming{"condition_embedder.text_embedder.linear_1", "text_embedding.0"},
    Renaming{"condition_embedder.text_embedder.linear_2", "text_embedding.2"},
    Renaming{"condition_embedder.image_embedder.ff.net.0.proj", "img_emb.proj.1"},
    Renaming{"condition_embedder.image_embedder.ff.net.2", "img_emb.proj.3"}};

std::string OriginalName(std::string_view name) {
  for (const Renaming& renaming : kWanNames) {
    if (name.ends_with(renaming.ours)) {
      return std::string(name.substr(0, name.size() - renaming.ours.size())) +
             std::string(renaming.original);
    }
  }
  return std::string(name);
}

/// What files call linear `name` of `part`.
std::vector<std::string> NamesOf(std::string_view part, std::string_view name) {
  std::vector<std::string> out = {fmt::format("{}.{}", part, name)};
  if (part != "transformer") {
    return out;
  }
  std::vector<std::string> known = {std::string(name)};
  if (std::string original = OriginalName(name); original != name) {
    known.push_back(std::move(original));
  }
  for (const std::string& own : known) {
    std::string flat = own;
    std::replace(flat.begin(), flat.end(), '.', '_');
    out.push_back(own);
    out.push_back("diffusion_model." + own);
    out.push_back("lora_unet_" + flat);
    out.push_back("lora_transformer_" + flat);
  }
  return out;
}

/// lora_alpha of what PEFT and diffusers write beside the tensors.
struct Written {
  double alpha = 0.0;
  bool by_root = false;
};

Result<Written> ReadWritten(const ConfigReader& reader, std::string_view prefix) {
  const auto key = [&](std::string_view name) { return std::string(prefix) + std::string(name); };
  Written out;
  PX_TRY(out.alpha, reader.Number(key("lora_alpha"), {0.0, 1e6}, 0.0));
  PX_TRY(out.by_root, reader.Bool(key("use_rslora"), false));
  PX_TRY(const bool dora, reader.Bool(key("use_dora"), false));
  if (dora) {
    return reader.Unsupported(key("use_dora"), "must be false");
  }
  for (const char* name : {"alpha_pattern", "rank_pattern"}) {
    const wire::Json* pattern = reader.Find(key(name));
    // Ranks are those of the tensors, whatever stands here.
    const bool matters = std::string_view(name) == "alpha_pattern" && pattern != nullptr &&
                         pattern->is_object() && !pattern->object().empty();
    if (matters) {
      return reader.Unsupported(key(name), "must be empty");
    }
  }
  return out;
}

}  // namespace

Result<LoraFile> ParseLoraFile(std::string_view text) {
  LoraFile out{.path = std::string(text)};
  const std::size_t sign = text.rfind('=');
  if (sign != std::string_view::npos) {
    const std::string_view number = text.substr(sign + 1);
    out.path = std::string(text.substr(0, sign));
    const auto [end, problem] =
        std::from_chars(number.data(), number.data() + number.size(), out.scale);
    if (problem != std::errc() || end != number.data() + number.size() ||
        !(std::abs(out.scale) <= kScaleMax)) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("lora: \"{}\" is not FILE or FILE=SCALE with a scale of {} to {}",
                              text, -kScaleMax, kScaleMax),
                  "lora");
    }
  }
  if (out.path.empty()) {
    return Fail(Code::kInvalidArgument, fmt::format("lora: \"{}\" names no file", text), "lora");
  }
  return out;
}

Result<LoraMerger> LoraMerger::Open(std::span<const LoraFile> files) {
  if (files.size() > kLoraFilesMax) {
    return Fail(Code::kInvalidArgument,
                fmt::format("lora: {} files, at most {} are merged", files.size(), kLoraFilesMax),
                "lora");
  }
  LoraMerger out;
  out.files_.reserve(files.size());
  for (const LoraFile& file : files) {
    PX_CHECK_OK(out.AddFile(file));
  }
  PX_CHECK_OK(out.CheckPairs());
  return out;
}

Result<void> LoraMerger::AddFile(const LoraFile& file) {
  PX_TRY(const auto info, rt::StatFile(file.path));
  if (!info) {
    return Fail(Code::kNotFound, fmt::format("lora: {} does not exist", file.path), "lora");
  }
  const bool is_folder = info->kind == rt::FileKind::kFolder;
  const std::size_t slash = file.path.rfind('/');
  const bool has_parent = slash != std::string::npos;
  std::string name = is_folder ? "" : file.path.substr(has_parent ? slash + 1 : 0);
  PX_TRY(const CheckpointFolder folder,
         CheckpointFolder::Open(is_folder    ? file.path
                                : has_parent ? file.path.substr(0, slash + 1)
                                             : "."));
  for (const char* known : {"pytorch_lora_weights.safetensors", "adapter_model.safetensors"}) {
    name = name.empty() && folder.Has(known) ? known : name;
  }
  if (name.empty()) {
    return Fail(Code::kNotFound,
                fmt::format("lora: {} has neither adapter_model.safetensors nor "
                            "pytorch_lora_weights.safetensors",
                            file.path),
                "lora");
  }
  File& added = files_.emplace_back();
  added.path = is_folder ? file.path + "/" + name : file.path;
  added.scale = file.scale;
  PX_TRY(added.tensors, Checkpoint::OpenFile(folder, name));
  Written written;
  if (is_folder && folder.Has("adapter_config.json")) {
    PX_TRY(const std::string text, folder.ReadText("adapter_config.json", kAdapterConfigSizeMax));
    PX_TRY(const wire::Json json, ParseConfigJson(text, file.path + "/adapter_config.json"));
    PX_TRY(written, ReadWritten(ConfigReader(json, file.path + "/adapter_config.json"), ""));
  }
  PX_TRY(const rt::FileMap map, folder.Map(name));
  PX_TRY(const SafetensorsHeader header,
         ParseSafetensorsHeader(map.bytes(), map.bytes().size(), added.path));
  for (const auto& [key, value] : header.metadata) {
    if (key == "lora_adapter_metadata") {
      PX_TRY(const wire::Json json, ParseConfigJson(value, added.path + ": " + key));
      PX_TRY(written, ReadWritten(ConfigReader(json, added.path + ": " + key), "transformer."));
    }
  }
  added.alpha = written.alpha;
  added.by_root = written.by_root;
  for (const CheckpointTensor& tensor : added.tensors.tensors()) {
    PX_CHECK_OK(AddTensor(files_.size() - 1, tensor));
  }
  return {};
}

Result<void> LoraMerger::AddTensor(std::size_t file, const CheckpointTensor& tensor) {
  std::string_view name = tensor.stored.name;
  if (name.starts_with(kPeftPrefix)) {
    name.remove_prefix(kPeftPrefix.size());
  }
  const auto ending = std::find_if(kEndings.begin(), kEndings.end(), [&](const Ending& candidate) {
    return name.ends_with(candidate.text);
  });
  if (ending == kEndings.end() || !AsWeightType(tensor.stored.type)) {
    return Fail(Code::kUnsupported,
                fmt::format("lora: {} is no half of a low-rank pair in F32, F16 or BF16",
                            files_[file].tensors.Place(tensor)),
                tensor.stored.name);
  }
  std::vector<Pair>& pairs = pairs_[std::string(name.substr(0, name.size() - ending->text.size()))];
  if (pairs.empty() || pairs.back().file != file) {
    pairs.push_back({.file = file});
  }
  Pair& pair = pairs.back();
  if (ending->role == Role::kAlpha) {
    PX_TRY(const std::vector<float> values, Values(files_[file], tensor));
    if (values.size() != 1) {
      return Fail(Code::kDataCorrupt,
                  fmt::format("lora: {} is not one number", files_[file].tensors.Place(tensor)),
                  tensor.stored.name);
    }
    pair.alpha = values[0];
    pair.has_alpha = true;
    return {};
  }
  (ending->role == Role::kDown ? pair.down : pair.up) = &tensor;
  return {};
}

Result<void> LoraMerger::CheckPairs() const {
  for (const auto& [name, pairs] : pairs_) {
    for (const Pair& pair : pairs) {
      if (pair.down == nullptr || pair.up == nullptr) {
        return Fail(
            Code::kDataCorrupt,
            fmt::format("lora: {}: {} has half a low-rank pair only", files_[pair.file].path, name),
            name);
      }
    }
  }
  return {};
}

Result<std::vector<float>> LoraMerger::Values(const File& file,
                                              const CheckpointTensor& tensor) const {
  PX_CHECK_OK(CheckFinite(file.tensors, tensor, tensor.bytes));
  std::vector<float> out(tensor.bytes.size() / StoredTypeSize(tensor.stored.type));
  WidenTo(tensor, out);
  return out;
}

bool LoraMerger::Changes(std::string_view part, std::string_view name) const {
  const std::vector<std::string> names = NamesOf(part, name);
  return std::any_of(names.begin(), names.end(),
                     [&](const std::string& known) { return pairs_.contains(known); });
}

Result<void> LoraMerger::Merge(std::string_view part, std::string_view name, const Shape& shape,
                               std::span<float> values) {
  PX_ASSERT(std::ssize(values) == shape.rows * shape.cols);
  for (const std::string& known : NamesOf(part, name)) {
    const auto found = pairs_.find(known);
    if (found == pairs_.end()) {
      continue;
    }
    for (Pair& pair : found->second) {
      const File& file = files_[pair.file];
      const std::vector<std::int64_t>& down_shape = pair.down->stored.shape;
      const std::int64_t rank = down_shape.empty() ? 0 : down_shape[0];
      const auto fits = [&](const CheckpointTensor& tensor,
                            const std::vector<std::int64_t>& wanted) -> Result<void> {
        if (rank < 1 || rank > kMergedRankMax || tensor.stored.shape != wanted) {
          return Fail(Code::kDataCorrupt,
                      fmt::format("lora: {} has shape [{}], {} of {} asks for [{}], rank 1 to {}",
                                  file.tensors.Place(tensor), fmt::join(tensor.stored.shape, ", "),
                                  name, part, fmt::join(wanted, ", "), kMergedRankMax),
                      tensor.stored.name);
        }
        return {};
      };
      PX_CHECK_OK(fits(*pair.down, {rank, shape.cols}));
      PX_CHECK_OK(fits(*pair.up, {shape.rows, rank}));
      PX_TRY(const std::vector<float> down, Values(file, *pair.down));
      PX_TRY(const std::vector<float> up, Values(file, *pair.up));
      const double alpha = pair.has_alpha     ? double{pair.alpha}
                           : file.alpha > 0.0 ? file.alpha
                                              : static_cast<double>(rank);
      const double divisor = file.by_root ? std::sqrt(rank) : static_cast<double>(rank);
      const auto scale = static_cast<float>(file.scale * alpha / divisor);
      std::vector<float> row(static_cast<std::size_t>(shape.cols));
      for (std::int64_t r = 0; r < shape.rows; ++r) {
        std::fill(row.begin(), row.end(), 0.0F);
        for (std::int64_t k = 0; k < rank; ++k) {
          const float factor = up[static_cast<std::size_t>(r * rank + k)];
          const float* from = down.data() + k * shape.cols;
          for (std::size_t c = 0; c < row.size(); ++c) {
            row[c] += factor * from[c];
          }
        }
        float* to = values.data() + r * shape.cols;
        for (std::size_t c = 0; c < row.size(); ++c) {
          to[c] += scale * row[c];
        }
      }
      pair.used = true;
    }
  }
  return {};
}

Result<void> LoraMerger::CheckAllUsed() const {
  for (const auto& [name, pairs] : pairs_) {
    for (const Pair& pair : pairs) {
      if (!pair.used) {
        return Fail(Code::kUnsupported,
                    fmt::format("lora: {}: {} is no linear of this model that adapters change",
                                files_[pair.file].path, pair.down->stored.name),
                    pair.down->stored.name);
      }
    }
  }
  return {};
}

}  // namespace pixii::model
