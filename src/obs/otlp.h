// Spans and log records as OTLP's protobuf, for its HTTP endpoint.
//
// Thread: pure functions.
// Source: opentelemetry-proto 1.x (trace/v1/trace.proto, logs/v1/logs.proto, common/v1).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "obs/trace.h"

namespace pixii::obs {

struct OtlpResource {
  std::string service_name;
  std::vector<std::pair<std::string, std::string>> attributes = {};
};

/// An ExportTraceServiceRequest.
std::string EncodeTraces(const OtlpResource& resource, std::span<const SpanTree> trees);

struct OtlpLogRecord {
  std::int64_t unix_ns = 0;
  std::uint32_t severity = 9;   // SeverityNumber: 5 DEBUG, 9 INFO, 13 WARN, 17 ERROR
  std::string body;             // text
  std::string trace_id = {};    // 32 hexadecimal digits, or empty
  std::string event_name = {};  // empty: it has none
};

/// An ExportLogsServiceRequest.
std::string EncodeLogs(const OtlpResource& resource, std::span<const OtlpLogRecord> records);

}  // namespace pixii::obs
