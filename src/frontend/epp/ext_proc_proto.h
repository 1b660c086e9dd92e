// Messages of Envoy's external processing as they travel, and the few of gRPC's health service.
//
// Thread: pure. Source: names and numbers of the published messages (envoy.service.ext_proc.v3,
// envoy.config.core.v3, google.protobuf.Struct, grpc.health.v1); keys of the Gateway API inference
// extension's endpoint picker protocol 1.0. tests/e2e/epp/ext_proc.proto has those that are used.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "wire/http.h"

namespace pixii::frontend {

inline constexpr std::string_view kDestinationKey = "x-gateway-destination-endpoint";

/// How a gateway sends bodies; numbers as they travel.
enum class BodyMode : std::uint8_t {
  kNone = 0,
  kStreamed = 1,         // a piece at a time, each answered before the next
  kBuffered = 2,         // whole
  kBufferedPartial = 3,  // as much of it as the gateway holds
  kFullDuplex = 4,       // pieces both ways
};

struct ExtProcMessage {
  enum class Kind : std::uint8_t {
    kNothing,  // of a version that is not known
    kRequestHeaders,
    kResponseHeaders,
    kRequestBody,
    kResponseBody,
    kRequestTrailers,
    kResponseTrailers,
  };

  Kind kind = Kind::kNothing;
  std::vector<wire::HttpField> headers;  // with those that begin with ":"
  std::string body;
  bool end_of_stream = false;
  bool observes = false;  // no reply is wanted to this
  /// The only endpoints that may be chosen; nothing: any.
  std::optional<std::vector<std::string>> subset;
  std::optional<BodyMode> request_body;  // of the first message, if the gateway says so
  std::optional<BodyMode> response_body;
};

/// Errors: kInvalidArgument: it is none, or has more fields or endpoints than anybody needs.
Result<ExtProcMessage> ReadExtProcMessage(std::string_view message);

/// Where a request goes: header and metadata.
struct RouteChange {
  std::string endpoint;                  // IP:PORT
  std::vector<wire::HttpField> set;      // headers besides
  std::vector<std::string> remove = {};  // headers
};

// Replies to messages of a kind. `change` null: nothing changes.
std::string HeadersReply(ExtProcMessage::Kind kind, const RouteChange* change);
/// `body`: in place of the one that was sent whole.
std::string BodyReply(ExtProcMessage::Kind kind, const RouteChange* change,
                      const std::string* body);
std::string StreamedBodyReply(ExtProcMessage::Kind kind, std::string_view piece, bool last);
std::string TrailersReply(ExtProcMessage::Kind kind);

/// The gateway answers the client so, and asks no worker. A status that gateways do not know
/// becomes the nearest that they do.
std::string ImmediateReply(int status, const std::vector<wire::HttpField>& fields,
                           std::string_view body, std::string_view why);

/// The service that a health check asks about. Errors: kInvalidArgument.
Result<std::string> ReadHealthCheck(std::string_view message);

enum class Health : std::uint8_t { kUnknown = 0, kServing = 1, kNotServing = 2, kNoService = 3 };

std::string HealthReply(Health health);

}  // namespace pixii::frontend
