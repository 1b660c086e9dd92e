// A batch as clients see it and as it is kept: many requests of one file, answered when there is
// room.
//
// Thread: values.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "frontend/batch_input.h"
#include "wire/json.h"

namespace pixii::frontend {

enum class BatchStatus : std::uint8_t {
  kValidating,  // also while others are run before it
  kFailed,
  kInProgress,
  kFinalizing,
  kCompleted,
  kExpired,
  kCancelling,
  kCancelled,
};

std::string_view BatchStatusName(BatchStatus status);
bool HasEnded(BatchStatus status);

struct Batch {
  std::string id;
  std::string tenant;
  std::string owner;  // digest of who asked: see ApiKey::owner()
  std::string endpoint;
  std::string input_file_id;
  std::string completion_window;
  wire::Json metadata;                       // an object of texts, or null
  std::int64_t output_lifetime_seconds = 0;  // 0: the store's

  BatchStatus status = BatchStatus::kValidating;
  std::map<BatchStatus, std::int64_t> reached;  // seconds since 1970
  std::int64_t created_at = 0;
  std::int64_t expires_at = 0;

  std::uint64_t total = 0;
  std::uint64_t completed = 0;  // lines answered with 200
  std::uint64_t failed = 0;     // and with anything else, or not run
  std::vector<BatchError> errors;

  // Planned from the start, so that what was written can be found after a crash.
  std::string output_file_id;
  std::string error_file_id;
  bool has_output = false;  // the files exist
  bool has_errors = false;

  /// OpenAI's batch object.
  std::string Body() const;
  /// The same with what only this server knows.
  std::string Record() const;
  /// Of Record(). Errors: kDataCorrupt.
  static Result<Batch> FromRecord(std::string_view text);
};

/// What a client asks for.
struct BatchRequest {
  std::string input_file_id;
  std::string endpoint;
  std::string completion_window;
  std::int64_t window_seconds = 0;
  wire::Json metadata;
  std::int64_t output_lifetime_seconds = 0;
};

/// The body of POST /v1/batches. Errors: kInvalidArgument, kUnsupported, with the field as param.
Result<BatchRequest> ReadBatchRequest(const wire::Json& body);

/// Seconds of {"anchor": "created_at", "seconds": 3600 .. 2592000}. Errors name `param`.
Result<std::int64_t> ReadExpiry(const wire::Json& value, std::string_view param);

}  // namespace pixii::frontend
