#include "apps/cluster_net.h"

#include <fmt/format.h>

#include <string>
#include <utility>

#include "rt/task.h"
#include "rt/tls.h"

namespace pixii::apps {

namespace {

// A certificate without its key, or the reverse.
Result<void> CheckPair(const std::string& certificate, const std::string& key,
                       const std::string& prefix) {
  if (certificate.empty() == key.empty()) {
    return {};
  }
  const std::string missing = prefix + (key.empty() ? "-key" : "-cert");
  return Fail(Code::kInvalidArgument,
              fmt::format("{}: {}-cert and {}-key belong together, and it is not given", missing,
                          prefix, prefix),
              missing);
}

class FleetNet final : public rt::Net {
 public:
  FleetNet(rt::Loop& loop, rt::Net& inner, rt::TlsFiles files, std::string server_name)
      : loop_(loop),
        inner_(inner),
        files_(std::move(files)),
        server_name_(std::move(server_name)) {}

  Result<std::unique_ptr<rt::Listener>> Listen(const rt::Address& /*address*/,
                                               const rt::ListenOptions& /*options*/) override {
    return Fail(Code::kUnsupported, "workers are listened to nowhere");
  }

  rt::Task<Result<std::unique_ptr<rt::Stream>>> Connect(rt::Address address,
                                                        rt::Time deadline) override {
    PX_CO_TRY(
        std::shared_ptr<const rt::TlsContext> context,
        rt::TlsContext::ForClient(files_, server_name_.empty() ? address.host : server_name_));
    const std::unique_ptr<rt::Net> net =
        rt::MakeTlsNet(loop_, inner_, std::shared_ptr<const rt::TlsContext>(), std::move(context));
    auto connecting = net->Connect(std::move(address), deadline);
    co_return co_await std::move(connecting);
  }

 private:
  rt::Loop& loop_;
  rt::Net& inner_;
  rt::TlsFiles files_;
  std::string server_name_;
};

}  // namespace

Result<std::unique_ptr<rt::Net>> OpenWorkerNet(rt::Loop& loop, rt::Net& inner,
                                               const WorkerTlsFlags& flags) {
  PX_CHECK_OK(CheckPair(flags.worker_tls_cert, flags.worker_tls_key, "worker-tls"));
  if (flags.worker_tls_cert.empty()) {
    if (!flags.worker_tls_client_ca.empty()) {
      return Fail(Code::kInvalidArgument,
                  "worker-tls-client-ca: needs worker-tls-cert and worker-tls-key",
                  "worker-tls-client-ca");
    }
    return std::unique_ptr<rt::Net>();
  }
  PX_TRY(std::shared_ptr<const rt::TlsContext> server,
         rt::TlsContext::ForServer({.certificate = flags.worker_tls_cert,
                                    .key = flags.worker_tls_key,
                                    .authorities = flags.worker_tls_client_ca}));
  return rt::MakeTlsNet(loop, inner, std::move(server), std::shared_ptr<const rt::TlsContext>());
}

Result<std::unique_ptr<rt::Net>> OpenFleetNet(rt::Loop& loop, rt::Net& inner,
                                              const FleetTlsFlags& flags) {
  PX_CHECK_OK(CheckPair(flags.fleet_tls_cert, flags.fleet_tls_key, "fleet-tls"));
  if (flags.fleet_tls_ca.empty()) {
    if (!flags.fleet_tls_cert.empty() || !flags.fleet_tls_server_name.empty()) {
      return Fail(Code::kInvalidArgument,
                  "fleet-tls-ca: is missing, so that no worker could be believed", "fleet-tls-ca");
    }
    return std::unique_ptr<rt::Net>();
  }
  rt::TlsFiles files{.certificate = flags.fleet_tls_cert,
                     .key = flags.fleet_tls_key,
                     .authorities = flags.fleet_tls_ca};
  // Once now, so that a wrong file is said at once.
  PX_CHECK_OK(rt::TlsContext::ForClient(files, "worker"));
  return std::make_unique<FleetNet>(loop, inner, std::move(files), flags.fleet_tls_server_name);
}

Result<std::unique_ptr<rt::Net>> OpenReplicaNet(rt::Loop& loop, rt::Net& inner,
                                                const FleetTlsFlags& flags) {
  if (flags.fleet_tls_ca.empty()) {
    return std::unique_ptr<rt::Net>();
  }
  if (flags.fleet_tls_cert.empty()) {
    return Fail(Code::kInvalidArgument,
                "fleet-tls-cert: is missing; with fleet-tls-ca and router-replica-sync other "
                "frontends are shown it",
                "fleet-tls-cert");
  }
  PX_TRY(std::shared_ptr<const rt::TlsContext> server,
         rt::TlsContext::ForServer({.certificate = flags.fleet_tls_cert,
                                    .key = flags.fleet_tls_key,
                                    .authorities = flags.fleet_tls_ca}));
  return rt::MakeTlsNet(loop, inner, std::move(server), std::shared_ptr<const rt::TlsContext>());
}

}  // namespace pixii::apps
