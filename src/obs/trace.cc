#include "obs/trace.h"

#include <fmt/format.h>

#include <array>

namespace pixii::obs {

namespace {

struct Row {
  SpanKind kind;
  std::string_view name;
  std::string_view help;
};

constexpr Row kRows[] = {
#define PX_SPAN(id, kind, name, help) {SpanKind::kind, name, help},
#include "obs/spans.def"
#undef PX_SPAN
};

const Row& RowOf(SpanName name) { return kRows[static_cast<std::size_t>(name)]; }

// Lower case alone, as the standard wants it.
std::optional<std::uint64_t> ReadHex(std::string_view text) {
  std::uint64_t out = 0;
  for (char c : text) {
    if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) {
      return std::nullopt;
    }
    out = out << 4U | static_cast<std::uint64_t>(c <= '9' ? c - '0' : c - 'a' + 10);
  }
  return out;
}

// splitmix64: every bit of the input changes about half of the output's.
std::uint64_t Mix(std::uint64_t value) {
  value += 0x9E3779B97F4A7C15ULL;
  value = (value ^ (value >> 30U)) * 0xBF58476D1CE4E5B9ULL;
  value = (value ^ (value >> 27U)) * 0x94D049BB133111EBULL;
  return value ^ (value >> 31U);
}

}  // namespace

// version "-" trace-id "-" parent-id "-" flags; a later version may have more behind another "-".
std::optional<TraceContext> ParseTraceparent(std::string_view text) {
  constexpr std::size_t kSize = 55;
  if (text.size() < kSize || text[2] != '-' || text[35] != '-' || text[52] != '-') {
    return std::nullopt;
  }
  const std::optional<std::uint64_t> version = ReadHex(text.substr(0, 2));
  const std::optional<std::uint64_t> high = ReadHex(text.substr(3, 16));
  const std::optional<std::uint64_t> low = ReadHex(text.substr(19, 16));
  const std::optional<std::uint64_t> parent = ReadHex(text.substr(36, 16));
  const std::optional<std::uint64_t> flags = ReadHex(text.substr(53, 2));
  if (!version || !high || !low || !parent || !flags || *version == 0xFF || *parent == 0 ||
      (*high == 0 && *low == 0)) {
    return std::nullopt;
  }
  if (text.size() > kSize && (*version == 0 || text[kSize] != '-')) {
    return std::nullopt;
  }
  return TraceContext{.trace = {.high = *high, .low = *low},
                      .parent = SpanId{*parent},
                      .sampled = (*flags & 1U) != 0};
}

std::string ToHex(const TraceId& trace) {
  return fmt::format("{:016x}{:016x}", trace.high, trace.low);
}

std::string ToHex(SpanId span) { return fmt::format("{:016x}", static_cast<std::uint64_t>(span)); }

std::string Traceparent(const TraceContext& context, SpanId span) {
  return fmt::format("00-{:016x}{:016x}-{:016x}-{}", context.trace.high, context.trace.low,
                     static_cast<std::uint64_t>(span), context.sampled ? "01" : "00");
}

TraceId MakeTraceId(std::uint64_t origin, std::uint64_t count) {
  return {.high = Mix(origin), .low = Mix(origin ^ Mix(count)) | 1U};
}

SpanId MakeSpanId(const TraceId& trace, std::uint64_t salt) {
  const std::uint64_t id = Mix(trace.low ^ Mix(trace.high ^ Mix(salt)));
  return SpanId{id == 0 ? 1 : id};
}

bool IsSampled(const TraceId& trace, double ratio) {
  constexpr std::uint64_t kRange = std::uint64_t{1} << 56U;  // the bits that W3C calls random
  return ratio >= 1 ||
         static_cast<double>(trace.low & (kRange - 1)) < ratio * static_cast<double>(kRange);
}

std::string_view NameOf(SpanName name) { return RowOf(name).name; }

SpanKind KindOf(SpanName name) { return RowOf(name).kind; }

std::string SpansReference() {
  std::string out =
      "# Spans\n\nGenerated from `src/obs/spans.def`.\n\n| span | kind | meaning "
      "|\n|---|---|---|\n";
  constexpr std::array<std::string_view, 4> kKinds = {"", "internal", "server", "client"};
  for (const Row& row : kRows) {
    out += fmt::format("| `{}` | {} | {} |\n", row.name, kKinds[static_cast<std::size_t>(row.kind)],
                       row.help);
  }
  return out;
}

}  // namespace pixii::obs
