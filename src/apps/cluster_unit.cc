#include "apps/cluster_unit.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "apps/model_host.h"
#include "apps/model_source.h"
#include "base/hash.h"
#include "control/discovery_source.h"
#include "control/instance_codec.h"
#include "model/checkpoint_folder.h"
#include "model/config.h"
#include "rt/file.h"
#include "wire/messages/codec.h"

namespace pixii::apps {

namespace {

constexpr std::uint64_t kModelFileBytesMax = 32U << 20U;

// What the defaults of a model are read from, and its texts.
constexpr std::array<std::string_view, 2> kConfigFiles = {"config.json", "generation_config.json"};
constexpr std::array<std::string_view, 5> kTextFiles = {"tokenizer.json", "tokenizer_config.json",
                                                        "chat_template.jinja", "chat_template.json",
                                                        "special_tokens_map.json"};
// How it reads texts, which a checkpoint says in many places.
constexpr std::string_view kPoolingFile = "pooling.json";

Result<void> AddFiles(const std::string& folder, std::span<const std::string_view> names,
                      wire::ModelFiles& out) {
  PX_TRY(const model::CheckpointFolder source, model::CheckpointFolder::Open(folder));
  for (const std::string_view name : names) {
    if (source.Has(name)) {
      PX_TRY(std::string content, source.ReadText(name, kModelFileBytesMax));
      out.files.push_back({std::string(name), std::move(content)});
    }
  }
  return {};
}

bool IsKnown(std::string_view name) {
  return std::ranges::find(kConfigFiles, name) != kConfigFiles.end() ||
         std::ranges::find(kTextFiles, name) != kTextFiles.end();
}

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

Result<void> InPod(control::DiscoverySource& source) {
  if (!source.wants_pod()) {
    return {};
  }
  return control::UsePod(source, {.host = Environment("KUBERNETES_SERVICE_HOST"),
                                  .port = Environment("KUBERNETES_SERVICE_PORT"),
                                  .folder = std::string(control::kServiceAccountFolder)});
}

// --discovery, else what --discovery-backend stands for.
Result<std::string> PlaceOf(const ClusterFlags& flags) {
  const std::string& backend = flags.discovery_backend;
  if (flags.discovery != ClusterFlags().discovery || backend == "none") {
    return flags.discovery;
  }
  if (backend == "mem") {
    return Fail(Code::kInvalidArgument,
                "discovery-backend: mem is of one process, where there is nothing to find",
                "discovery-backend");
  }
  if (backend == "file") {
    return "file:" + Environment("DYN_FILE_KV");
  }
  if (backend == "etcd") {
    std::string place = Environment("ETCD_ENDPOINTS");
    place.resize(std::min(place.find(','), place.size()));
    const std::size_t scheme = place.find("//");
    place.erase(0, scheme == std::string::npos ? 0 : scheme + 2);
    return "etcd://" + (place.empty() ? "127.0.0.1:2379" : place);
  }
  return backend;
}

Result<control::DiscoverySource> SourceOf(const ClusterFlags& flags) {
  PX_TRY(const std::string place, PlaceOf(flags));
  const bool own_folder = place == "file:";
  if (!flags.ns.empty()) {  // of frontends: all of them
    PX_CHECK_OK(control::CheckName("namespace", flags.ns));
  }
  Result<control::DiscoverySource> read = control::ParseDiscoverySource(
      own_folder ? "file:" + CacheFolder() + "/pixii/cluster" : place);
  if (!read) {
    return Fail(Code::kInvalidArgument, "discovery: " + read.error().detail(), "discovery");
  }
  control::DiscoverySource source = std::move(*read);
  if (source.kind == control::DiscoverySource::Kind::kMem) {
    return Fail(Code::kInvalidArgument,
                "discovery: mem is of one process, where there is nothing to find", "discovery");
  }
  if (source.kind == control::DiscoverySource::Kind::kFile) {
    const Result<void> made = rt::CreateFolders(source.folder);
    if (!made && made.error().code() != Code::kResourceExhausted) {  // a disk may get room again
      return Fail(Code::kInvalidArgument, "discovery: " + made.error().detail(), "discovery");
    }
  }
  PX_CHECK_OK(InPod(source));
  return source;
}

}  // namespace

Result<std::unique_ptr<control::LeaseStore>> OpenStore(ProcessUnit& process,
                                                       const ClusterFlags& flags) {
  PX_TRY(const control::DiscoverySource source, SourceOf(flags));
  return control::OpenLeaseStore(source, {.loop = process.loop(), .net = process.net()}, {});
}

Result<std::unique_ptr<control::Discovery>> OpenDiscovery(ProcessUnit& process,
                                                          const ClusterFlags& flags) {
  PX_TRY(std::unique_ptr<control::LeaseStore> store, OpenStore(process, flags));
  return std::make_unique<control::Discovery>(
      process.loop(), std::move(store),
      control::DiscoveryOptions{.membership = {}, .log = &process.log()});
}

Result<control::KubeAccess> KubeAccessOf(std::string_view flag, const std::string& text) {
  Result<control::DiscoverySource> source = control::ParseDiscoverySource(text);
  const bool is_kube = source && source->kind == control::DiscoverySource::Kind::kKubernetes;
  if (!is_kube) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{}: \"{}\" is neither kubernetes nor kubernetes://HOST:PORT/NAMESPACE",
                            flag, text),
                std::string(flag));
  }
  PX_CHECK_OK(InPod(*source));
  return std::move(source->kube);
}

