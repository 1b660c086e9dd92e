#include "apps/build_facts.h"

#include <pixii/kv_connector.h>
#include <pixii/logits_processor.h>

#include <array>
#include <utility>

#include "apps/version.h"
#include "control/nats_abi.h"
#include "control/nats_plane.h"
#include "frontend/grpc_abi.h"
#include "frontend/grpc_server.h"
#include "kernels/cuda/cuda_abi.h"
#include "kernels/cuda/cuda_operators.h"
#include "kernels/operators.h"
#include "rt/shared_library.h"
#include "transport/fabric.h"
#include "transport/fabric_abi.h"

namespace pixii::apps {
namespace {

wire::Json List(const std::vector<std::string>& words) {
  wire::Json::Array out;
  for (const std::string& word : words) {
    out.emplace_back(word);
  }
  return wire::Json(std::move(out));
}

}  // namespace

const std::vector<PluginFacts>& KnownPlugins() {
  static const std::vector<PluginFacts> kPlugins = {
      {"ucx", transport::fabric_abi::kUcxLibraryName, transport::fabric_abi::kAbi,
       "KV blocks over UCX"},
      {"libfabric", transport::fabric_abi::kLibfabricLibraryName, transport::fabric_abi::kAbi,
       "KV blocks over libfabric"},
      {"nats", control::nats_abi::kLibraryName, control::nats_abi::kAbi, "events over NATS"},
      {"grpc", frontend::grpc_abi::kLibraryName, frontend::grpc_abi::kAbi, "KServe over gRPC"},
      {"cuda", kernels::cuda::kLibraryName, kernels::cuda::kAbi, "NVIDIA GPUs"},
  };
  return kPlugins;
}

std::optional<std::string> FindPlugin(const PluginFacts& plugin) {
  Result<std::string> path = rt::SharedLibrary::FindBesideProgram(plugin.library, "");
  return path ? std::optional(*path) : std::nullopt;
}

Result<void> ProbePlugin(const PluginFacts& plugin) {
  const auto verdict = [](auto loaded) -> Result<void> {
    if (!loaded) {
      return tl::unexpected(loaded.error());
    }
    return {};
  };
  if (plugin.name == "ucx") {
    return verdict(transport::LoadFabricLibrary(transport::FabricKind::kUcx));
  }
  if (plugin.name == "libfabric") {
    return verdict(transport::LoadFabricLibrary(transport::FabricKind::kLibfabric));
  }
  if (plugin.name == "nats") {
    return verdict(control::LoadNatsLibrary({}));
  }
  if (plugin.name == "grpc") {
    return verdict(frontend::LoadGrpcLibrary({}));
  }
  return verdict(kernels::MakeCudaOperators({}));
}

wire::Json BuildFacts() {
  std::vector<std::string> isas = {"ref"};
  for (kernels::CpuIsa isa : kernels::BuiltIsas()) {
    isas.emplace_back(kernels::IsaName(isa));
  }
  wire::Json abis(wire::Json::Object{});
  abis.Set("kv_connector", std::int64_t{PIXII_KV_CONNECTOR_ABI});
  abis.Set("logits_processor", std::int64_t{PIXII_LOGITS_PROCESSOR_ABI});
  wire::Json::Array plugins;
  for (const PluginFacts& plugin : KnownPlugins()) {
    abis.Set(plugin.name, plugin.abi);
    wire::Json row(wire::Json::Object{});
    row.Set("name", plugin.name);
    row.Set("library", plugin.library);
    row.Set("abi", plugin.abi);
    const std::optional<std::string> path = FindPlugin(plugin);
    row.Set("path", path ? wire::Json(*path) : wire::Json());
    plugins.push_back(std::move(row));
  }
  wire::Json options(wire::Json::Object{});
  options.Set("ENABLE_KVBM", kWithKvbm);
  options.Set("ENABLE_UCX", kWithUcx);
  options.Set("ENABLE_LIBFABRIC", kWithLibfabric);
  wire::Json out(wire::Json::Object{});
  out.Set("version", kVersion);
  out.Set("commit", kCommit);
  out.Set("compiler", kCompiler);
  out.Set("architecture", kArchitecture);
  out.Set("cpu_features", List(isas));
  // What needs no plug-in; those of plug-ins are below.
  out.Set("transports", List({"shm", "tcp", "file", "object"}));
  out.Set("plugin_abi", std::move(abis));
  out.Set("plugins", wire::Json(std::move(plugins)));
  out.Set("build_options", std::move(options));
  return out;
}

}  // namespace pixii::apps
