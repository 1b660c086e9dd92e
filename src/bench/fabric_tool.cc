#include "bench/fabric_tool.h"

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rt/child_process.h"
#include "rt/file.h"
#include "rt/random.h"
#include "rt/thread.h"

namespace pixii::bench {

namespace {

using transport::FabricKind;

constexpr int kTriesMax = 40;  // until the other side listens
constexpr rt::Duration kTimeMax = std::chrono::seconds(20);
constexpr rt::Duration kLook = std::chrono::milliseconds(10);
constexpr std::uint64_t kOutputBytesMax = 1 << 20;
constexpr double kMebibyte = 1048576.0;

std::vector<std::string> Words(std::string_view line) {
  std::vector<std::string> out;
  while (!line.empty()) {
    const std::size_t begin = line.find_first_not_of(" \t");
    if (begin == std::string_view::npos) {
      break;
    }
    line.remove_prefix(begin);
    const std::size_t end = std::min(line.find_first_of(" \t"), line.size());
    out.emplace_back(line.substr(0, end));
    line.remove_prefix(end);
  }
  return out;
}

/// The last line with at least so many words, whose first is `first` where that is not empty.
std::vector<std::string> LastLine(std::string_view text, std::string_view first,
                                  std::size_t words_min) {
  std::vector<std::string> out;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::vector<std::string> words = Words(text.substr(0, end));
    if (words.size() >= words_min && (first.empty() || words.front() == first)) {
      out = std::move(words);
    }
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

std::optional<double> Number(const std::string& word) {
  char* end = nullptr;
  const double value = std::strtod(word.c_str(), &end);
  return end != word.c_str() && value > 0 ? std::optional(value) : std::nullopt;
}

/// GB/s in what the program wrote.
std::optional<double> ReadFigure(FabricKind kind, std::string_view text) {
  if (kind == FabricKind::kUcx) {
    // "Final:", count, three latencies, MiB/s of the last part and of all, two message rates.
    const std::vector<std::string> words = LastLine(text, "Final:", 7);
    const std::optional<double> figure = words.empty() ? std::nullopt : Number(words[6]);
    return figure ? std::optional(*figure * kMebibyte * 1e-9) : std::nullopt;
  }
  // Size, sent, answered, total, time, MB/s, ..
  const std::vector<std::string> words = LastLine(text, {}, 8);
  const std::optional<double> figure = words.empty() ? std::nullopt : Number(words[5]);
  return figure ? std::optional(*figure * 1e-3) : std::nullopt;
}

struct Commands {
  std::vector<std::string> server;
  std::vector<std::string> client;
  std::vector<std::pair<std::string, std::string>> environment;
};

Commands CommandsOf(const FabricToolOptions& options, const std::string& port) {
  const std::string size = std::to_string(options.message_bytes);
  const std::string count = std::to_string(options.count);
  if (options.kind == FabricKind::kUcx) {
    Commands out;
    out.server = {"ucx_perftest", "-p", port};
    out.client = {"ucx_perftest", "127.0.0.1",
                  "-p",           port,
                  "-t",           options.shared_memory ? "ucp_put_bw" : "ucp_get",
                  "-s",           size,
                  "-n",           count,
                  "-w",           "10",
                  "-O",           std::to_string(options.depth)};
    if (!options.shared_memory) {
      out.server.emplace_back("-e");
      out.client.emplace_back("-e");
      out.environment = {{"UCX_TLS", "tcp,self"}, {"UCX_NET_DEVICES", "lo"}};
    }
    out.environment.emplace_back("UCX_LOG_LEVEL", "error");
    return out;
  }
  const std::vector<std::string> both = {"fi_pingpong", "-p",  "tcp", "-e", "rdm",
                                         "-I",          count, "-S",  size};
  Commands out{.server = both, .client = both, .environment = {}};
  out.server.insert(out.server.end(), {"-B", port});
  out.client.insert(out.client.end(), {"-P", port, "127.0.0.1"});
  return out;
}

/// These programs spin: beside others that want the cores some never come to an end.
bool EndsInTime(rt::ChildProcess& client) {
  rt::Mutex mutex;
  rt::CondVar never;
  rt::MutexLock lock(mutex);
  for (rt::Duration waited{}; client.running(); waited += kLook) {
    if (waited > kTimeMax) {
      return false;
    }
    never.WaitFor(mutex, kLook);
  }
  return true;
}

}  // namespace

Result<double> RunFabricTool(const FabricToolOptions& options) {
  rt::Random random = rt::Random::FromSystem();
  const std::string port = std::to_string(20'000 + random.Below(20'000));
  const std::string output = fmt::format("/tmp/pixii-tool-{}-{}", rt::OwnPid(), port);
  const Commands commands = CommandsOf(options, port);
  PX_TRY(rt::ChildProcess server, rt::ChildProcess::Start({.arguments = commands.server,
                                                           .environment = commands.environment}));
  std::string said;
  std::optional<double> figure;
  for (int tries = 0; tries < kTriesMax && !figure && server.running(); ++tries) {
    PX_TRY(rt::ChildProcess client, rt::ChildProcess::Start({.arguments = commands.client,
                                                             .output = output,
                                                             .environment = commands.environment}));
    if (!EndsInTime(client)) {
      (void)client.Stop(SIGKILL);
      break;
    }
    Result<std::string> text = rt::ReadFile(output, kOutputBytesMax);
    said = text ? std::move(*text) : text.error().ToString();
    figure = ReadFigure(options.kind, said);
  }
  (void)rt::RemoveFile(output);
  if (!figure) {
    return Fail(Code::kUnavailable,
                fmt::format("{} gave no figure: {}", commands.client.front(), said));
  }
  return *figure;
}

}  // namespace pixii::bench
