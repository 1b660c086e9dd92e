#include "apps/cluster_unit.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "apps/model_host.h"
#include "apps/model_source.h"
#include "base/hash.h"
#include "control/discovery_source.h"
#include "model/checkpoint_folder.h"
#include "model/config.h"
#include "rt/file.h"
#include "wire/messages/codec.h"

namespace pixii::apps {

namespace {

constexpr std::uint64_t kModelFileBytesMax = 32U << 20U;

// What the texts, the defaults and the pooling of a model are read from.
constexpr std::array<std::string_view, 7> kModelFiles = {"config.json",
                                                         "generation_config.json",
                                                         "tokenizer.json",
                                                         "tokenizer_config.json",
                                                         "chat_template.jinja",
                                                         "chat_template.json",
                                                         "special_tokens_map.json"};

}  // namespace

Result<std::unique_ptr<control::Discovery>> OpenDiscovery(ProcessUnit& process,
                                                          const ClusterFlags& flags) {
  const bool own_folder = flags.discovery == "file:";
  PX_TRY(const control::DiscoverySource source,
         control::ParseDiscoverySource(own_folder ? "file:" + CacheFolder() + "/pixii/cluster"
                                                  : flags.discovery));
  if (source.kind == control::DiscoverySource::Kind::kMem) {
    return Fail(Code::kInvalidArgument,
                "discovery: mem is of one process, where there is nothing to find", "discovery");
  }
  if (own_folder) {
    PX_CHECK_OK(rt::CreateFolders(source.folder));
  }
  return std::make_unique<control::Discovery>(
      process.loop(),
      control::OpenLeaseStore(source, {.loop = process.loop(), .net = process.net()}, {}),
      control::DiscoveryOptions{.membership = {}, .log = &process.log()});
}

Result<wire::ModelFiles> ReadModelFiles(const std::string& folder) {
  PX_TRY(const model::CheckpointFolder source, model::CheckpointFolder::Open(folder));
  wire::ModelFiles out;
  for (const std::string_view name : kModelFiles) {
    if (source.Has(name)) {
      PX_TRY(std::string content, source.ReadText(name, kModelFileBytesMax));
      out.files.push_back({std::string(name), std::move(content)});
    }
  }
  return out;
}

Result<frontend::ServedModel> ServedModelOf(const wire::ModelFiles& files, std::string name) {
  const std::string bytes = wire::Encode(files);
  const std::string folder =
      fmt::format("{}/pixii/models/{:016x}", CacheFolder(),
                  Hash64(std::as_bytes(std::span<const char>(bytes.data(), bytes.size()))));
  PX_CHECK_OK(rt::CreateFolders(folder));
  for (const wire::ModelFile& file : files.files) {
    if (std::ranges::find(kModelFiles, file.name) == kModelFiles.end()) {
      continue;  // of a later version, which knows how to do without
    }
    PX_CHECK_OK(rt::WriteFileAtomic(fmt::format("{}/{}", folder, file.name), file.content, 0644));
  }
  PX_TRY(const model::CheckpointFolder source, model::CheckpointFolder::Open(folder));
  PX_TRY(const model::ModelConfig config, model::LoadConfig(source));
  PX_TRY(const model::ModelSpec spec, model::MakeTextSpec(config));
  return LoadServedModel(folder, spec, std::move(name));
}

}  // namespace pixii::apps
