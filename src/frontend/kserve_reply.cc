// Answers of the server's routes as KServe's gRPC messages.
#include <algorithm>
#include <array>
#include <utility>

#include "frontend/kserve_proto.h"
#include "wire/protobuf.h"

namespace pixii::frontend {

using wire::Json;

namespace {

constexpr std::string_view kFinalFlag = "triton_final_response";

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
