// What a process has as part of a cluster: its discovery, and the texts of models it does not hold.
//
// Thread: one loop.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "apps/option_structs.h"
#include "apps/process_unit.h"
#include "base/result.h"
#include "control/discovery.h"
#include "control/discovery_source.h"
#include "control/lease_store.h"
#include "frontend/served_model.h"
#include "rt/net.h"
#include "wire/messages/worker.h"

namespace pixii::apps {

/// What frontends are called in discovery, and what answers there where a client is to ask.
inline constexpr std::string_view kFrontendComponent = "frontend";
inline constexpr std::string_view kHttpEndpoint = "http";
inline constexpr std::string_view kHttpsEndpoint = "https";

/// The store that --discovery names. Errors: kInvalidArgument, kUnsupported naming the flag.
Result<std::unique_ptr<control::LeaseStore>> OpenStore(ProcessUnit& process,
                                                       const ClusterFlags& flags);

/// As --discovery says. Errors: likewise.
Result<std::unique_ptr<control::Discovery>> OpenDiscovery(ProcessUnit& process,
                                                          const ClusterFlags& flags);

/// The API that `text` names: "kubernetes" (of the pod this runs in) or "kubernetes://HOST:PORT/
/// NAMESPACE". Errors: kInvalidArgument naming `flag`.
Result<control::KubeAccess> KubeAccessOf(std::string_view flag, const std::string& text);

/// What stands between commas; empty ones are left out.
std::vector<std::string> SplitList(std::string_view list);

/// Of "http://HOST:PORT". Errors: kInvalidArgument naming `flag`.
Result<rt::Address> AddressOfUrl(std::string_view flag, std::string_view url);

/// `host` is published: who looks for this process is sent there. Errors: kInvalidArgument naming
/// `flag` for an address that stands for all of this machine's.
Result<void> CheckPublished(std::string_view flag, const std::string& host);

/// Where a worker has what frontends need of its model.
struct ModelTexts {
  std::string folder;       // of the checkpoint: configuration, defaults
  std::string text_folder;  // of tokenizer and templates
  frontend::PoolingProfile pooling = {};
};

/// What a worker gives frontends. Errors: kTooLarge.
Result<wire::ModelFiles> ReadModelFiles(const ModelTexts& texts);

/// 16 hexadecimal digits: equal for equal files.
std::string DigestOf(const wire::ModelFiles& files);

/// What is told of a worker that `flags` describe, that listens on `bound` and answers for the
/// model of `card`; role, ranks and needs are the caller's to say. Errors: those of ReadModelFiles.
Result<control::Instance> InstanceOf(const WorkerFlags& flags, control::InstanceId id,
                                     const rt::Address& bound, wire::ModelCard card,
                                     const ModelTexts& texts, const rt::WallTime& now);

/// The texts of a model whose files came from a worker. Errors: those of LoadServedModel,
/// kInvalidArgument for names that leave the folder.
Result<frontend::ServedModel> ServedModelOf(const wire::ModelFiles& files, std::string name);

}  // namespace pixii::apps
