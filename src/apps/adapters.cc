#include "apps/adapters.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "engine/model_executor.h"
#include "model/checkpoint_folder.h"
#include "rt/file.h"

namespace pixii::apps {

namespace {

constexpr std::size_t kCatalogueSizeMax = 65536;  // entries of --lora-dir

}  // namespace

bool WantsAdapters(const EngineFlags& flags) {
  return flags.enable_lora || !flags.lora.empty() || !flags.lora_dir.empty();
}

engine::AdapterOptions AdapterOptionsOf(const EngineFlags& flags) {
  engine::AdapterOptions options;
  options.slot_count = WantsAdapters(flags) ? static_cast<std::uint32_t>(flags.lora_slots) : 0;
  options.adapters_max = static_cast<std::uint32_t>(flags.lora_count);
  options.host_bytes_max = static_cast<std::uint64_t>(flags.lora_memory);
  return options;
}

Result<std::vector<worker::CatalogueEntry>> AdaptersAtStart(const EngineFlags& flags) {
  std::vector<worker::CatalogueEntry> out;
  for (const std::string& flag : flags.lora) {
    const std::size_t equals = flag.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == flag.size()) {
      return Fail(Code::kInvalidArgument, fmt::format("lora: \"{}\" is no NAME=FOLDER", flag),
                  "lora");
    }
    out.push_back({.name = flag.substr(0, equals), .source = flag.substr(equals + 1)});
    const std::string& name = out.back().name;
    if (std::ranges::count(out, name, &worker::CatalogueEntry::name) > 1) {
      return Fail(Code::kInvalidArgument, fmt::format("lora: {} is given twice", name), "lora");
    }
  }
  return out;
}

Result<std::vector<worker::CatalogueEntry>> AdapterCatalogue(const EngineFlags& flags) {
  std::vector<worker::CatalogueEntry> out;
  if (flags.lora_dir.empty()) {
    return out;
  }
  Result<std::vector<rt::FolderEntry>> entries = rt::ListFolder(flags.lora_dir, kCatalogueSizeMax);
  if (!entries) {
    return Fail(entries.error().code(),
                fmt::format("lora-dir: {}; give an existing folder whose subfolders are adapters",
                            entries.error().detail()),
                "lora-dir");
  }
  for (const rt::FolderEntry& entry : *entries) {
    if (entry.name.starts_with('.')) {
      continue;  // what tools and downloads in progress leave there
    }
    const std::string source = flags.lora_dir + "/" + entry.name;
    PX_TRY(const auto config, rt::StatFile(source + "/adapter_config.json"));
    if (config) {
      out.push_back({.name = entry.name, .source = source});
    }
  }
  return out;
}

namespace {

model::LoraLimits LimitsOf(const EngineFlags& flags) {
  return {.rank_max = static_cast<std::int32_t>(flags.lora_rank),
          .size_bytes_max = static_cast<std::uint64_t>(flags.lora_memory)};
}

}  // namespace

Result<void> CheckAdapter(const std::string& source,
                          std::span<const model::AdaptableLinear> linears,
                          const EngineFlags& flags) {
  PX_TRY(const model::CheckpointFolder folder, model::CheckpointFolder::Open(source));
  return model::LoraAdapter::Check(folder, linears, LimitsOf(flags));
}

worker::AdapterLinkOptions::Reader MakeAdapterReader(
    std::span<const model::AdaptableLinear> linears, const EngineFlags& flags) {
  auto shared =
      std::make_shared<const std::vector<model::AdaptableLinear>>(linears.begin(), linears.end());
  return [shared, limits = LimitsOf(flags)](
             const std::string& source) -> Result<std::shared_ptr<const engine::AdapterWeights>> {
    PX_TRY(const model::CheckpointFolder folder, model::CheckpointFolder::Open(source));
    PX_TRY(model::LoraAdapter adapter, model::LoraAdapter::Open(folder, *shared, limits));
    return std::make_shared<const engine::ModelAdapter>(std::move(adapter), source);
  };
}

}  // namespace pixii::apps
