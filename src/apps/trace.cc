// pixii trace REQUEST_ID: the timeline of one request in the terminal. pixii trace --to-mooncake
// FILE RECORDS...: records of requests as a trace to replay.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "apps/cluster_unit.h"
#include "apps/command.h"
#include "apps/option_structs.h"
#include "apps/process_unit.h"
#include "control/discovery.h"
#include "rt/file.h"
#include "rt/gzip.h"
#include "rt/http_client.h"
#include "sim/record_trace.h"
#include "wire/json.h"

namespace pixii::apps {

using wire::Json;

namespace {

constexpr std::size_t kNameColumns = 34;
constexpr std::size_t kBarColumns = 48;
constexpr std::size_t kDepthMax = 16;
constexpr std::uint32_t kTimeoutMs = 10'000;

std::int64_t IntOf(const Json& object, std::string_view key) {
  const Json* value = object.Find(key);
  return value != nullptr ? value->AsInt().value_or(0) : 0;
}

std::string TextOf(const Json& object, std::string_view key) {
  const Json* value = object.Find(key);
  return value != nullptr && value->is_string() ? value->string() : std::string();
}

std::string Encoded(std::string_view id) {
  std::string out;
  for (char c : id) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                       c == '-' || c == '_' || c == '.';
    out += plain ? std::string(1, c)
                 : fmt::format("%{:02X}", static_cast<unsigned>(static_cast<unsigned char>(c)));
  }
  return out;
}

// What of a span's attributes stands beside its bar.
std::string NoteOf(const Json& span) {
  std::string out = TextOf(span, "error");
  const Json* attributes = span.Find("attributes");
  for (const std::string_view key :
       {"pixii.phase", "pixii.worker", "pixii.attempt", "pixii.cached_tokens",
        "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens",
        "gen_ai.response.finish_reasons"}) {
    const Json* value = attributes != nullptr ? attributes->Find(key) : nullptr;
    if (value != nullptr) {
      const std::string_view name = key.substr(key.rfind('.') + 1);
      out += fmt::format("{}{}={}", out.empty() ? "" : " ", name,
                         value->is_string() ? value->string() : value->Dump());
    }
  }
  return out;
}

// Spans as a tree, each with its bar on one scale.
std::string Chart(const Json& trace) {
  const double whole = static_cast<double>(std::max<std::int64_t>(IntOf(trace, "duration_ns"), 1));
  std::string out =
      fmt::format("request {}  trace {}\nmodel {}  {:.3f} ms\n\n", TextOf(trace, "id"),
                  TextOf(trace, "trace_id"), TextOf(trace, "model"), whole / 1e6);
  std::map<std::string, std::size_t> depths;
  const Json* spans = trace.Find("spans");
  if (spans == nullptr || !spans->is_array()) {
    return out;
  }
  for (const Json& span : spans->array()) {
    const auto parent = depths.find(TextOf(span, "parent_span_id"));
    const std::size_t depth = parent == depths.end() ? 0 : std::min(parent->second + 1, kDepthMax);
    depths[TextOf(span, "span_id")] = depth;
    const auto begin = static_cast<double>(IntOf(span, "start_ns"));
    const auto end = static_cast<double>(IntOf(span, "end_ns"));
    const auto column = [&](double at) {  // a server says what it likes
      const double share = std::clamp(at / whole, 0.0, 1.0);
      return std::min(static_cast<std::size_t>(share * kBarColumns), kBarColumns - 1);
    };
    const std::size_t first = column(begin);
    const std::size_t last = std::max(first, column(end));
    const std::string name = std::string(2 * depth, ' ') + TextOf(span, "name");
    out += fmt::format("{:<{}} |{}{}{}| {:>9.3f} {:>9.3f} ms  {}\n", name.substr(0, kNameColumns),
                       kNameColumns, std::string(first, ' '),
                       std::string(last - first + 1, TextOf(span, "error").empty() ? '#' : 'x'),
                       std::string(kBarColumns - 1 - last, ' '), begin / 1e6, (end - begin) / 1e6,
                       NoteOf(span));
  }
  return out;
}

Result<std::string> FetchTrace(const std::string& url, const std::string& id,
                               const std::string& key) {
  rt::HttpFetchRequest request;
  request.url = fmt::format("{}/v1/traces/{}", url, Encoded(id));
  if (!key.empty()) {
    request.headers.emplace_back("authorization", "Bearer " + key);
  }
  PX_TRY(const rt::HttpFetchResponse answer,
         rt::MakeCurlClient({.timeout_ms = kTimeoutMs})->Fetch(request));
  if (answer.status == 200) {
    return answer.body;
  }
  const Result<Json> said = wire::ParseJson(answer.body);
  const Json* error = said ? said->Find("error") : nullptr;
  return Fail(
      answer.status == 404 ? Code::kNotFound : Code::kUnavailable,
      fmt::format("{} answered {}: {}", url, answer.status,
                  error != nullptr ? TextOf(*error, "message") : answer.body.substr(0, 200)));
}

// The frontends that say in discovery where they are. Errors: kUnavailable if the store does not
// answer.
Result<std::vector<std::string>> FindFrontends(const ClusterFlags& flags) {
  constexpr rt::Duration kPatience = std::chrono::seconds(10);
  constexpr rt::Duration kLook = std::chrono::milliseconds(10);
  // Who only looks makes no folder.
  constexpr std::string_view kFolder = "file:";
  const std::string_view place = flags.discovery;
  if (place.starts_with(kFolder) && place.size() > kFolder.size() &&
      !std::filesystem::is_directory(place.substr(kFolder.size()))) {
    return Fail(Code::kInvalidArgument,
                fmt::format("discovery: there is no folder {}", place.substr(kFolder.size())),
                "discovery");
  }
  ProcessUnit process;
  ProcessFlags quiet;
  quiet.log_level = "error";
  PX_CHECK_OK(process.Open(quiet, {}));
  PX_TRY(const std::unique_ptr<control::Discovery> discovery, OpenDiscovery(process, flags));
  const std::unique_ptr<control::InstanceWatch> watch =
      discovery->Watch(flags.ns, [](const std::vector<control::MembershipChange>& /*changes*/) {});
  rt::Loop& loop = process.loop();
  const rt::Time until = loop.Now() + kPatience;
  std::function<void()> look = [&] {
    if (watch->complete() || loop.Now() >= until) {
      loop.Stop();
    } else {
      loop.RunAt(loop.Now() + kLook, look);
    }
  };
  look();
  loop.Run();
  if (!watch->complete()) {
    return Fail(Code::kUnavailable,
                fmt::format("discovery: {} does not answer: {}", flags.discovery,
                            watch->trouble() ? watch->trouble()->detail() : "no word of it"),
                "discovery");
  }
  std::vector<std::string> out;
  for (const auto& [id, instance] : watch->instances()) {
    if (instance.component == kFrontendComponent &&
        (instance.endpoint == kHttpEndpoint || instance.endpoint == kHttpsEndpoint)) {
      out.push_back(fmt::format("{}://{}", instance.endpoint, instance.address));
    }
  }
  if (out.empty()) {
    return Fail(Code::kNotFound,
                fmt::format("discovery: no frontend of {} says there where it is reached; start "
                            "them with --announce-http, or give --url",
                            flags.ns.empty() ? "any namespace" : flags.ns),
                "discovery");
  }
  return out;
}

constexpr std::uint64_t kRecordsBytesMax = std::uint64_t{4} << 30;  // of one file

Result<void> AddFile(const std::string& path, sim::Records& records) {
  PX_TRY(std::string text, rt::ReadFile(path, kRecordsBytesMax));
  if (path.ends_with(".gz")) {
    Result<std::string> whole = rt::Gunzip(text, kRecordsBytesMax);
    if (!whole) {
      return Fail(whole.error().code(), fmt::format("{}: {}", path, whole.error().detail()));
    }
    text = std::move(*whole);
  }
  return sim::AddRecords(text, path, records);
}

Result<void> Convert(const std::vector<std::string>& files, const std::string& target,
                     bool agentic) {
  sim::Records records;
  for (const std::string& file : files) {
    PX_CHECK_OK(AddFile(file, records));
  }
  const std::size_t requests = records.requests.size();
  const std::uint32_t block = records.block_tokens;
  const std::size_t left_out = records.left_out;
  PX_TRY(const std::string text, sim::ToMooncake(std::move(records), agentic));
  PX_CHECK_OK(rt::WriteFileAtomic(target, text, 0600));
  Say("{} requests, {} left out, which have no prompt; pixii simulate --scenario trace --trace {} "
      "--trace-block-size {} replays them\n",
      requests, left_out, target, block);
  return {};
}

}  // namespace

