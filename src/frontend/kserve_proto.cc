#include "frontend/kserve_proto.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <utility>

#include "base/utf8.h"
#include "frontend/field_error.h"
#include "frontend/kserve.h"
#include "frontend/openai_request.h"
#include "wire/protobuf.h"

namespace pixii::frontend {

using wire::ForEachField;
using wire::Json;
using wire::ProtoField;

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
constexpr std::string_view kEmptyFinalFlag = "triton_enable_empty_final_response";

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
  Json parameters{Json::Object{}};
  std::vector<std::string_view> texts;  // bytes_contents
  std::vector<std::uint64_t> flags;     // bool_contents
  bool has_contents = false;
  bool has_others = false;  // contents of other datatypes
};

Result<void> ReadContents(std::string_view message, Tensor& out) {
  out.has_contents = true;
  return ForEachField(message, [&](const ProtoField& field) -> Result<void> {
    if (field.number == 1) {
      return wire::AppendProtoIntegers(field, 1, out.flags);
    }
    if (field.number == 8 && field.is_bytes()) {
      out.texts.push_back(field.bytes);
    } else if (field.number < 8) {
      out.has_others = true;
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
    } else if (field.number == 4 && field.is_bytes()) {
      return AddParameter(field.bytes, out.parameters);
    } else if (field.number == 5 && field.is_bytes()) {
      contents = field.bytes;
      has_contents = true;
    }
    return {};
  }));
  if (has_contents) {
    PX_CHECK_OK(ReadContents(contents, out));
  }
  PX_CHECK_OK(CheckTensorParameters(out.parameters, "inputs." + out.name));
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
  bool has_streaming = false;
};

Result<void> ReadOutput(std::string_view message, std::vector<std::string>& outputs) {
  std::string name;
  Json parameters{Json::Object{}};
  PX_CHECK_OK(ForEachField(message, [&](const ProtoField& field) -> Result<void> {
    if (field.number == 1 && field.is_bytes()) {
      PX_CHECK_OK(CheckText(field.bytes, "outputs"));
      name = field.bytes;
    } else if (field.number == 2 && field.is_bytes()) {
      return AddParameter(field.bytes, parameters);
    }
    return {};
  }));
  PX_CHECK_OK(CheckTensorParameters(parameters, "outputs." + name));
  return AddKserveOutput(name, "outputs", outputs);
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
      PX_CHECK_OK(ReadOutput(field.bytes, call.outputs));
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
  bool& given = text ? out.has_text : out.has_streaming;
  if (given) {
    return Bad(name, "is given twice");
  }
  given = true;
  if (tensor.has_others || !(text ? tensor.flags.empty() : tensor.texts.empty())) {
    return Bad(name, "its contents are of another datatype");
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

// A message without fields; those of a later version are skipped.
Result<void> ReadEmpty(std::string_view message) {
  return ForEachField(message, [](const ProtoField& /*field*/) { return Result<void>(); });
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
      read = ReadEmpty(message);
      break;
    case KserveMethod::kServerReady:
      out.request.path = "/v2/health/ready";
      read = ReadEmpty(message);
      break;
    case KserveMethod::kServerMetadata:
      out.request.path = "/v2";
      read = ReadEmpty(message);
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

}  // namespace pixii::frontend
