// Exports to a collector of OpenTelemetry, by OTLP over HTTP, with a few tries each.
//
// Thread: one, which it blocks.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "apps/option_structs.h"
#include "base/result.h"
#include "obs/otlp.h"
#include "rt/http_client.h"
#include "rt/time.h"

namespace pixii::apps {

struct OtelTarget {
  std::string traces_url;
  std::string logs_url;
  std::vector<std::pair<std::string, std::string>> headers;
  obs::OtlpResource resource;
};

/// Errors: kInvalidArgument, kUnsupported (grpc), naming the flag.
Result<OtelTarget> OtelTargetOf(const ProcessFlags& flags);

class OtlpSender final {
 public:
  static constexpr std::uint32_t kTries = 4;  // of one export, with pauses that double
  static constexpr rt::Duration kRetryPause = std::chrono::milliseconds(250);

  explicit OtlpSender(OtelTarget target);

  const OtelTarget& target() const { return target_; }

  /// Whether the collector took it. `sleep` waits, or says that there is no time for another try.
  bool Send(const std::string& url, const std::string& body,
            const std::function<bool(rt::Duration pause)>& sleep);

 private:
  const OtelTarget target_;
  std::unique_ptr<rt::HttpClient> client_;
};

}  // namespace pixii::apps
