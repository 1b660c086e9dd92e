#include "apps/transfer_agent_maker.h"

#include <fmt/format.h>

#include <memory>
#include <optional>
#include <utility>

#include "transport/agent_thread.h"
#include "transport/choice.h"
#include "transport/cluster_key.h"
#include "transport/fabric.h"

namespace pixii::apps {

namespace {

std::optional<transport::FabricKind> FabricOf(const EngineFlags& flags) {
  const bool nixl = flags.kv_transfer == "nixl";
  if (flags.kv_transfer == "ucx" || (nixl && flags.kv_transfer_nixl == "UCX")) {
    return transport::FabricKind::kUcx;
  }
  if (flags.kv_transfer == "libfabric" || (nixl && flags.kv_transfer_nixl == "LIBFABRIC")) {
    return transport::FabricKind::kLibfabric;
  }
  return std::nullopt;
}

Result<transport::Backend> BackendOf(const EngineFlags& flags) {
  if (const std::optional<transport::FabricKind> fabric = FabricOf(flags)) {
    return *fabric == transport::FabricKind::kUcx ? transport::Backend::kUcx
                                                  : transport::Backend::kLibfabric;
  }
  return transport::ParseBackend(flags.kv_transfer);
}

}  // namespace

Result<void> CheckTransfer(const EngineFlags& flags) {
  const std::string& asked = flags.kv_transfer;
  if (const std::optional<transport::FabricKind> fabric = FabricOf(flags)) {
    const Result<transport::FabricLibrary> library = transport::LoadFabricLibrary(*fabric);
    if (!library) {
      return Fail(library.error().code(),
                  fmt::format("kv-transfer: {}; default does without", library.error().detail()),
                  "kv-transfer");
    }
  }
  if (flags.kv_transfer_encrypted && asked != "default" && asked != "tcp") {
    return Fail(Code::kInvalidArgument,
                fmt::format("kv-transfer-encrypted: does not go with --kv-transfer {}; it is "
                            "of tcp, which default takes between hosts",
                            asked),
                "kv-transfer-encrypted");
  }
  if (flags.kv_transfer_folder.empty() ||
      flags.kv_transfer_folder.size() > transport::kShmFolderBytesMax) {
    return Fail(Code::kInvalidArgument,
                fmt::format("kv-transfer-folder: a path of {} bytes, '{}'; sockets in it have room "
                            "for 1 to {}",
                            flags.kv_transfer_folder.size(), flags.kv_transfer_folder,
                            transport::kShmFolderBytesMax),
                "kv-transfer-folder");
  }
  return {};
}

Result<void> CheckPipelined(const EngineFlags& flags, std::string_view role) {
  if (flags.kv_transfer_pipelined && role == "agg") {
    return Fail(Code::kInvalidArgument,
                "kv-transfer-pipelined: true does not go with the role agg, which hands no KV "
                "blocks over; the roles prefill and decode do",
                "kv-transfer-pipelined");
  }
  return {};
}

bool SharesMemory(const EngineFlags& flags) {
  return flags.kv_transfer == "default" || flags.kv_transfer == "shm";
}

// Bytes move on a thread of the agent's own, beside the one that checks them.
kv::AgentMaker MakerOf(TransferParts parts) {
  return [parts = std::move(parts)](
             rt::Loop& /*loop*/,
             rt::Function<void()> wake) -> Result<std::shared_ptr<transport::Agent>> {
    PX_TRY(const transport::ClusterKey key, transport::ClusterKey::FromSecret(parts.key));
    transport::ChoiceOptions choice;
    PX_TRY(choice.backend, BackendOf(parts.flags));
    choice.encrypted = parts.flags.kv_transfer_encrypted;
    choice.shm.folder = parts.flags.kv_transfer_folder;
    choice.tcp.listen = {.host = parts.host, .port = 0};
    choice.fabric.listen = choice.tcp.listen;
    transport::AgentOptions options;
    options.wake = std::move(wake);
    options.log = parts.log;
    PX_TRY(std::shared_ptr<transport::AgentThread> thread,
           transport::AgentThread::Start(std::move(options),
                                         transport::ChooseTransports(key, std::move(choice))));
    return std::shared_ptr<transport::Agent>(thread, &thread->agent());
  };
}

}  // namespace pixii::apps
