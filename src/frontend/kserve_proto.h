// KServe's gRPC messages as requests to the server's own routes, and answers of these as messages.
//
// Thread: pure. Source: the public messages of KServe's protocol v2 and of Triton's extension of it
// (names, numbers and types of fields; tests/e2e/kserve/kserve.proto has those that are used).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "wire/http.h"
#include "wire/json.h"

namespace pixii::frontend {

enum class KserveMethod : std::uint8_t {
  kServerLive,
  kServerReady,
  kModelReady,
  kServerMetadata,
  kModelMetadata,
  kModelConfig,
  kModelInfer,
  kModelStreamInfer,
};

/// The method of a gRPC path; nothing: there is none.
std::optional<KserveMethod> FindKserveMethod(std::string_view path);

struct KserveCall {
  KserveMethod method = KserveMethod::kServerLive;
  wire::HttpRequest request;  // method, path and body
  std::string model;
  std::string id;
  bool streams = false;              // the answer comes in pieces
  bool raw = false;                  // tensors come as raw bytes, and go as such
  std::vector<std::string> outputs;  // asked for; empty: all
};

/// A message of `method` as a call. Errors: kInvalidArgument, kUnsupported, kNotFound (another
/// version than 1), with the tensor or parameter as param; without one: the message is no protocol
/// buffer.
Result<KserveCall> ReadKserveMessage(KserveMethod method, std::string_view message);

/// The message that answers `call`, of the JSON that its route has given.
std::string KserveReply(const KserveCall& call, const wire::Json& body);

/// One event of generate_stream as a message of ModelStreamInfer.
std::string KservePiece(const KserveCall& call, const wire::Json& event);

/// A request of a stream that failed.
std::string KserveFailure(const KserveCall& call, std::string_view message);

/// gRPC's status for one of ours, as the table of error codes maps them to HTTP.
int GrpcStatusOf(int http_status);

}  // namespace pixii::frontend
