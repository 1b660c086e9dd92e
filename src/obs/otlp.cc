#include "obs/otlp.h"

#include <bit>
#include <charconv>
#include <cstdint>
#include <string_view>

namespace pixii::obs {

namespace {

constexpr std::uint32_t kVarint = 0;
constexpr std::uint32_t kFixed64 = 1;
constexpr std::uint32_t kBytes = 2;

void PutVarint(std::string& out, std::uint64_t value) {
  while (value >= 0x80) {
    out += static_cast<char>(value | 0x80U);
    value >>= 7U;
  }
  out += static_cast<char>(value);
}

void PutTag(std::string& out, std::uint32_t field, std::uint32_t type) {
  PutVarint(out, field << 3U | type);
}

void PutInt(std::string& out, std::uint32_t field, std::uint64_t value) {
  PutTag(out, field, kVarint);
  PutVarint(out, value);
}

void PutFixed(std::string& out, std::uint32_t field, std::uint64_t value) {
  PutTag(out, field, kFixed64);
  for (std::uint32_t i = 0; i < 8; ++i) {
    out += static_cast<char>(value >> (8 * i));
  }
}

void PutBytes(std::string& out, std::uint32_t field, std::string_view value) {
  PutTag(out, field, kBytes);
  PutVarint(out, value.size());
  out += value;
}

std::string BigEndian(std::uint64_t value) {
  std::string out;
  for (std::uint32_t i = 8; i-- > 0;) {
    out += static_cast<char>(value >> (8 * i));
  }
  return out;
}

std::string IdBytes(const TraceId& trace) { return BigEndian(trace.high) + BigEndian(trace.low); }

std::string IdBytes(SpanId span) { return BigEndian(static_cast<std::uint64_t>(span)); }

std::string AnyValue(const SpanValue& value) {
  std::string out;
  if (const auto* text = std::get_if<std::string>(&value)) {
    PutBytes(out, 1, *text);
  } else if (const auto* flag = std::get_if<bool>(&value)) {
    PutInt(out, 2, *flag ? 1 : 0);
  } else if (const auto* number = std::get_if<std::int64_t>(&value)) {
    PutInt(out, 3, static_cast<std::uint64_t>(*number));
  } else {
    PutFixed(out, 4, std::bit_cast<std::uint64_t>(std::get<double>(value)));
  }
  return out;
}

void PutAttribute(std::string& out, std::uint32_t field, std::string_view key,
                  const SpanValue& value) {
  std::string pair;
  PutBytes(pair, 1, key);
  PutBytes(pair, 2, AnyValue(value));
  PutBytes(out, field, pair);
}

std::string EncodeSpan(const SpanTree& tree, const Span& span) {
  std::string out;
  PutBytes(out, 1, IdBytes(tree.trace));
  PutBytes(out, 2, IdBytes(span.id));
  if (!tree.state.empty()) {
    PutBytes(out, 3, tree.state);
  }
  if (span.parent != SpanId{}) {
    PutBytes(out, 4, IdBytes(span.parent));
  }
  PutBytes(out, 5, NameOf(span.name));
  PutInt(out, 6, static_cast<std::uint64_t>(KindOf(span.name)));
  PutFixed(out, 7, static_cast<std::uint64_t>(tree.begin_unix_ns + span.begin_ns));
  PutFixed(out, 8, static_cast<std::uint64_t>(tree.begin_unix_ns + span.end_ns));
  for (const SpanAttribute& attribute : span.attributes) {
    PutAttribute(out, 9, attribute.key, attribute.value);
  }
  for (const SpanLink& link : span.links) {
    std::string bytes;
    PutBytes(bytes, 1, IdBytes(tree.trace));
    PutBytes(bytes, 2, IdBytes(link.span));
    PutAttribute(bytes, 4, "pixii.link", std::string(link.why));
    PutBytes(out, 13, bytes);
  }
  if (!span.error.empty()) {
    std::string status;
    PutBytes(status, 2, span.error);
    PutInt(status, 3, 2);  // STATUS_CODE_ERROR
    PutBytes(out, 15, status);
  }
  return out;
}

std::string_view SeverityText(std::uint32_t severity) {
  return severity >= 17 ? "ERROR" : severity >= 13 ? "WARN" : severity >= 9 ? "INFO" : "DEBUG";
}

/// 16 bytes; empty for what are no 32 hexadecimal digits.
std::string TraceIdBytes(std::string_view hex) {
  std::string out;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    unsigned value = 0;
    const auto [end, failed] = std::from_chars(hex.data() + i, hex.data() + i + 2, value, 16);
    if (failed != std::errc() || end != hex.data() + i + 2) {
      return {};
    }
    out += static_cast<char>(value);
  }
  return out.size() == 16 ? out : std::string();
}

std::string EncodeLog(const OtlpLogRecord& record) {
  std::string out;
  PutFixed(out, 1, static_cast<std::uint64_t>(record.unix_ns));
  PutInt(out, 2, record.severity);
  PutBytes(out, 3, SeverityText(record.severity));
  PutBytes(out, 5, AnyValue(record.body));
  if (!record.event_name.empty()) {
    PutAttribute(out, 6, "event.name", record.event_name);
  }
  if (const std::string id = TraceIdBytes(record.trace_id); !id.empty()) {
    PutBytes(out, 9, id);
  }
  PutFixed(out, 11, static_cast<std::uint64_t>(record.unix_ns));  // observed then
  if (!record.event_name.empty()) {
    PutBytes(out, 12, record.event_name);
  }
  return out;
}

std::string EncodeResource(const OtlpResource& resource) {
  std::string out;
  PutAttribute(out, 1, "service.name", resource.service_name);
  for (const auto& [key, value] : resource.attributes) {
    PutAttribute(out, 1, key, value);
  }
  return out;
}

// resource and its one scope, whose field 2 each of `items` is: the same for spans and log records.
std::string Envelope(const OtlpResource& resource, std::span<const std::string> items) {
  std::string scope;
  PutBytes(scope, 1, "pixii");
  std::string of_scope;
  PutBytes(of_scope, 1, scope);
  for (const std::string& item : items) {
    PutBytes(of_scope, 2, item);
  }
  std::string of_resource;
  PutBytes(of_resource, 1, EncodeResource(resource));
  PutBytes(of_resource, 2, of_scope);
  std::string out;
  PutBytes(out, 1, of_resource);
  return out;
}

}  // namespace

std::string EncodeTraces(const OtlpResource& resource, std::span<const SpanTree> trees) {
  std::vector<std::string> spans;
  for (const SpanTree& tree : trees) {
    for (const Span& span : tree.spans) {
      spans.push_back(EncodeSpan(tree, span));
    }
  }
  return Envelope(resource, spans);
}

std::string EncodeLogs(const OtlpResource& resource, std::span<const OtlpLogRecord> records) {
  std::vector<std::string> items;
  items.reserve(records.size());
  for (const OtlpLogRecord& record : records) {
    items.push_back(EncodeLog(record));
  }
  return Envelope(resource, items);
}

}  // namespace pixii::obs
