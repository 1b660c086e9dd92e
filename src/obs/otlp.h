// Spans as OTLP's protobuf, for its HTTP endpoint.
//
// Thread: pure functions.
// Source: opentelemetry-proto 1.x (trace/v1/trace.proto, common/v1).
#pragma once

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

}  // namespace pixii::obs
