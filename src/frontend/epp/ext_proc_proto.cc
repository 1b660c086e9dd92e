#include "frontend/epp/ext_proc_proto.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/utf8.h"
#include "wire/protobuf.h"

namespace pixii::frontend {

using wire::AppendProtoBytes;
using wire::AppendProtoVarint;
using wire::ForEachField;
using wire::ProtoField;

namespace {

constexpr std::size_t kHeadersMax = 512;     // of one message
constexpr std::size_t kEndpointsMax = 8192;  // of a subset
constexpr std::string_view kSubsetSpace = "envoy.lb.subset_hint";
constexpr std::string_view kSubsetKey = "x-gateway-destination-endpoint-subset";
constexpr std::string_view kDestinationSpace = "envoy.lb";
constexpr std::uint64_t kOverwrite = 2;  // OVERWRITE_IF_EXISTS_OR_ADD

tl::unexpected<Error> Bad(std::string_view what, std::string_view why) {
  return Fail(Code::kInvalidArgument, fmt::format("{} {}", what, why), std::string(what));
}

// An entry of a map with texts as keys; the value is a message.
struct Entry {
  std::string_view key;
  std::string_view value;
};

Result<Entry> ReadEntry(std::string_view message) {
  Entry out;
  PX_CHECK_OK(ForEachField(message, [&](const ProtoField& field) -> Result<void> {
    if (field.is_bytes() && field.number <= 2) {
      (field.number == 1 ? out.key : out.value) = field.bytes;
    }
    return {};
  }));
  return out;
}

// HeaderValue: a name with a text, or with bytes, which go before it.
Result<wire::HttpField> ReadHeader(std::string_view message) {
  wire::HttpField out;
  std::string_view raw;
  PX_CHECK_OK(ForEachField(message, [&](const ProtoField& field) -> Result<void> {
    if (field.is_bytes() && field.number == 1) {
      out.name = field.bytes;
    } else if (field.is_bytes() && field.number == 2) {
      out.value = field.bytes;
    } else if (field.is_bytes() && field.number == 3) {
      raw = field.bytes;
    }
    return {};
  }));
  if (!raw.empty()) {
    out.value = raw;
  }
  const auto breaks = [](char c) { return c == '\0' || c == '\r' || c == '\n'; };
  if (out.name.empty() || std::ranges::any_of(out.name, breaks) ||
      std::ranges::any_of(out.value, breaks)) {
    return Bad("headers", "have one without a name, or one that breaks a line");
  }
  std::ranges::transform(out.name, out.name.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return out;
}

Result<void> ReadHeaders(std::string_view message, ExtProcMessage& out) {
  out.headers.clear();
  return ForEachField(message, [&](const ProtoField& field) -> Result<void> {
    if (field.number == 3 && field.is_varint()) {
      out.end_of_stream = field.value != 0;
    } else if (field.number == 1 && field.is_bytes()) {
      return ForEachField(field.bytes, [&](const ProtoField& header) -> Result<void> {
        if (header.number != 1 || !header.is_bytes()) {
          return {};
        }
        if (out.headers.size() == kHeadersMax) {
          return Bad("headers", fmt::format("are more than {}", kHeadersMax));
        }
        PX_TRY(out.headers.emplace_back(), ReadHeader(header.bytes));
        return {};
      });
    }
    return {};
  });
}

Result<void> ReadBody(std::string_view message, ExtProcMessage& out) {
  out.body.clear();
  return ForEachField(message, [&](const ProtoField& field) -> Result<void> {
    if (field.number == 1 && field.is_bytes()) {
      out.body = field.bytes;
    } else if (field.number == 2 && field.is_varint()) {
      out.end_of_stream = field.value != 0;
    }
    return {};
  });
}

Result<void> AddEndpoints(std::string_view list, std::vector<std::string>& out) {
  while (!list.empty()) {
    const std::size_t comma = std::min(list.find(','), list.size());
    std::string_view one = list.substr(0, comma);
    list.remove_prefix(std::min(comma + 1, list.size()));
    one.remove_prefix(std::min(one.find_first_not_of(' '), one.size()));
    one.remove_suffix(one.size() - 1 - std::min(one.find_last_not_of(' '), one.size() - 1));
    if (out.size() == kEndpointsMax) {
      return Bad("subset", fmt::format("has more than {} endpoints", kEndpointsMax));
    }
    if (!one.empty()) {
      out.emplace_back(one);
    }
  }
  return {};
}

// A Value: a text with commas, or a list of texts.
Result<void> ReadSubset(std::string_view value, std::vector<std::string>& out) {
  return ForEachField(value, [&](const ProtoField& field) -> Result<void> {
    if (field.number == 3 && field.is_bytes()) {
      return AddEndpoints(field.bytes, out);
    }
    if (field.number != 6 || !field.is_bytes()) {
      return {};
    }
    return ForEachField(field.bytes, [&](const ProtoField& item) -> Result<void> {
      if (item.number != 1 || !item.is_bytes()) {
        return {};
      }
      return ForEachField(item.bytes, [&](const ProtoField& text) -> Result<void> {
        return text.number == 3 && text.is_bytes() ? AddEndpoints(text.bytes, out) : Result<void>();
      });
    });
  });
}

// Metadata: only what it says of endpoints is looked at.
Result<void> ReadMetadata(std::string_view message, ExtProcMessage& out) {
  return ForEachField(message, [&](const ProtoField& field) -> Result<void> {
    if (field.number != 1 || !field.is_bytes()) {
      return {};
    }
    PX_TRY(const Entry space, ReadEntry(field.bytes));
    if (space.key != kSubsetSpace) {
      return {};
    }
    return ForEachField(space.value, [&](const ProtoField& member) -> Result<void> {
      if (member.number != 1 || !member.is_bytes()) {
        return {};
      }
      PX_TRY(const Entry entry, ReadEntry(member.bytes));
      if (entry.key != kSubsetKey) {
        return {};
      }
      return ReadSubset(entry.value, out.subset.emplace());
    });
  });
}

Result<std::optional<BodyMode>> ReadMode(std::uint64_t value) {
  if (value > static_cast<std::uint64_t>(BodyMode::kFullDuplex)) {
    return Bad("protocol_config", fmt::format("has the body mode {}, which is not known", value));
  }
  return static_cast<BodyMode>(value);
}

// Modes that are left out are 0, as of every field.
Result<void> ReadProtocol(std::string_view message, ExtProcMessage& out) {
  out.request_body = BodyMode::kNone;
  out.response_body = BodyMode::kNone;
  return ForEachField(message, [&](const ProtoField& field) -> Result<void> {
    if (field.is_varint() && field.number == 1) {
      PX_TRY(out.request_body, ReadMode(field.value));
    } else if (field.is_varint() && field.number == 2) {
      PX_TRY(out.response_body, ReadMode(field.value));
    }
    return {};
  });
}

void AppendMessage(std::string& out, std::uint32_t number, const std::string& message) {
  AppendProtoBytes(out, number, message);
}

std::string Mutation(const std::vector<wire::HttpField>& set,
                     const std::vector<std::string>& remove) {
  std::string out;
  for (const wire::HttpField& field : set) {
    std::string header;
    AppendProtoBytes(header, 1, field.name);
    AppendProtoBytes(header, 3, field.value);
    std::string option;
    AppendMessage(option, 1, header);
    AppendProtoVarint(option, 3, kOverwrite);
    AppendMessage(out, 1, option);
  }
  for (const std::string& name : remove) {
    AppendProtoBytes(out, 2, name);
  }
  return out;
}

std::string Common(const RouteChange* change, const std::string& body_mutation) {
  std::string out;
  if (change != nullptr) {
    std::vector<wire::HttpField> set = change->set;
    set.insert(set.begin(), {std::string(kDestinationKey), change->endpoint});
    AppendMessage(out, 2, Mutation(set, change->remove));
  }
  if (!body_mutation.empty()) {
    AppendMessage(out, 3, body_mutation);
  }
  if (change != nullptr) {
    AppendProtoVarint(out, 5, 1);  // the route may depend on the header
  }
  return out;
}

// {"envoy.lb": {"x-gateway-destination-endpoint": endpoint}}
std::string Metadata(const std::string& endpoint) {
  const auto entry = [](std::string_view key, const std::string& value) {
    std::string pair;
    AppendProtoBytes(pair, 1, key);
    AppendMessage(pair, 2, value);
    std::string fields;
    AppendMessage(fields, 1, pair);
    return fields;
  };
  std::string text;
  AppendProtoBytes(text, 3, endpoint);
  std::string inner;
  AppendMessage(inner, 5, entry(kDestinationKey, text));
  return entry(kDestinationSpace, inner);
}

// The number of the reply to a message.
std::uint32_t ReplyNumber(ExtProcMessage::Kind kind) {
  using Kind = ExtProcMessage::Kind;
  switch (kind) {
    case Kind::kNothing:
    case Kind::kRequestHeaders:
      return 1;
    case Kind::kResponseHeaders:
      return 2;
    case Kind::kRequestBody:
      return 3;
    case Kind::kResponseBody:
      return 4;
    case Kind::kRequestTrailers:
      return 5;
    case Kind::kResponseTrailers:
      return 6;
  }
  return 1;
}

std::string Reply(ExtProcMessage::Kind kind, const RouteChange* change,
                  const std::string& body_mutation) {
  std::string response;
  AppendMessage(response, 1, Common(change, body_mutation));
  std::string out;
  AppendMessage(out, ReplyNumber(kind), response);
  if (change != nullptr) {
    AppendMessage(out, 8, Metadata(change->endpoint));
  }
  return out;
}

// Those that envoy.type.v3.StatusCode has and that an answer may have.
int KnownStatus(int status) {
  constexpr std::array kOthers{421, 422, 423, 424, 426, 428, 429, 431, 511};
  const bool known = (status >= 200 && status <= 208) || (status >= 300 && status <= 308) ||
                     (status >= 400 && status <= 417) || (status >= 500 && status <= 508) ||
                     std::ranges::find(kOthers, status) != kOthers.end();
  return known ? status : status >= 400 && status < 500 ? 400 : 503;
}

}  // namespace

Result<ExtProcMessage> ReadExtProcMessage(std::string_view message) {
  using Kind = ExtProcMessage::Kind;
  ExtProcMessage out;
  PX_CHECK_OK(ForEachField(message, [&](const ProtoField& field) -> Result<void> {
    if (field.number == 10 && field.is_varint()) {
      out.observes = field.value != 0;
      return {};
    }
    if (!field.is_bytes()) {
      return {};
    }
    switch (field.number) {
      case 2:
      case 3:
        out.kind = field.number == 2 ? Kind::kRequestHeaders : Kind::kResponseHeaders;
        return ReadHeaders(field.bytes, out);
      case 4:
      case 5:
        out.kind = field.number == 4 ? Kind::kRequestBody : Kind::kResponseBody;
        return ReadBody(field.bytes, out);
      case 6:
      case 7:
        out.kind = field.number == 6 ? Kind::kRequestTrailers : Kind::kResponseTrailers;
        return {};
      case 8:
        return ReadMetadata(field.bytes, out);
      case 11:
        return ReadProtocol(field.bytes, out);
      default:
        return {};
    }
  }));
  return out;
}

std::string HeadersReply(ExtProcMessage::Kind kind, const RouteChange* change) {
  return Reply(kind, change, "");
}

std::string BodyReply(ExtProcMessage::Kind kind, const RouteChange* change,
                      const std::string* body) {
  std::string mutation;
  if (body != nullptr) {
    AppendProtoBytes(mutation, 1, *body);
  }
  return Reply(kind, change, mutation);
}

std::string StreamedBodyReply(ExtProcMessage::Kind kind, std::string_view piece, bool last) {
  std::string streamed;
  AppendProtoBytes(streamed, 1, piece);
  if (last) {
    AppendProtoVarint(streamed, 2, 1);
  }
  std::string mutation;
  AppendMessage(mutation, 3, streamed);
  return Reply(kind, nullptr, mutation);
}

std::string TrailersReply(ExtProcMessage::Kind kind) {
  std::string out;
  AppendMessage(out, ReplyNumber(kind), "");
  return out;
}

std::string ImmediateReply(int status, const std::vector<wire::HttpField>& fields,
                           std::string_view body, std::string_view why) {
  std::string code;
  AppendProtoVarint(code, 1, static_cast<std::uint64_t>(KnownStatus(status)));
  std::string reply;
  AppendMessage(reply, 1, code);
  AppendMessage(reply, 2, Mutation(fields, {}));
  AppendProtoBytes(reply, 3, body);
  AppendProtoBytes(reply, 5, why);
  std::string out;
  AppendMessage(out, 7, reply);
  return out;
}

Result<std::string> ReadHealthCheck(std::string_view message) {
  std::string out;
  PX_CHECK_OK(ForEachField(message, [&](const ProtoField& field) -> Result<void> {
    if (field.number == 1 && field.is_bytes()) {
      out = field.bytes;
    }
    return {};
  }));
  return out;
}

std::string HealthReply(Health health) {
  std::string out;
  AppendProtoVarint(out, 1, static_cast<std::uint64_t>(health));
  return out;
}

}  // namespace pixii::frontend
