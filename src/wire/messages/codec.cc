#include "wire/messages/codec.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/type_traits.h"
#include "wire/messages/fields.h"
#include "wire/msgpack.h"

namespace pixii::wire {

namespace {

// Of enums, the largest value; more come from a later version and are refused by name.
template <class Enum>
constexpr auto kLastOf = nullptr;
template <>
constexpr auto kLastOf<ConstraintKind> = ConstraintKind::kScript;
template <>
constexpr auto kLastOf<ScriptNotation> = ScriptNotation::kBareKeys;
template <>
constexpr auto kLastOf<FinishReason> = FinishReason::kError;
template <>
constexpr auto kLastOf<MediaKind> = MediaKind::kVideo;
template <>
constexpr auto kLastOf<MediaFit> = MediaFit::kTiles;
template <>
constexpr auto kLastOf<MediaFilter> = MediaFilter::kLanczos;
template <>
constexpr auto kLastOf<ModelTask> = ModelTask::kClassify;
template <>
constexpr auto kLastOf<WorkerState> = WorkerState::kUnhealthy;
template <>
constexpr auto kLastOf<KvTier> = KvTier::kExternal;
template <>
constexpr auto kLastOf<KvEvent::Kind> = KvEvent::Kind::kCleared;
template <>
constexpr auto kLastOf<RouteNews::Kind> = RouteNews::Kind::kEnded;
template <>
constexpr auto kLastOf<ReplicaChange::Kind> = ReplicaChange::Kind::kFreed;
template <>
constexpr auto kLastOf<ReplicaMessage::Kind> = ReplicaMessage::Kind::kAsk;

constexpr std::size_t kUsualBytes = 256;  // most messages are smaller: one allocation

struct CodeNameOf {
  Code code;
  std::string_view name;
};

constexpr CodeNameOf kCodes[] = {
#define PX_ERROR(name, http, retryable, sentence) {Code::name, #name},
#include "base/error_codes.def"
#undef PX_ERROR
};

template <class T>
constexpr bool kIsMessage = !std::is_same_v<decltype(kFields<T>), const std::nullptr_t>;

// ---- writing

template <class T>
void Write(MsgpackWriter& writer, const T& value);

/// Whether a reader would have the same without the field.
template <class T>
bool IsDefault(const T& value, const T& standard) {
  if constexpr (std::is_arithmetic_v<T> || std::is_enum_v<T>) {
    return value == standard;
  } else if constexpr (IsOptional<T>::value) {
    return !value.has_value();
  } else if constexpr (std::is_same_v<T, std::string> || IsVector<T>::value) {
    return value.empty() && standard.empty();
  } else if constexpr (kIsMessage<T>) {
    return std::apply(
        [&](const auto&... field) {
          return (IsDefault(value.*(field.member), standard.*(field.member)) && ...);
        },
        kFields<T>);
  } else {
    return false;
  }
}

void WriteError(MsgpackWriter& writer, const Error& error) {
  writer.Map(3);
  writer.Text("code");
  writer.Text(CodeName(error.code()));
  writer.Text("detail");
  writer.Text(error.detail());
  writer.Text("param");
  writer.Text(error.param());
}

template <class Message>
void WriteMessage(MsgpackWriter& writer, const Message& message) {
  static const Message kStandard{};
  std::apply(
      [&](const auto&... field) {
        const auto said = [&](const auto& one) {
          return !IsDefault(message.*(one.member), kStandard.*(one.member));
        };
        writer.Map((std::size_t{0} + ... + (said(field) ? 1U : 0U)));
        const auto write = [&](const auto& one) {
          if (said(one)) {
            writer.Text(one.name);
            Write(writer, message.*(one.member));
          }
        };
        (write(field), ...);
      },
      kFields<Message>);
}

template <class T>
void Write(MsgpackWriter& writer, const T& value) {
  if constexpr (std::is_same_v<T, bool>) {
    writer.Bool(value);
  } else if constexpr (std::is_same_v<T, float>) {
    writer.Float(value);
  } else if constexpr (std::is_same_v<T, double>) {
    writer.Double(value);
  } else if constexpr (std::is_enum_v<T>) {
    writer.Uint(static_cast<std::uint64_t>(value));
  } else if constexpr (std::is_signed_v<T>) {
    writer.Int(value);
  } else if constexpr (std::is_unsigned_v<T>) {
    writer.Uint(value);
  } else if constexpr (std::is_same_v<T, std::string>) {
    writer.Bytes(value);  // prompts and states need not be UTF-8
  } else if constexpr (std::is_same_v<T, Error>) {
    WriteError(writer, value);
  } else if constexpr (IsOptional<T>::value) {
    Write(writer, *value);
  } else if constexpr (IsPair<T>::value) {
    writer.Array(2);
    Write(writer, value.first);
    Write(writer, value.second);
  } else if constexpr (IsVector<T>::value) {
    writer.Array(value.size());
    for (const auto& item : value) {
      Write(writer, item);
    }
  } else {
    WriteMessage(writer, value);
  }
}

// ---- reading

// A small value on the wire may be a large one here: what a message unfolds to is bounded, too.
constexpr std::uint64_t kUnfoldedBytesBase = 4U << 20U;
constexpr std::uint64_t kUnfoldedBytesPerByte = 32;

struct Input {
  explicit Input(std::string_view bytes)
      : reader(bytes), bytes_left(kUnfoldedBytesBase + kUnfoldedBytesPerByte * bytes.size()) {}

