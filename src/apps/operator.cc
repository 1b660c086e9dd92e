// pixii operator: keeps the DynamoGraphDeployments of a namespace. docs/kubernetes.md
#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "apps/command.h"
#include "apps/option_structs.h"
#include "apps/process_unit.h"
#include "control/discovery_source.h"
#include "control/operator.h"
#include "rt/file.h"

namespace pixii::apps {

namespace {

constexpr std::int64_t kNanosecondsPerSecond = 1'000'000'000;

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

Result<control::KubeAccess> AccessOf(const OperatorFlags& flags) {
  Result<control::DiscoverySource> source = control::ParseDiscoverySource(flags.server);
  if (!source || source->kind != control::DiscoverySource::Kind::kKubernetes) {
    return Fail(Code::kInvalidArgument,
                fmt::format("server: \"{}\" is neither kubernetes nor "
                            "kubernetes://HOST:PORT/NAMESPACE",
                            flags.server),
                "server");
  }
  if (source->wants_pod()) {
    PX_CHECK_OK(control::UsePod(*source, {.host = Environment("KUBERNETES_SERVICE_HOST"),
                                          .port = Environment("KUBERNETES_SERVICE_PORT"),
                                          .folder = std::string(control::kServiceAccountFolder)}));
  }
  return std::move(source->kube);
}

class OperatorProcess final {
 public:
  explicit OperatorProcess(OperatorFlags flags) : flags_(std::move(flags)) {}

  Result<int> Run() {
    if (flags_.stop_grace <= flags_.pre_stop) {
      return Fail(Code::kInvalidArgument,
                  "stop-grace: it counts from when pre-stop begins and must be longer",
                  "stop-grace");
    }
    control::OperatorOptions options;
    PX_TRY(options.access, AccessOf(flags_));
    control::GraphObjectOptions& objects = options.rules.objects;
    objects.image = flags_.image;
    objects.service_account = flags_.service_account;
    objects.pre_stop_seconds = flags_.pre_stop / kNanosecondsPerSecond;
    objects.stop_grace_seconds = flags_.stop_grace / kNanosecondsPerSecond;
    objects.max_surge = flags_.max_surge;
    objects.max_unavailable = flags_.max_unavailable;
    PX_CHECK_OK(process_.Open(flags_, {.dump = [this] { SayStatus(); },
                                       .reload = {},
                                       .drain =
                                           [this] {
                                             operator_->Stop([this] { process_.loop().Stop(); });
                                             return true;
                                           },
                                       .child = {}}));
    options.election.name = flags_.lease;
    options.election.identity = IdentityOf();
    operator_.emplace(process_.loop(), process_.net(), std::move(options),
                      [](const std::string& line) {
                        Say("{}\n", line);
                        std::fflush(stdout);  // somebody waits
                      });
    operator_->Start();
    if (!flags_.port_file.empty()) {  // it listens nowhere: the file says that it runs
      PX_CHECK_OK(rt::WriteFileAtomic(flags_.port_file, "0\n", 0644));
    }
    process_.loop().Run();
    operator_.reset();
    return kExitDone;
  }

 private:
  /// Of one start: a pod's container that is restarted is another holder.
  std::string IdentityOf() {
    std::string name = flags_.identity.empty() ? Environment("POD_NAME") : flags_.identity;
    return fmt::format("{}{}{:08x}", name, name.empty() ? "" : "_",
                       process_.loop().random().Next() >> 32U);
  }

  void SayStatus() {
    const std::optional<Error> trouble = operator_->trouble();
    Say("{}{}\n", operator_->leads() ? "leads" : "waits",
        trouble ? ": " + trouble->detail() : std::string());
    std::fflush(stdout);
  }

  OperatorFlags flags_;
  ProcessUnit process_;
  std::optional<control::Operator> operator_;
};

}  // namespace

int RunOperator(const Arguments& arguments) {
  OperatorFlags flags;
  config::Command command;
  command.name = "operator";
  command.summary = "Keeps the DynamoGraphDeployments of a Kubernetes namespace.";
  command.options = RowsOf(flags);
  auto [parsed, exit] = ParseOrExit(command, arguments);
  if (exit != kGoOn) {
    return exit;
  }
  Result<int> done = OperatorProcess(std::move(flags)).Run();
  return done ? *done : Complain(done.error());
}

}  // namespace pixii::apps
