#include "frontend/access_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <iterator>

#include "base/utf8.h"
#include "wire/json.h"

namespace pixii::frontend {

namespace {

constexpr std::size_t kFieldBytesMax = 512;  // of what clients send

void AppendText(std::string& out, std::string_view name, std::string_view value) {
  fmt::format_to(std::back_inserter(out), R"(,"{}":)", name);
  wire::AppendJsonString(out, value.substr(0, std::min(value.size(), kFieldBytesMax)));
}

}  // namespace

void AppendAccessLine(std::string& out, const Answered& answered, std::string_view trace_header,
                      rt::WallTime now) {
  const auto seconds = static_cast<std::time_t>(now.unix_seconds);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  fmt::format_to(std::back_inserter(out),
                 R"({{"time":"{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z")", parts.tm_year + 1900,
                 parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
                 now.nanoseconds / 1'000'000);
  const wire::HttpRequest& request = answered.request;
  AppendText(out, "method", request.method);
  AppendText(out, "path", request.path);
  fmt::format_to(std::back_inserter(out), R"(,"status":{},"bytes":{},"ms":{:.3f},"whole":{})",
                 answered.status, answered.body_bytes,
                 std::chrono::duration<double, std::milli>(answered.took).count(), answered.whole);
  for (const auto& [name, header] :
       {std::pair<std::string_view, std::string_view>("request_id", "x-request-id"),
        {"trace_id", trace_header}}) {
    const auto value = header.empty() ? std::nullopt : request.Field(header);
    if (value) {
      AppendText(out, name, *value);
    }
  }
  out += "}\n";
}

}  // namespace pixii::frontend
