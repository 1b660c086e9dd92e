#include "apps/otlp_sender.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "apps/version.h"

namespace pixii::apps {

namespace {

// A collector that hangs must not hold up the end of the process.
rt::HttpClientOptions ClientOptions() {
  return {.connect_timeout_ms = 2000, .stall_timeout_s = 5, .timeout_ms = 10'000};
}

bool IsUrl(std::string_view text) {
  return text.starts_with("http://") || text.starts_with("https://");
}

Result<std::vector<std::pair<std::string, std::string>>> ReadHeaders(std::string_view text) {
  std::vector<std::pair<std::string, std::string>> out;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(','), text.size());
    const std::string_view one = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const std::size_t mark = one.find('=');
    if (mark == one.npos || mark == 0) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("otel-headers: field {} is not name=value", out.size() + 1),
                  "otel-headers");  // its value may be a secret
    }
    out.emplace_back(one.substr(0, mark), one.substr(mark + 1));
  }
  return out;
}

}  // namespace

Result<OtelTarget> OtelTargetOf(const ProcessFlags& flags) {
  if (flags.otel_protocol == "grpc") {
    return Fail(Code::kUnsupported,
                "otel-protocol: grpc is not spoken here; http/protobuf is, which collectors take "
                "on port 4318",
                "otel-protocol");
  }
  OtelTarget out;
  std::string base = flags.otel_endpoint;
  while (base.ends_with('/')) {
    base.pop_back();
  }
  const auto url_of = [&](const std::string& whole, std::string_view flag,
                          std::string_view signal) -> Result<std::string> {
    std::string url = whole.empty() ? fmt::format("{}/v1/{}", base, signal) : whole;
    if (!IsUrl(url)) {
      const std::string name(whole.empty() ? "otel-endpoint" : flag);
      return Fail(Code::kInvalidArgument,
                  fmt::format("{}: \"{}\" must begin with http:// or https://", name, url), name);
    }
    return url;
  };
  PX_TRY(out.traces_url, url_of(flags.otel_traces_endpoint, "otel-traces-endpoint", "traces"));
  PX_TRY(out.logs_url, url_of(flags.otel_logs_endpoint, "otel-logs-endpoint", "logs"));
  PX_TRY(out.headers, ReadHeaders(flags.otel_headers));
  out.headers.emplace_back("content-type", "application/x-protobuf");
  out.resource.service_name = flags.otel_service_name;
  out.resource.attributes = {{"service.version", kVersion}, {"telemetry.sdk.name", "pixii"}};
  return out;
}

OtlpSender::OtlpSender(OtelTarget target)
    : target_(std::move(target)), client_(rt::MakeCurlClient(ClientOptions())) {}

// Only what may succeed later is sent again; OTLP names 429, 502, 503 and 504.
bool OtlpSender::Send(const std::string& url, const std::string& body,
                      const std::function<bool(rt::Duration pause)>& sleep) {
  rt::Duration pause = kRetryPause;
  for (std::uint32_t tries = 1;; ++tries) {
    rt::HttpFetchRequest request;
    request.url = url;
    request.method = "POST";
    request.body = body;
    request.headers = target_.headers;
    const Result<rt::HttpFetchResponse> answer = client_->Fetch(request);
    if (answer && answer->status / 100 == 2) {
      return true;
    }
    const bool again = !answer || answer->status == 429 || answer->status == 502 ||
                       answer->status == 503 || answer->status == 504;
    if (!again || tries >= kTries || sleep(pause)) {
      return false;
    }
    pause *= 2;
  }
}

}  // namespace pixii::apps