std::vector<std::string> SplitList(std::string_view list) {
  std::vector<std::string> out;
  while (!list.empty()) {
    const std::size_t comma = std::min(list.find(','), list.size());
    if (comma > 0) {
      out.emplace_back(list.substr(0, comma));
    }
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return out;
}

Result<rt::Address> AddressOfUrl(std::string_view flag, std::string_view url) {
  constexpr std::string_view kScheme = "http://";
  std::string_view rest = url;
  rest.remove_prefix(rest.starts_with(kScheme) ? kScheme.size() : 0);
  Result<rt::Address> address = rt::ParseAddress(rest.substr(0, rest.find('/')));
  if (!url.starts_with(kScheme) || !address || address->port == 0) {
    return Fail(Code::kInvalidArgument, fmt::format("{}: \"{}\" is no http://HOST:PORT", flag, url),
                std::string(flag));
  }
  return address;
}

Result<void> CheckPublished(std::string_view flag, const std::string& host) {
  const bool is_any = host == "0.0.0.0" || host == "::" || host == "[::]" || host == "*";
  return is_any ? Fail(Code::kInvalidArgument,
                       fmt::format("{}: others are told {} and cannot reach it; give an address of "
                                   "this machine",
                                   flag, host),
                       std::string(flag))
                : Result<void>();
}

Result<wire::ModelFiles> ReadModelFiles(const ModelTexts& texts) {
  wire::ModelFiles out;
  PX_CHECK_OK(AddFiles(texts.folder, kConfigFiles, out));
  PX_CHECK_OK(AddFiles(texts.text_folder, kTextFiles, out));
  out.files.push_back({std::string(kPoolingFile), frontend::PoolingProfileText(texts.pooling)});
  return out;
}

std::string DigestOf(const wire::ModelFiles& files) {
  const std::string bytes = wire::Encode(files);
  return fmt::format("{:016x}",
                     Hash64(std::as_bytes(std::span<const char>(bytes.data(), bytes.size()))));
}

Result<control::Instance> InstanceOf(const WorkerFlags& flags, control::InstanceId id,
                                     const rt::Address& bound, wire::ModelCard card,
                                     const ModelTexts& texts, const rt::WallTime& now) {
  control::Instance out;
  out.id = id;
  out.ns = flags.ns;
  out.component = flags.component;
  out.endpoint = flags.endpoint;
  out.address = bound.ToString();
  out.taints = flags.taints;
  out.card = std::move(card);
  PX_TRY(const wire::ModelFiles files, ReadModelFiles(texts));
  out.texts = DigestOf(files);
  out.started_ms = now.unix_seconds * 1000 + now.nanoseconds / 1'000'000;
  return out;
}

Result<frontend::ServedModel> ServedModelOf(const wire::ModelFiles& files, std::string name) {
  const std::string folder = fmt::format("{}/pixii/models/{}", CacheFolder(), DigestOf(files));
  PX_CHECK_OK(rt::CreateFolders(folder));
  for (const wire::ModelFile& file : files.files) {
    if (!IsKnown(file.name)) {
      continue;  // no file of a checkpoint, or of a later version, which knows how to do without
    }
    PX_CHECK_OK(rt::WriteFileAtomic(fmt::format("{}/{}", folder, file.name), file.content, 0644));
  }
  PX_TRY(const model::CheckpointFolder source, model::CheckpointFolder::Open(folder));
  PX_TRY(const model::ModelConfig config, model::LoadConfig(source));
  PX_TRY(const model::ModelSpec spec, model::MakeTextSpec(config));
  PX_TRY(frontend::ServedModel served, LoadServedModel(folder, spec, std::move(name)));
  const auto pooling = std::ranges::find(files.files, kPoolingFile, &wire::ModelFile::name);
  if (pooling != files.files.end()) {
    PX_TRY(served.pooling, frontend::ReadPoolingProfile(pooling->content));
  }
  return served;
}

}  // namespace pixii::apps
