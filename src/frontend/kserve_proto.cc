#include "frontend/kserve_proto.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <utility>

#include "base/utf8.h"
#include "frontend/field_error.h"
#include "frontend/openai_request.h"
#include "wire/protobuf.h"

namespace pixii::frontend {

using wire::Json;
using wire::ProtoField;
using wire::ProtoReader;

namespace {

constexpr std::string_view kService = "/inference.GRPCInferenceService/";
constexpr auto kMethods = std::to_array<std::pair<std::string_view, KserveMethod>>({
    {"ServerLive", KserveMethod::kServerLive},
    {"ServerReady", KserveMethod::kServerReady},
    {"ModelReady", KserveMethod::kModelReady},
    {"ServerMetadata", KserveMethod::kServerMetadata},
    {"ModelMetadata", KserveMethod::kModelMetadata},
    {"ModelConfig", KserveMethod::kModelConfig},
    {"ModelInfer", KserveMethod::kModelInfer},
    {"ModelStreamInfer", KserveMethod::kModelStreamInfer},
});

constexpr std::size_t kTensorsMax = 16;  // inputs, and outputs asked for
constexpr std::size_t kDimensionsMax = 8;
constexpr std::size_t kParametersMax = 256;
constexpr std::string_view kFinalFlag = "triton_final_response";
constexpr std::string_view kEmptyFinalFlag = "triton_enable_empty_final_response";

// Calls `use` with each field; what it does not know it skips.
template <class Use>
Result<void> ForEachField(std::string_view message, const Use& use) {
  ProtoReader reader(message);
  while (true) {
    PX_TRY(const std::optional<ProtoField> field, reader.Next());
    if (!field) {
      return {};
    }
    PX_CHECK_OK(use(*field));
  }
}

Result<void> CheckText(std::string_view text, const std::string& at) {
  return IsValidUtf8(text) ? Result<void>() : Bad(at, "is not UTF-8");
}

// One of bool_param, int64_param, string_param, double_param, uint64_param.
Result<Json> ReadParameter(std::string_view message, const std::string& at) {
  Json out;
  PX_CHECK_OK(ForEachField(message, [&](const ProtoField& field) -> Result<void> {
    if (field.number == 1 && field.is_varint()) {
      out = Json(field.value != 0);
    } else if (field.number == 2 && field.is_varint()) {
      out = Json(static_cast<std::int64_t>(field.value));
    } else if (field.number == 3 && field.is_bytes()) {
      PX_CHECK_OK(CheckText(field.bytes, at));
      out = Json(field.bytes);
    } else if (field.number == 4 && field.kind == ProtoField::Kind::kFixed64) {
      const auto value = std::bit_cast<double>(field.value);
      if (!std::isfinite(value)) {
        return Bad(at, "is no finite number");
      }
      out = Json(value);
    } else if (field.number == 5 && field.is_varint()) {
      out = Json(field.value);
    }
    return {};
  }));
  return out;
}

// An entry of map<string, InferParameter>.
Result<void> AddParameter(std::string_view message, Json& out) {
  std::string name;
  std::string_view value;
  PX_CHECK_OK(ForEachField(message, [&](const ProtoField& field) -> Result<void> {
    if (field.number == 1 && field.is_bytes()) {
      PX_CHECK_OK(CheckText(field.bytes, "parameters"));
      name = field.bytes;
    } else if (field.number == 2 && field.is_bytes()) {
      value = field.bytes;
    }
    return {};
  }));
  if (out.is_object() && out.object().size() >= kParametersMax) {
    return Bad("parameters", fmt::format("has more than {} entries", kParametersMax));
  }
  if (name != kEmptyFinalFlag) {  // the last message always says that it is
    PX_TRY(Json read, ReadParameter(value, name));
    out.Set(name, std::move(read));
  }
  return {};
}

struct Tensor {
  std::string name;
  std::string datatype;
  std::vector<std::uint64_t> shape;
  std::vector<std::string_view> texts;  // bytes_contents
  std::vector<std::uint64_t> flags;     // bool_contents
  bool has_contents = false;
};

Result<void> ReadContents(std::string_view message, Tensor& out) {
  out.has_contents = true;
  return ForEachField(message, [&](const ProtoField& field) -> Result<void> {
    if (field.number == 1) {
      return wire::AppendProtoIntegers(field, 1, out.flags);
    }
    if (field.number == 8 && field.is_bytes()) {
      out.texts.push_back(field.bytes);
    }
    return out.texts.size() > 1 ? Result<void>(Bad(out.name, "has more than one element"))
                                : Result<void>();
  });
}

Result<Tensor> ReadTensor(std::string_view message) {
  Tensor out;
  std::string_view contents;
  bool has_contents = false;
  PX_CHECK_OK(ForEachField(message, [&](const ProtoField& field) -> Result<void> {
    if (field.number == 1 && field.is_bytes()) {
      PX_CHECK_OK(CheckText(field.bytes, "inputs"));
      out.name = field.bytes;
    } else if (field.number == 2 && field.is_bytes()) {
      out.datatype = field.bytes;
    } else if (field.number == 3) {
      return wire::AppendProtoIntegers(field, kDimensionsMax, out.shape);
    } else if (field.number == 5 && field.is_bytes()) {
      contents = field.bytes;
      has_contents = true;
    }
    return {};
  }));
  if (has_contents) {
    PX_CHECK_OK(ReadContents(contents, out));
  }
  return out;
}

// The one element of a raw BYTES tensor: its length in four bytes, little endian, then itself.
Result<std::string_view> RawText(std::string_view raw, const std::string& at) {
  std::uint64_t size = 0;
  for (std::size_t i = 0; i < 4 && i < raw.size(); ++i) {
    size |= std::uint64_t{static_cast<unsigned char>(raw[i])} << (8 * i);
  }
  if (raw.size() < 4 || raw.size() - 4 != size) {
    return Bad(at, "its raw contents are not one element with its length in front");
  }
  return raw.substr(4);
}

struct InferMessage {
  std::string version;
  Json parameters{Json::Object{}};
  std::vector<Tensor> inputs;
  std::vector<std::string_view> raw_inputs;
  std::string text;
  bool has_text = false;
};

Result<std::string> ReadOutputName(std::string_view message) {
  std::string out;
  PX_CHECK_OK(ForEachField(message, [&](const ProtoField& field) -> Result<void> {
    if (field.number == 1 && field.is_bytes()) {
      out = field.bytes;
    }
    return {};
  }));
  if (out != "text_output" && out != "finish_reason") {
    return Bad("outputs", fmt::format("the model has no output {}", Shown(Json(out))));
  }
  return out;
}

Result<void> ReadInferField(const ProtoField& field, KserveCall& call, InferMessage& out) {
  if (!field.is_bytes()) {
    return {};
  }
  switch (field.number) {
    case 1:
      call.model = field.bytes;
      return CheckText(field.bytes, "model_name");
    case 2:
      out.version = field.bytes;
      return CheckText(field.bytes, "model_version");
    case 3:
      call.id = field.bytes;
      return CheckText(field.bytes, "id");
    case 4:
      return AddParameter(field.bytes, out.parameters);
    case 5: {
      PX_TRY(out.inputs.emplace_back(), ReadTensor(field.bytes));
      break;
    }
    case 6: {
      PX_TRY(call.outputs.emplace_back(), ReadOutputName(field.bytes));
      break;
    }
    case 7:
      out.raw_inputs.push_back(field.bytes);
      break;
    default:
      break;
  }
  const std::size_t most =
      std::max({out.inputs.size(), call.outputs.size(), out.raw_inputs.size()});
  return most > kTensorsMax ? Result<void>(Bad("inputs", "has too many tensors")) : Result<void>();
}

Result<void> TakeTensor(const Tensor& tensor, const std::string_view* raw, KserveCall& call,
                        InferMessage& out) {
  const std::string& name = tensor.name;
  const bool one = !tensor.shape.empty() && tensor.shape.size() <= 2 &&
                   std::ranges::all_of(tensor.shape, [](std::uint64_t size) { return size == 1; });
  const bool text = name == "text_input";
  if (!text && name != "streaming" && name != "stream") {
    return Bad("inputs", fmt::format("the model has no input {}", Shown(Json(name))));
  }
  if (tensor.datatype != (text ? "BYTES" : "BOOL")) {
    return Bad(name, fmt::format("its datatype must be {}", text ? "BYTES" : "BOOL"));
  }
  if (!one) {
    return Bad(name, "its shape must be [1]");
  }
  if ((raw != nullptr) == tensor.has_contents) {
    return Bad(name, "it needs either contents or raw contents");
  }
  if (text) {
    std::string_view bytes;
    if (raw != nullptr) {
      PX_TRY(bytes, RawText(*raw, name));
    } else if (tensor.texts.size() == 1) {
      bytes = tensor.texts.front();
    } else {
      return Bad(name, "it has no element");
    }
    PX_CHECK_OK(CheckText(bytes, name));
    out.text = bytes;
    out.has_text = true;
    return {};
  }
  if (raw != nullptr ? raw->size() != 1 : tensor.flags.size() != 1) {
    return Bad(name, "it must have one element");
  }
  call.streams = raw != nullptr ? raw->front() != 0 : tensor.flags.front() != 0;
  return {};
}

std::string Encoded(std::string_view name) {
  std::string out;
  for (char c : name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '_' || c == '.' || c == '/';
    if (plain) {
      out += c;
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

Result<void> CheckModel(const KserveCall& call, const std::string& version) {
  if (call.model.empty() || call.model.find('\0') != std::string::npos) {
    return Bad("model_name", "is needed");
  }
  if (!version.empty() && version != "1") {
    return Fail(Code::kNotFound, fmt::format("the model has no version {}", Shown(Json(version))),
                "model_version");
  }
  return {};
}

std::string ModelPath(const KserveCall& call, std::string_view suffix) {
  return fmt::format("/v2/models/{}{}", Encoded(call.model), suffix);
}

Result<void> ReadInfer(std::string_view message, KserveCall& call) {
  InferMessage read;
  PX_CHECK_OK(ForEachField(
      message, [&](const ProtoField& field) { return ReadInferField(field, call, read); }));
  PX_CHECK_OK(CheckModel(call, read.version));
  call.raw = !read.raw_inputs.empty();
  if (call.raw && read.raw_inputs.size() != read.inputs.size()) {
    return Bad("raw_input_contents", "must have an entry for each input");
  }
  for (std::size_t i = 0; i < read.inputs.size(); ++i) {
    PX_CHECK_OK(TakeTensor(read.inputs[i], call.raw ? &read.raw_inputs[i] : nullptr, call, read));
  }
  if (!read.has_text) {
    return Bad("inputs", "the tensor text_input is missing");
  }
  if (call.streams && call.method == KserveMethod::kModelInfer) {
    return Fail(Code::kUnsupported, "streaming: ModelInfer gives one answer; use ModelStreamInfer",
                "streaming");
  }
  Json body{Json::Object{}};
  if (!call.id.empty()) {
    body.Set("id", call.id);
  }
  if (call.streams) {
    body.Set("text_input", read.text);
  } else {
    Json tensor{Json::Object{}};
    tensor.Set("name", "text_input");
    tensor.Set("datatype", "BYTES");
    tensor.Set("shape", Json::Array{Json(1)});
    tensor.Set("data", Json::Array{Json(read.text)});
    body.Set("inputs", Json::Array{std::move(tensor)});
  }
  body.Set("parameters", std::move(read.parameters));
  call.request.method = "POST";
  call.request.path = ModelPath(call, call.streams ? "/generate_stream" : "/infer");
  call.request.body = body.Dump();
  return {};
}

// ModelReady, ModelMetadata and ModelConfig ask with a name and a version.
Result<void> ReadModelName(std::string_view message, std::string_view suffix, KserveCall& call) {
  std::string version;
  PX_CHECK_OK(ForEachField(message, [&](const ProtoField& field) -> Result<void> {
    if (field.number <= 2 && field.is_bytes()) {
      (field.number == 1 ? call.model : version) = field.bytes;
      return CheckText(field.bytes, "name");
    }
    return {};
  }));
  PX_CHECK_OK(CheckModel(call, version));
  call.request.path = ModelPath(call, suffix);
  return {};
}

std::string TextOf(const Json& body, std::string_view name) {
  const Json* found = body.Find(name);
  return found != nullptr && found->is_string() ? found->string() : std::string();
}

const Json::Array& ListOf(const Json& body, std::string_view name) {
  static const Json::Array kNone;
  const Json* found = body.Find(name);
  return found != nullptr && found->is_array() ? found->array() : kNone;
}

// Names and shapes of the routes' metadata, as TensorMetadata.
void AppendTensors(std::string& out, std::uint32_t number, const Json::Array& tensors) {
  for (const Json& tensor : tensors) {
    std::string one;
    wire::AppendProtoBytes(one, 1, TextOf(tensor, "name"));
    wire::AppendProtoBytes(one, 2, TextOf(tensor, "datatype"));
    for (const Json& size : ListOf(tensor, "shape")) {
      wire::AppendProtoVarint(one, 3, static_cast<std::uint64_t>(size.AsInt().value_or(0)));
    }
    wire::AppendProtoBytes(out, number, one);
  }
}

// The same as ModelInput and ModelOutput of Triton's ModelConfig.
void AppendConfigTensors(std::string& out, std::uint32_t number, std::uint32_t dims,
                         const Json::Array& tensors) {
  constexpr std::uint64_t kTypeBool = 1;
  constexpr std::uint64_t kTypeString = 13;
  for (const Json& tensor : tensors) {
    std::string one;
    wire::AppendProtoBytes(one, 1, TextOf(tensor, "name"));
    wire::AppendProtoVarint(one, 2, TextOf(tensor, "datatype") == "BOOL" ? kTypeBool : kTypeString);
    for (const Json& size : ListOf(tensor, "shape")) {
      wire::AppendProtoVarint(one, dims, static_cast<std::uint64_t>(size.AsInt().value_or(0)));
    }
    const Json* optional = tensor.Find("optional");
    if (number == 5 && optional != nullptr && *optional == Json(true)) {
      wire::AppendProtoVarint(one, 8, 1);
    }
    wire::AppendProtoBytes(out, number, one);
  }
}

std::string Config(const Json& body) {
  std::string config;
  wire::AppendProtoBytes(config, 1, TextOf(body, "name"));
  wire::AppendProtoBytes(config, 2, TextOf(body, "platform"));
  AppendConfigTensors(config, 5, 4, ListOf(body, "inputs"));
  AppendConfigTensors(config, 6, 3, ListOf(body, "outputs"));
  wire::AppendProtoBytes(config, 17, TextOf(body, "platform"));
  std::string decoupled;
  wire::AppendProtoVarint(decoupled, 1, 1);
  wire::AppendProtoBytes(config, 19, decoupled);
  std::string out;
  wire::AppendProtoBytes(out, 1, config);
  return out;
}

// Adds BYTES tensors to a ModelInferResponse, each either in its own contents or in raw ones.
class ResponseBuilder {
 public:
  explicit ResponseBuilder(const KserveCall& call) : call_(call) {
    wire::AppendProtoBytes(out_, 1, call.model);
    wire::AppendProtoBytes(out_, 2, "1");
    if (!call.id.empty()) {
      wire::AppendProtoBytes(out_, 3, call.id);
    }
  }

  void Flag(std::string_view name, bool value) {
    std::string parameter;
    wire::AppendProtoVarint(parameter, 1, value ? 1 : 0);
    std::string entry;
    wire::AppendProtoBytes(entry, 1, name);
    wire::AppendProtoBytes(entry, 2, parameter);
    wire::AppendProtoBytes(out_, 4, entry);
  }

  void Tensor(std::string_view name, const std::vector<std::string>& texts) {
    if (!call_.outputs.empty() && std::ranges::find(call_.outputs, name) == call_.outputs.end()) {
      return;
    }
    std::string tensor;
    wire::AppendProtoBytes(tensor, 1, name);
    wire::AppendProtoBytes(tensor, 2, "BYTES");
    wire::AppendProtoVarint(tensor, 3, texts.size());
    std::string contents;
    for (const std::string& text : texts) {
      if (call_.raw) {
        for (unsigned shift = 0; shift < 32; shift += 8) {
          contents += static_cast<char>((text.size() >> shift) & 0xFF);
        }
        contents += text;
      } else {
        wire::AppendProtoBytes(contents, 8, text);
      }
    }
    if (call_.raw) {
      wire::AppendProtoBytes(raw_, 6, contents);
    } else {
      wire::AppendProtoBytes(tensor, 5, contents);
    }
    wire::AppendProtoBytes(out_, 5, tensor);
  }

  std::string Take() && { return std::move(out_) + raw_; }

 private:
  const KserveCall& call_;
  std::string out_;
  std::string raw_;
};

std::string InferReply(const KserveCall& call, const Json& body) {
  ResponseBuilder out(call);
  if (call.method == KserveMethod::kModelStreamInfer) {
    out.Flag(kFinalFlag, true);
  }
  for (const Json& tensor : ListOf(body, "outputs")) {
    std::vector<std::string> texts;
    for (const Json& text : ListOf(tensor, "data")) {
      texts.push_back(text.is_string() ? text.string() : std::string());
    }
    out.Tensor(TextOf(tensor, "name"), texts);
  }
  std::string response = std::move(out).Take();
  if (call.method == KserveMethod::kModelInfer) {
    return response;
  }
  std::string wrapped;
  wire::AppendProtoBytes(wrapped, 2, response);
  return wrapped;
}

}  // namespace

std::optional<KserveMethod> FindKserveMethod(std::string_view path) {
  if (path.starts_with(kService)) {
    for (const auto& [name, method] : kMethods) {
      if (path.substr(kService.size()) == name) {
        return method;
      }
    }
  }
  return std::nullopt;
}

Result<KserveCall> ReadKserveMessage(KserveMethod method, std::string_view message) {
  KserveCall out;
  out.method = method;
  out.request.method = "GET";
  Result<void> read;
  switch (method) {
    case KserveMethod::kServerLive:
      out.request.path = "/v2/health/live";
      break;
    case KserveMethod::kServerReady:
      out.request.path = "/v2/health/ready";
      break;
    case KserveMethod::kServerMetadata:
      out.request.path = "/v2";
      break;
    case KserveMethod::kModelReady:
      read = ReadModelName(message, "/ready", out);
      break;
    case KserveMethod::kModelMetadata:
    case KserveMethod::kModelConfig:
      read = ReadModelName(message, "", out);
      break;
    case KserveMethod::kModelInfer:
    case KserveMethod::kModelStreamInfer:
      read = ReadInfer(message, out);
      break;
  }
  PX_CHECK_OK(read);
  return out;
}

std::string KserveReply(const KserveCall& call, const Json& body) {
  std::string out;
  switch (call.method) {
    case KserveMethod::kServerLive:
    case KserveMethod::kServerReady:
    case KserveMethod::kModelReady: {
      const Json* flag = body.Find(call.method == KserveMethod::kServerLive ? "live" : "ready");
      wire::AppendProtoVarint(out, 1, flag != nullptr && *flag == Json(true) ? 1 : 0);
      return out;
    }
    case KserveMethod::kServerMetadata:
      wire::AppendProtoBytes(out, 1, TextOf(body, "name"));
      wire::AppendProtoBytes(out, 2, TextOf(body, "version"));
      return out;
    case KserveMethod::kModelMetadata:
      wire::AppendProtoBytes(out, 1, TextOf(body, "name"));
      for (const Json& version : ListOf(body, "versions")) {
        wire::AppendProtoBytes(out, 2, version.is_string() ? version.string() : std::string());
      }
      wire::AppendProtoBytes(out, 3, TextOf(body, "platform"));
      AppendTensors(out, 4, ListOf(body, "inputs"));
      AppendTensors(out, 5, ListOf(body, "outputs"));
      return out;
    case KserveMethod::kModelConfig:
      return Config(body);
    case KserveMethod::kModelInfer:
    case KserveMethod::kModelStreamInfer:
      return InferReply(call, body);
  }
  return out;
}

std::string KservePiece(const KserveCall& call, const Json& event) {
  ResponseBuilder response(call);
  const std::string finish = TextOf(event, "finish_reason");
  response.Flag(kFinalFlag, !finish.empty());
  response.Tensor("text_output", {TextOf(event, "text_output")});
  response.Tensor("finish_reason", {finish});
  std::string out;
  wire::AppendProtoBytes(out, 2, std::move(response).Take());
  return out;
}

std::string KserveFailure(const KserveCall& call, std::string_view message) {
  ResponseBuilder response(call);
  response.Flag(kFinalFlag, true);
  std::string out;
  wire::AppendProtoBytes(out, 1, message);
  wire::AppendProtoBytes(out, 2, std::move(response).Take());
  return out;
}

int GrpcStatusOf(int http_status) {
  // gRPC's numbers: https://grpc.io/docs/guides/status-codes
  constexpr auto kStatuses = std::to_array<std::pair<int, int>>({
      {200, 0},   // OK
      {401, 16},  // UNAUTHENTICATED
      {403, 7},   // PERMISSION_DENIED
      {404, 5},   // NOT_FOUND
      {405, 12},  // UNIMPLEMENTED
      {413, 8},   // RESOURCE_EXHAUSTED
      {429, 8},
      {499, 1},  // CANCELLED
      {501, 12},
      {503, 14},  // UNAVAILABLE
      {504, 4},   // DEADLINE_EXCEEDED
      {529, 8},
  });
  for (const auto& [http, grpc] : kStatuses) {
    if (http == http_status) {
      return grpc;
    }
  }
  return http_status >= 400 && http_status < 500 ? 3 : 13;  // INVALID_ARGUMENT, INTERNAL
}

}  // namespace pixii::frontend