int RunTrace(const Arguments& arguments) {
  std::vector<std::string> urls;
  std::string key;
  bool json = false;
  config::Command command;
  command.name = "trace";
  command.summary =
      "Prints the timeline of one ended request, or makes a trace to replay of records of "
      "requests.";
  command.positionals = {
      {.name = "REQUEST_ID",
       .help = "id of the answer, x-request-id or trace id; with --to-mooncake files of records",
       .required = true,
       .repeated = true}};
  std::string mooncake;
  bool agentic = false;
  ClusterFlags cluster;
  std::string discovery;
  command.options.resize(7);
  command.options[5].name = "discovery";
  command.options[5].field = config::TextField{&discovery, {}};
  command.options[5].help =
      "asks all frontends of a cluster that say there where they are (--announce-http), as "
      "frontends have it; none: --url";
  command.options[6].name = "namespace";
  command.options[6].field = config::TextField{&cluster.ns, {}};
  command.options[6].help = "with discovery: of the cluster";
  command.options[3].name = "to-mooncake";
  command.options[3].field = config::TextField{&mooncake, {}};
  command.options[3].help =
      "file that gets the requests of --request-trace's records in Mooncake's form; .gz ones are "
      "read, too";
  command.options[4].name = "agentic";
  command.options[4].field = config::BoolField{&agentic};
  command.options[4].help = "with to-mooncake: sessions, what each turn waits for and their tools";
  command.options[0].name = "url";
  command.options[0].field = config::ListField{&urls, {}};
  command.options[0].help =
      "a frontend, http://127.0.0.1:8000 if none is given; several are asked in their order";
  command.options[1].name = "api-key";
  command.options[1].field = config::TextField{&key, {}};
  command.options[1].help = "of an administrator, where the frontends have keys";
  command.options[2].name = "json";
  command.options[2].field = config::BoolField{&json};
  command.options[2].help = "prints what the frontend answered";
  auto [parsed, exit] = ParseOrExit(command, arguments);
  if (exit != kGoOn) {
    return exit;
  }
  if (!mooncake.empty()) {
    const Result<void> done = Convert(parsed.positionals, mooncake, agentic);
    return done ? kExitDone : Complain(done.error());
  }
  if (parsed.positionals.size() > 1) {
    return Complain(Error(Code::kInvalidArgument, "REQUEST_ID: one at a time"));
  }
  if (!discovery.empty()) {
    cluster.discovery = discovery;
    Result<std::vector<std::string>> found = FindFrontends(cluster);
    if (!found) {
      return Complain(found.error());
    }
    urls.insert(urls.end(), found->begin(), found->end());
  }
  if (urls.empty()) {
    urls = {"http://127.0.0.1:8000"};
  }
  std::string missing;
  bool away = false;
  for (std::string url : urls) {
    while (url.ends_with('/')) {
      url.pop_back();
    }
    const Result<std::string> body = FetchTrace(url, parsed.positionals[0], key);
    const Result<Json> trace = body ? wire::ParseJson(*body) : Result<Json>(Fail(body.error()));
    if (trace) {
      Say("{}", json ? *body + "\n" : Chart(*trace));
      return kExitDone;
    }
    if (trace.error().code() != Code::kNotFound && urls.size() == 1) {
      return Complain(trace.error());
    }
    away = away || trace.error().code() != Code::kNotFound;  // another may know it all the same
    missing += (missing.empty() ? "" : "; ") + trace.error().detail();
  }
  SayError("pixii: {}\n", missing);
  return away ? kExitFailed : kExitNotSo;
}

}  // namespace pixii::apps
