#include "model/golden_file.h"

#include <fmt/format.h>

#include <cstring>

#include "wire/json.h"

namespace pixii::model {
namespace {

constexpr std::string_view kJsonName = "golden.json";
constexpr std::int32_t kTokenTypesMax = 1 << 8;  // types a prompt may name
constexpr std::int64_t kPositionMax = 1 << 24;
constexpr std::string_view kTensorsName = "golden.safetensors";

tl::unexpected<Error> Bad(std::string_view key, std::string_view what) {
  return Fail(Code::kDataCorrupt, fmt::format("{}: {} {}", kJsonName, key, what), std::string(key));
}

/// Token ids below `vocab_size`.
Result<std::vector<std::int32_t>> ReadTokens(const wire::Json* json, std::string_view key,
                                             std::int32_t vocab_size) {
  if (json == nullptr || !json->is_array()) {
    return Bad(key, "is not a list of token ids");
  }
  std::vector<std::int32_t> out;
  for (const wire::Json& item : json->array()) {
    const auto id = item.is_number() ? item.AsInt() : std::nullopt;
    if (!id || *id < 0 || *id >= vocab_size) {
      return Bad(key,
                 fmt::format("holds {}, which is no token id below {}", item.Dump(), vocab_size));
    }
    out.push_back(static_cast<std::int32_t>(*id));
  }
  return out;
}

Result<std::span<const float>> ReadFloats(const CheckpointTensor& tensor, std::int64_t cols) {
  const StoredTensor& stored = tensor.stored;
  const bool matches = stored.type == StoredType::kF32 && stored.shape.size() == 2 &&
                       stored.shape[1] == cols &&
                       reinterpret_cast<std::uintptr_t>(tensor.bytes.data()) % alignof(float) == 0;
  if (!matches) {
    return Fail(Code::kDataCorrupt,
                fmt::format("{}: offset {}: {} is not an aligned F32 matrix of {} columns",
                            kTensorsName, stored.file_offset, stored.name, cols),
                stored.name);
  }
  return std::span(reinterpret_cast<const float*>(tensor.bytes.data()),
                   tensor.bytes.size() / sizeof(float));
}

Result<void> AddLogits(const std::string& name, const std::string& tensor_name,
                       std::vector<std::int32_t> prompt, const GoldenSizes& sizes, Golden& golden) {
  const CheckpointTensor* tensor = golden.tensors.Find(tensor_name);
  if (tensor == nullptr) {
    return Bad(name, fmt::format("has no tensor {} in {}", tensor_name, kTensorsName));
  }
  LogitsGolden entry;
  entry.name = name;
  PX_TRY(entry.logits, ReadFloats(*tensor, sizes.result_size));
  if (prompt.empty() || entry.logits.empty() ||
      entry.logits.size() > prompt.size() * static_cast<std::size_t>(sizes.result_size)) {
    return Bad(name, "has more rows of logits than tokens, or none");
  }
  for (std::size_t layer = 0;; ++layer) {
    const CheckpointTensor* hidden = golden.tensors.Find(fmt::format("{}.hidden.{}", name, layer));
    if (hidden == nullptr) {
      break;
    }
    PX_TRY(const auto values, ReadFloats(*hidden, sizes.hidden_size));
    if (values.size() != prompt.size() * static_cast<std::size_t>(sizes.hidden_size)) {
      return Bad(name, fmt::format("has another count of tokens than {}", hidden->stored.name));
    }
    entry.hidden.push_back(values);
  }
  entry.prompt = std::move(prompt);
  golden.logits.push_back(std::move(entry));
  return {};
}

/// {"prompts": {name: ids}, "greedy.NAME": ids, "greedy.NAME.margins": numbers}.
Result<void> ReadNamedPrompts(const wire::Json& json, const GoldenSizes& sizes, Golden& golden) {
  const wire::Json* prompts = json.Find("prompts");
  if (prompts == nullptr || !prompts->is_object()) {
    return Bad("prompts", "is not an object");
  }
  for (const auto& [name, ids] : prompts->object()) {
    PX_TRY(const auto prompt, ReadTokens(&ids, name, sizes.vocab_size));
    PX_CHECK_OK(AddLogits(name, fmt::format("{}.{}", name, sizes.result), prompt, sizes, golden));
    if (const wire::Json* all_types = json.Find("token_types"); all_types != nullptr) {
      PX_TRY(golden.logits.back().token_types,
             ReadTokens(all_types->Find(name), "token_types", kTokenTypesMax));
      if (golden.logits.back().token_types.size() != prompt.size()) {
        return Bad("token_types", fmt::format("of {} has another length than the prompt", name));
      }
    }
    const std::string key = "greedy." + name;
    if (json.Find(key) == nullptr) {
      continue;
    }
    GreedyGolden greedy = {.name = key, .prompt = prompt, .tokens = {}, .margins = {}};
    PX_TRY(greedy.tokens, ReadTokens(json.Find(key), key, sizes.vocab_size));
    if (const wire::Json* margins = json.Find(key + ".margins");
        margins != nullptr && margins->is_array()) {
      for (const wire::Json& margin : margins->array()) {
        greedy.margins.push_back(margin.AsDouble().value_or(0.0));
      }
      if (greedy.margins.size() != greedy.tokens.size()) {
        return Bad(key + ".margins", "has another length than the tokens");
      }
    }
    golden.greedy.push_back(std::move(greedy));
  }
  return {};
}

/// [{"prompt_ids": ids, "greedy_ids": ids}]; tensors "ids" and "logits" belong to the first entry.
Result<void> ReadStories(const wire::Json& json, const GoldenSizes& sizes, Golden& golden) {
  for (const wire::Json& story : json.array()) {
    GreedyGolden greedy;
    greedy.name = fmt::format("greedy.{}", golden.greedy.size());
    PX_TRY(greedy.prompt, ReadTokens(story.Find("prompt_ids"), "prompt_ids", sizes.vocab_size));
    PX_TRY(greedy.tokens, ReadTokens(story.Find("greedy_ids"), "greedy_ids", sizes.vocab_size));
    golden.greedy.push_back(std::move(greedy));
  }
  const CheckpointTensor* ids = golden.tensors.Find("ids");
  if (ids == nullptr || ids->stored.type != StoredType::kI64) {
    return Bad("ids", fmt::format("is no I64 tensor of {}", kTensorsName));
  }
  std::vector<std::int32_t> prompt;
  for (std::size_t at = 0; at < ids->bytes.size(); at += sizeof(std::int64_t)) {
    std::int64_t id = 0;
    std::memcpy(&id, ids->bytes.data() + at, sizeof(id));
    if (id < 0 || id >= sizes.vocab_size) {
      return Bad("ids",
                 fmt::format("holds {}, which is no token id below {}", id, sizes.vocab_size));
    }
    prompt.push_back(static_cast<std::int32_t>(id));
  }
  return AddLogits("first", "logits", std::move(prompt), sizes, golden);
}

/// The values of a tensor of any shape.
Result<std::span<const float>> ReadAll(const Golden& golden, const std::string& name) {
  const CheckpointTensor* tensor = golden.tensors.Find(name);
  if (tensor == nullptr || tensor->stored.type != StoredType::kF32 ||
      reinterpret_cast<std::uintptr_t>(tensor->bytes.data()) % alignof(float) != 0) {
    return Bad(name, fmt::format("is no aligned F32 tensor of {}", kTensorsName));
  }
  return std::span(reinterpret_cast<const float*>(tensor->bytes.data()),
                   tensor->bytes.size() / sizeof(float));
}

/// Small integers of a tensor of any shape; empty where there is none.
Result<std::vector<std::int32_t>> ReadIntegers(const Golden& golden, const std::string& name) {
  std::vector<std::int32_t> out;
  const CheckpointTensor* tensor = golden.tensors.Find(name);
  if (tensor == nullptr) {
    return out;
  }
  if (tensor->stored.type != StoredType::kI64) {
    return Bad(name, fmt::format("is no I64 tensor of {}", kTensorsName));
  }
  for (std::size_t at = 0; at < tensor->bytes.size(); at += sizeof(std::int64_t)) {
    std::int64_t value = 0;
    std::memcpy(&value, tensor->bytes.data() + at, sizeof(value));
    if (value < 0 || value > kPositionMax) {
      return Bad(name, fmt::format("holds {}, which is not in 0 to {}", value, kPositionMax));
    }
    out.push_back(static_cast<std::int32_t>(value));
  }
  return out;
}

Result<VisionGolden> ReadVision(const Golden& golden, const std::string& name,
                                const wire::Json& images, std::size_t tokens) {
  VisionGolden out;
  for (const wire::Json& image : images.array()) {
    if (!image.is_string()) {
      return Bad(name, "has images that are no names of files");
    }
    out.images.push_back(image.string());
  }
  PX_TRY(out.pixels, ReadAll(golden, name + ".pixel_values"));
  PX_TRY(out.features, ReadAll(golden, name + ".embeddings"));
  PX_TRY(out.grids, ReadIntegers(golden, name + ".grid"));
  if (!out.grids.empty() && out.grids.size() != 3 * out.images.size()) {
    return Bad(name, "does not have one grid for each image");
  }
  PX_TRY(const auto rows, ReadIntegers(golden, name + ".mrope"));
  if (!rows.empty() && rows.size() != 3 * tokens) {
    return Bad(name, "does not have three positions for each token");
  }
  for (std::size_t i = 0; i < rows.size(); ++i) {
    out.positions.push_back(rows[i % 3 * tokens + i / 3]);
  }
  return out;
}

/// {"cases": {name: {"input_ids": ids, "images": names}}}, of vision-language models.
Result<void> ReadCases(const wire::Json& cases, const GoldenSizes& sizes, Golden& golden) {
  if (!cases.is_object()) {
    return Bad("cases", "is not an object");
  }
  for (const auto& [name, entry] : cases.object()) {
    PX_TRY(const auto prompt, ReadTokens(entry.Find("input_ids"), name, sizes.vocab_size));
    PX_CHECK_OK(AddLogits(name, fmt::format("{}.{}", name, sizes.result), prompt, sizes, golden));
    const wire::Json* images = entry.Find("images");
    if (images != nullptr && images->is_array() && !images->array().empty()) {
      PX_TRY(golden.logits.back().vision, ReadVision(golden, name, *images, prompt.size()));
    }
  }
  return {};
}

}  // namespace

Result<Golden> LoadGolden(const CheckpointFolder& folder, const GoldenSizes& sizes) {
  Golden golden;
  PX_TRY(const std::string text, folder.ReadText(kJsonName, kGoldenJsonSizeMax));
  PX_TRY(golden.tensors, Checkpoint::OpenFile(folder, std::string(kTensorsName)));
  const auto json = wire::ParseJson(text);
  if (!json) {
    return Fail(Code::kDataCorrupt,
                fmt::format("{}/{}: {}", folder.path(), kJsonName, json.error().detail()));
  }
  if (const wire::Json* cases = json->Find("cases"); cases != nullptr) {
    PX_CHECK_OK(ReadCases(*cases, sizes, golden));
  } else if (json->is_array()) {
    PX_CHECK_OK(ReadStories(*json, sizes, golden));
  } else {
    PX_CHECK_OK(ReadNamedPrompts(*json, sizes, golden));
  }
  return golden;
}

}  // namespace pixii::model
