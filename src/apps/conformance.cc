#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apps/command.h"
#include "apps/option_structs.h"
#include "bench/conformance.h"
#include "bench/server_url.h"
#include "rt/file.h"
#include "rt/loop.h"
#include "rt/net.h"

namespace pixii::apps {

namespace {

std::vector<std::string> Words(std::string_view text) {
  std::vector<std::string> out;
  while (!text.empty()) {
    const std::size_t comma = text.find(',');
    if (comma != 0) {
      out.emplace_back(text.substr(0, comma));
    }
    text.remove_prefix(comma == text.npos ? text.size() : comma + 1);
  }
  return out;
}

Result<int> ListCases(const std::vector<std::string>& only) {
  PX_TRY(const std::vector<bench::ConformanceCase> cases,
         bench::SelectCases(bench::ConformanceCases(), only));
  for (const bench::ConformanceCase& asked : cases) {
    Say("{}/{}\n    {}\n    {}: {}\n", asked.group, asked.name, asked.asks,
        asked.authority == bench::Authority::kOpenAi ? "openai" : "ours", asked.source);
  }
  Say("{} cases\n", cases.size());
  return kExitDone;
}

rt::Task<void> Drive(rt::Loop& loop, rt::Net& net, bench::ConformanceOptions options,
                     Result<bench::ConformanceReport>& out) {
  auto run = bench::RunConformance(loop, net, std::move(options));
  out = co_await std::move(run);
  loop.Stop();
}

Result<int> Run(const ConformanceFlags& flags, const std::vector<std::string>& words) {
  const std::vector<std::string> only = Words(flags.only);
  if (flags.list) {
    return ListCases(only);
  }
  if (words.empty()) {
    return Fail(Code::kInvalidArgument, "pixii conformance URL names the server to ask", "URL");
  }
  PX_TRY(const bench::ServerUrl url, bench::ParseServerUrl(words.front()));
  PX_TRY(const std::unique_ptr<rt::Loop> loop, rt::MakeLoop());
  PX_TRY(const bench::ServerNet server, bench::Reach(url, flags.ca, *loop));
  Result<bench::ConformanceReport> report = Fail(Code::kInternal, "nothing was asked");
  loop->Spawn(Drive(*loop, server.net(),
                    {.server = server.address,
                     .host = url.HostField(),
                     .base_path = url.base_path,
                     .api_key = flags.api_key,
                     .model = flags.model,
                     .only = only,
                     .patience = rt::Duration(flags.timeout),
                     .load_patience = rt::Duration(flags.load_timeout)},
                    report));
  loop->Run();
  if (!report) {
    return Fail(report.error());
  }
  Say("{}", report->ToText());
  if (!flags.json_file.empty()) {
    wire::Json json = report->ToJson();
    json.Set("url", words.front());
    PX_CHECK_OK(rt::WriteFileAtomic(flags.json_file, json.Dump() + "\n", 0644));
  }
  return report->failed() == 0 ? kExitDone : kExitNotSo;
}

}  // namespace

int RunConformance(const Arguments& arguments) {
  ConformanceFlags flags;
  config::Command command;
  command.name = "conformance";
  command.summary =
      "Asks an OpenAI-compatible server what OpenAI's reference and Pixii promise, and prints a "
      "table; exit status 1 if a case fails.";
  command.options = RowsOf(flags);
  command.positionals = {{.name = "URL", .help = "http://host:port or https://host of the server"}};
  const auto [parsed, exit] = ParseOrExit(command, arguments);
  if (exit != kGoOn) {
    return exit;
  }
  const Result<int> done = Run(flags, parsed.positionals);
  return done ? *done : Complain(done.error());
}

}  // namespace pixii::apps
