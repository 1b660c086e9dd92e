#include <fmt/format.h>

#include "apps/command.h"
#include "apps/model_source.h"
#include "apps/version.h"
#include "kernels/operators.h"
#include "model/inspect.h"
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
                 "no AVX2: only the slow reference operators run here (--isa ref)");
  } else if (names.find("avx512") == std::string::npos) {
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

}  // namespace

int RunDoctor(const Arguments& arguments) {
  config::Command command;
  command.name = "doctor";
  command.summary =
      "Says whether this machine can run pixii, and how well; exit status 1 if it cannot.";
  auto [parsed, exit] = ParseOrExit(command, arguments);
  if (exit != kGoOn) {
    return exit;
  }
  Findings findings;
  findings.Say(Verdict::kFine, "version", fmt::format("{} ({})", kVersion, kCommit));
  CheckIsa(findings);
  CheckMachine(findings);
  CheckBundledModel(findings);
  return findings.bad() ? kExitNotSo : kExitDone;
}

}  // namespace pixii::apps
