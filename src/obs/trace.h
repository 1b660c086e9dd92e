// Traces: W3C trace context, and spans of one table.
//
// Thread: values and pure functions. docs/observability.md
// Source: W3C Trace Context (Recommendation, 2021): traceparent and tracestate.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace pixii::obs {

struct TraceId {
  std::uint64_t high = 0;
  std::uint64_t low = 0;

  friend bool operator==(const TraceId&, const TraceId&) = default;
};

/// 0: none.
enum class SpanId : std::uint64_t {};

inline constexpr std::size_t kTraceStateBytesMax = 512;

struct TraceContext {
  TraceId trace;
  SpanId parent{};  // the span that caused this one
  bool sampled = false;
  std::string state = {};  // tracestate, passed on as it came
};

/// Nothing if it is malformed: then a new trace begins.
std::optional<TraceContext> ParseTraceparent(std::string_view text);

/// "00-…-…-01" with `span` as the parent of whoever reads it.
std::string Traceparent(const TraceContext& context, SpanId span);

/// 32 and 16 hexadecimal digits.
std::string ToHex(const TraceId& trace);
std::string ToHex(SpanId span);

/// Ids from two numbers that are never given twice together; never 0.
TraceId MakeTraceId(std::uint64_t origin, std::uint64_t count);
SpanId MakeSpanId(const TraceId& trace, std::uint64_t salt);

/// Whether one of a share of traces is sampled; all who ask agree.
bool IsSampled(const TraceId& trace, double ratio);

enum class SpanKind : std::uint8_t { kInternal = 1, kServer = 2, kClient = 3 };  // OTLP's numbers

enum class SpanName : std::uint8_t {
#define PX_SPAN(id, kind, name, help) id,
#include "obs/spans.def"
#undef PX_SPAN
};

std::string_view NameOf(SpanName name);
SpanKind KindOf(SpanName name);

using SpanValue = std::variant<std::int64_t, double, bool, std::string>;

struct SpanAttribute {
  std::string_view key;  // of a literal
  SpanValue value;
};

struct SpanLink {
  SpanId span{};
  std::string_view why;  // of a literal
};

struct Span {
  SpanName name{};
  SpanId id{};
  SpanId parent{};            // 0: the trace's own beginning
  std::int64_t begin_ns = 0;  // since the request began
  std::int64_t end_ns = 0;
  std::string error = {};  // empty: it ended well
  std::vector<SpanAttribute> attributes = {};
  std::vector<SpanLink> links = {};
};

/// One request's spans, the root first and each behind its parent.
struct SpanTree {
  TraceId trace;
  std::string state;
  std::int64_t begin_unix_ns = 0;
  std::vector<Span> spans;
};

/// docs/reference/spans.md.
std::string SpansReference();

}  // namespace pixii::obs