  MsgpackReader reader;
  std::uint64_t bytes_left;  // that items may still take here
};

template <class T>
Result<void> Read(Input& in, T& value);

Result<Error> ReadError(Input& in) {
  PX_TRY(const std::uint32_t count, in.reader.Map());
  Code code = Code::kInternal;
  std::string detail;
  std::string param;
  for (std::uint32_t i = 0; i < count; ++i) {
    PX_TRY(const std::string_view name, in.reader.Text());
    if (name != "code" && name != "detail" && name != "param") {
      PX_CHECK_OK(in.reader.Skip());
      continue;
    }
    PX_TRY(const std::string_view text, in.reader.Text());
    if (name == "code") {
      for (const CodeNameOf& known : kCodes) {
        code = known.name.substr(1) == text ? known.code : code;
      }
    } else {
      (name == "detail" ? detail : param) = text;
    }
  }
  return Error(code, std::move(detail), std::move(param));
}

template <class Number, class Wide>
Result<void> Narrow(Wide wide, Number& value) {
  if (!std::in_range<Number>(wide)) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{} is not from {} to {}", wide, std::numeric_limits<Number>::min(),
                            std::numeric_limits<Number>::max()));
  }
  value = static_cast<Number>(wide);
  return {};
}

template <class Enum>
Result<void> ReadEnum(Input& in, Enum& value) {
  PX_TRY(const std::uint64_t raw, in.reader.Uint());
  if constexpr (std::is_same_v<decltype(kLastOf<Enum>), const std::nullptr_t>) {
    static_assert(sizeof(Enum) == 8, "an id of all its bits, or an entry of kLastOf");
  } else if (raw > static_cast<std::uint64_t>(kLastOf<Enum>)) {
    return Fail(Code::kInvalidArgument, fmt::format("{} is none of the {} values known here", raw,
                                                    static_cast<std::uint64_t>(kLastOf<Enum>) + 1));
  }
  value = static_cast<Enum>(raw);
  return {};
}

template <class T>
Result<void> ReadItems(Input& in, std::vector<T>& items) {
  PX_TRY(const std::uint32_t count, in.reader.Array());
  items.clear();
  for (std::uint32_t i = 0; i < count; ++i) {
    if (in.bytes_left < sizeof(T)) {
      return Fail(Code::kTooLarge, fmt::format("[{}]: the message unfolds to too many bytes", i));
    }
    in.bytes_left -= sizeof(T);
    T item{};
    if (auto read = Read(in, item); !read) {
      return Fail(read.error().code(), fmt::format("[{}]: {}", i, read.error().detail()));
    }
    items.push_back(std::move(item));
  }
  return {};
}

