#include <fmt/format.h>

#include "apps/build_facts.h"
#include "apps/command.h"
#include "apps/model_source.h"
#include "apps/version.h"
#include "kernels/operators.h"
#include "model/inspect.h"
#include "rt/file.h"
#include "rt/net.h"
#include "rt/process.h"

namespace pixii::apps {

namespace {

enum class Verdict { kFine, kWeak, kBad };

// Prints one line; bad ones decide the exit status.
class Findings final {
 public:
  void Say(Verdict verdict, std::string_view subject, const std::string& text) {
    const char* mark = verdict == Verdict::kFine   ? "ok  "
                       : verdict == Verdict::kWeak ? "weak"
                                                   : "BAD ";
    apps::Say("{} {:<14} {}\n", mark, subject, text);
    bad_ = bad_ || verdict == Verdict::kBad;
  }

  bool bad() const { return bad_; }

 private:
  bool bad_ = false;
};

void CheckIsa(Findings& findings) {
  std::string names;
  for (kernels::CpuIsa isa : kernels::AvailableIsas()) {
    names += (names.empty() ? "" : " ") + std::string(kernels::IsaName(isa));
  }
  if (names.empty()) {
    findings.Say(Verdict::kBad, "processor",
                 "neither AVX2 nor NEON: only the slow reference operators run here (--isa ref)");
  } else if (names == "avx2") {
    findings.Say(Verdict::kWeak, "processor", names + "; AVX-512 would be faster");
  } else {
    findings.Say(Verdict::kFine, "processor", names);
  }
}

void CheckMachine(Findings& findings) {
  Result<rt::MachineLimits> machine = rt::ReadMachineLimits();
  Result<rt::ProcessUsage> usage = rt::ReadProcessUsage();
  if (!machine || !usage) {
    findings.Say(Verdict::kBad, "machine", "/proc cannot be read");
    return;
  }
  constexpr std::uint64_t kMemoryWanted = std::uint64_t{1} << 30;
  findings.Say(machine->memory_available_bytes < kMemoryWanted ? Verdict::kWeak : Verdict::kFine,
               "memory",
               fmt::format("{:.1f} GiB free of {:.1f} GiB",
                           static_cast<double>(machine->memory_available_bytes) / (1 << 30),
                           static_cast<double>(machine->memory_bytes) / (1 << 30)));
  findings.Say(Verdict::kFine, "cores", fmt::format("{}", machine->cpu_count));
  constexpr std::uint32_t kDescriptorsWanted = 4096;
  findings.Say(usage->descriptors_max < kDescriptorsWanted ? Verdict::kWeak : Verdict::kFine,
               "descriptors",
               usage->descriptors_max < kDescriptorsWanted
                   ? fmt::format("{} open files at most; many streams need more (ulimit -n {})",
                                 usage->descriptors_max, kDescriptorsWanted)
                   : fmt::format("{} open files at most", usage->descriptors_max));
}

void CheckBundledModel(Findings& findings) {
  Result<ModelSource> source = ResolveModel(kBundledModel, true);
  if (!source) {
    findings.Say(Verdict::kBad, "bundled model", source.error().detail());
    return;
  }
  Result<model::InspectReport> report = model::InspectFolder(source->folder);
  findings.Say(report ? Verdict::kFine : Verdict::kBad, "bundled model",
               report ? source->folder : report.error().detail());
}

/// What is required must work; the rest must be of this build where its file is.
void CheckPlugins(Findings& findings, const std::string& required) {
  for (const PluginFacts& plugin : KnownPlugins()) {
    const bool needed = plugin.name == required;
    if (!FindPlugin(plugin)) {
      findings.Say(needed ? Verdict::kBad : Verdict::kFine, plugin.name,
                   fmt::format("{}: {} is not installed", plugin.purpose, plugin.library));
      continue;
    }
    const Result<void> probed = ProbePlugin(plugin);
    // What it needs of the system (UCX, a GPU) may be absent, and then is not missed; a file of
    // another build is a mistake.
    const bool wrong_abi = !probed && probed.error().detail().find(" ABI ") != std::string::npos;
    findings.Say(
        probed                ? Verdict::kFine
        : needed || wrong_abi ? Verdict::kBad
                              : Verdict::kWeak,
        plugin.name,
        probed ? fmt::format("{}: ABI {}", plugin.purpose, plugin.abi) : probed.error().detail());
  }
}

void CheckPlaces(Findings& findings) {
  constexpr std::uint64_t kShmWanted = std::uint64_t{64} << 20;
  const Result<std::uint64_t> shm = rt::FreeDiskBytes("/dev/shm");
  findings.Say(shm && *shm >= kShmWanted ? Verdict::kFine : Verdict::kWeak, "shared memory",
               shm ? fmt::format("{} MiB free in /dev/shm{}", *shm >> 20,
                                 *shm >= kShmWanted ? "" : "; KV blocks then move by TCP")
                   : shm.error().detail());
  const std::string cache = CacheFolder();
  const std::string probe = cache + "/pixii-doctor";
  Result<void> written = rt::CreateFolders(cache);
  written = written ? rt::WriteFileAtomic(probe, "", 0600) : written;
  findings.Say(written ? Verdict::kFine : Verdict::kWeak, "cache",
               written ? cache
                       : fmt::format("{}; models of a hub cannot be kept (set XDG_CACHE_HOME)",
                                     written.error().detail()));
  if (written) {
    (void)rt::RemoveFile(probe);
  }
}

void CheckClockAndPorts(Findings& findings) {
  Result<std::unique_ptr<rt::Loop>> loop = rt::MakeLoop();
  if (!loop) {
    findings.Say(Verdict::kBad, "event loop", loop.error().detail());
    return;
  }
  constexpr std::int64_t kYear2024 = 1'704'067'200;  // certificates and leases would be refused
  const std::int64_t now = (*loop)->WallNow().unix_seconds;
  findings.Say(now < kYear2024 ? Verdict::kBad : Verdict::kFine, "clock",
               now < kYear2024 ? "it is before 2024: set the clock" : "after 2024");
  const std::unique_ptr<rt::Net> net = rt::MakeNet(**loop);
  const rt::Address usual{.host = "127.0.0.1", .port = 8000};
  const auto listener = net->Listen(usual, {});
  findings.Say(listener ? Verdict::kFine : Verdict::kWeak, "port",
               listener ? "8000 is free"
                        : fmt::format("{}; choose another with --port", listener.error().detail()));
}

}  // namespace

int RunDoctor(const Arguments& arguments) {
  config::Command command;
  command.name = "doctor";
  command.summary =
      "Says whether this machine can run pixii, and how well; exit status 1 if it cannot.";
  std::string required;
  command.options.resize(1);
  command.options[0].name = "require";
  command.options[0].field =
      config::WordField{&required, {{"", "cuda", "ucx", "libfabric", "nats", "grpc"}}};
  command.options[0].help = "what must work here, beside what always must";
  auto [parsed, exit] = ParseOrExit(command, arguments);
  if (exit != kGoOn) {
    return exit;
  }
  Findings findings;
  findings.Say(Verdict::kFine, "version", fmt::format("{} ({})", kVersion, kCommit));
  CheckIsa(findings);
  CheckMachine(findings);
  CheckPlaces(findings);
  CheckClockAndPorts(findings);
  CheckPlugins(findings, required);
  CheckBundledModel(findings);
  return findings.bad() ? kExitNotSo : kExitDone;
}

}  // namespace pixii::apps
