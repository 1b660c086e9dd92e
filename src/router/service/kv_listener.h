// Who listens to the KV events of an engine that discovery does not tell of.
//
// Thread: one loop.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "wire/messages/kv_event.h"

namespace pixii::router {

struct KvListenerSpec {
  std::string endpoint;         // "pixii://HOST:PORT" or "tcp://HOST:PORT"
  std::string replay_endpoint;  // of missed events; empty: none
  std::uint32_t rank = 0;       // whose events they are, if they do not say
  std::uint32_t block_tokens = 0;
};

class KvListener {
 public:
  enum class Status : std::uint8_t { kPending, kActive, kPaused, kFailed };

  virtual ~KvListener() = default;

  virtual Status status() const = 0;

  /// Why there is no connection; empty: there is one, or none was tried.
  virtual std::string last_error() const = 0;
};

/// "pending", "active", "paused", "failed".
constexpr std::string_view StatusName(KvListener::Status status) {
  switch (status) {
    case KvListener::Status::kPending:
      return "pending";
    case KvListener::Status::kActive:
      return "active";
    case KvListener::Status::kPaused:
      return "paused";
    case KvListener::Status::kFailed:
      return "failed";
  }
  return "failed";
}

using KvEventsHandler = std::function<void(std::vector<wire::KvEvent> events)>;

/// Begins to listen; what is not there yet is waited for. Errors: kInvalidArgument naming the
/// endpoint, kUnsupported for its scheme.
using KvListenerFactory = std::function<Result<std::unique_ptr<KvListener>>(
    const KvListenerSpec& spec, KvEventsHandler on_events)>;

}  // namespace pixii::router
