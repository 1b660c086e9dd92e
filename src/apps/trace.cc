// pixii trace REQUEST_ID: the timeline of one request in the terminal.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "apps/command.h"
#include "rt/http_client.h"
#include "wire/json.h"

namespace pixii::apps {

using wire::Json;

namespace {

constexpr std::size_t kNameColumns = 34;
constexpr std::size_t kBarColumns = 48;
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
    const std::size_t depth = parent == depths.end() ? 0 : parent->second + 1;
    depths[TextOf(span, "span_id")] = depth;
    const auto begin = static_cast<double>(IntOf(span, "start_ns"));
    const auto end = static_cast<double>(IntOf(span, "end_ns"));
    const auto column = [&](double at) {
      return std::min(static_cast<std::size_t>(at / whole * kBarColumns), kBarColumns - 1);
    };
    const std::size_t first = column(begin);
    const std::size_t last = column(end);
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

}  // namespace

int RunTrace(const Arguments& arguments) {
  std::vector<std::string> urls;
  std::string key;
  bool json = false;
  config::Command command;
  command.name = "trace";
  command.summary = "Prints the timeline of one ended request.";
  command.positionals = {{.name = "REQUEST_ID",
                          .help = "id of the answer, x-request-id or trace id",
                          .required = true,
                          .repeated = false}};
  command.options.resize(3);
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
  if (urls.empty()) {
    urls = {"http://127.0.0.1:8000"};
  }
  std::string missing;
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
    if (trace.error().code() != Code::kNotFound) {
      return Complain(trace.error());
    }
    missing += (missing.empty() ? "" : "; ") + trace.error().detail();
  }
  SayError("pixii: {}\n", missing);
  return kExitNotSo;
}

}  // namespace pixii::apps