template <class Message>
Result<void> ReadMessage(Input& in, Message& message) {
  PX_TRY(const std::uint32_t count, in.reader.Map());
  for (std::uint32_t i = 0; i < count; ++i) {
    PX_TRY(const std::string_view name, in.reader.Text());
    bool known = false;
    Result<void> read;
    std::apply(
        [&](const auto&... field) {
          const auto take = [&](const auto& one) {
            if (!known && one.name == name) {
              known = true;
              read = Read(in, message.*(one.member));
            }
          };
          (take(field), ...);
        },
        kFields<Message>);
    if (!known) {
      PX_CHECK_OK(in.reader.Skip());
    } else if (!read) {
      const std::string& detail = read.error().detail();
      return Fail(read.error().code(),
                  fmt::format("{}{}{}", name, detail.starts_with('[') ? "" : ": ", detail));
    }
  }
  return {};
}

template <class T>
Result<void> Read(Input& in, T& value) {
  if constexpr (std::is_same_v<T, bool>) {
    PX_TRY(value, in.reader.Bool());
  } else if constexpr (std::is_floating_point_v<T>) {
    PX_TRY(const double wide, in.reader.Double());
    if (std::isfinite(wide) && std::abs(wide) > std::numeric_limits<T>::max()) {
      return Fail(Code::kInvalidArgument, fmt::format("{} is too large a number", wide));
    }
    value = static_cast<T>(wide);
  } else if constexpr (std::is_enum_v<T>) {
    return ReadEnum(in, value);
  } else if constexpr (std::is_signed_v<T>) {
    PX_TRY(const std::int64_t wide, in.reader.Int());
    return Narrow(wide, value);
  } else if constexpr (std::is_unsigned_v<T>) {
    PX_TRY(const std::uint64_t wide, in.reader.Uint());
    return Narrow(wide, value);
  } else if constexpr (std::is_same_v<T, std::string>) {
    PX_TRY(const std::string_view text, in.reader.Text());
    value = text;
  } else if constexpr (IsOptional<T>::value) {
    if constexpr (std::is_same_v<typename T::value_type, Error>) {
      PX_TRY(value, ReadError(in));
    } else {
      return Read(in, value.emplace());
    }
  } else if constexpr (IsPair<T>::value) {
    PX_TRY(const std::uint32_t count, in.reader.Array());
    if (count != 2) {
      return Fail(Code::kInvalidArgument, fmt::format("{} values where 2 belong", count));
    }
    PX_CHECK_OK(Read(in, value.first));
    return Read(in, value.second);
  } else if constexpr (IsVector<T>::value) {
    return ReadItems(in, value);
  } else {
    return ReadMessage(in, value);
  }
  return {};
}

}  // namespace

template <class Message>
std::string Encode(const Message& message) {
  std::string out;
  out.reserve(kUsualBytes);
  MsgpackWriter writer(out);
  WriteMessage(writer, message);
  return out;
}

template <class Message>
Result<Message> Decode(std::string_view bytes) {
  Input in(bytes);
  Message message{};
  PX_CHECK_OK(ReadMessage(in, message));
  if (!in.reader.at_end()) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{} bytes follow the message", in.reader.size_bytes_left()));
  }
  return message;
}

std::string EncodeError(const Error& error) {
  std::string out;
  MsgpackWriter writer(out);
  WriteError(writer, error);
  return out;
}

Result<Error> DecodeError(std::string_view bytes) {
  Input in(bytes);
  return ReadError(in);
}

#define PX_MESSAGE(Message)                            \
  template std::string Encode(const Message& message); \
  template Result<Message> Decode(std::string_view bytes);
PX_MESSAGE(GenerateRequest)
PX_MESSAGE(TokenFrame)
PX_MESSAGE(CancelRequest)
PX_MESSAGE(ModelCard)
PX_MESSAGE(AdapterCard)
PX_MESSAGE(LoadAdapterRequest)
PX_MESSAGE(WorkerReport)
PX_MESSAGE(KvEvent)
PX_MESSAGE(KvEventsRequest)
PX_MESSAGE(KvEventBatch)
PX_MESSAGE(MemoryRequest)
PX_MESSAGE(RouteBatch)
PX_MESSAGE(RouteAnswers)
PX_MESSAGE(ReplicaMessage)
PX_MESSAGE(AdapterName)
PX_MESSAGE(ModelFiles)
PX_MESSAGE(MuxHello)
PX_MESSAGE(MuxCall)
PX_MESSAGE(HandoverRecord)
PX_MESSAGE(HandoverNote)
PX_MESSAGE(FeatureRecord)
#undef PX_MESSAGE

}  // namespace pixii::wire
