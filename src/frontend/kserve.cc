#include "frontend/kserve.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <utility>

#include "frontend/error_body.h"
#include "frontend/field_error.h"
#include "wire/sse.h"

namespace pixii::frontend {

using wire::Json;

namespace {

std::string_view FinishName(const ChoiceFinish& finish) {
  return finish.kind == FinishKind::kLength ? "length" : "stop";
}

std::string TextOf(const Answer& answer) {
  std::string out;
  for (const AnswerPart& part : answer.parts) {
    out += part.text;
  }
  return out;
}

// What answers of this surface need of a request: one text, and none of the fields that would show
// up nowhere.
constexpr auto kOwn =
    std::to_array<std::string_view>({"model", "prompt", "stream", "stream_options", "logprobs",
                                     "prompt_logprobs", "echo", "return_token_ids", "receipt"});

// A request in OpenAI's form, and what the caller calls its fields.
struct Reading {
  Json out{Json::Object{}};
  FieldNames names{{{"prompt", "text_input"}}};
  bool streaming = false;            // the tensor was given
  std::vector<std::string> outputs;  // asked for; empty: all
};

// `field`: where it stands in the body.
Result<void> AddParameter(const std::string& name, const std::string& field, const Json& value,
                          Reading& reading) {
  if (std::ranges::find(kOwn, name) != kOwn.end()) {
    return NotDone(field, "is no parameter here");
  }
  if (reading.out.Find(name) != nullptr) {
    return Bad(field, "stands in parameters and beside them; give it once");
  }
  reading.out.Set(name, value);
  reading.names.Add({.inner = name, .outer = field});
  return {};
}

Result<void> AddParameters(const Json& parameters, Reading& reading) {
  if (!parameters.is_object()) {
    return Bad("parameters", "must be an object");
  }
  for (const auto& [name, value] : parameters.object()) {
    if (name == "binary_data_output" && value == Json(false)) {
      continue;
    }
    PX_CHECK_OK(AddParameter(name, "parameters." + name.substr(0, 100), value, reading));
  }
  return {};
}

class InferWriter final : public AnswerWriter {
 public:
  InferWriter(std::string model, std::string id, std::vector<std::string> outputs)
      : model_(std::move(model)), id_(std::move(id)), outputs_(std::move(outputs)) {}

  Surface surface() const override { return Surface::kKserve; }

  void Begin(AnswerHead /*head*/) override {}

  // Tensors are not streamed over HTTP: the reader refuses it.
  void AppendStart(std::string& /*out*/, const Usage& /*usage*/) override {}

  void AppendPart(std::string& /*out*/, const AnswerPart& /*part*/) override {}

  void AppendEnd(std::string& /*out*/, const ChoiceFinish& /*finish*/,
                 const Usage& /*usage*/) override {}

  void AppendError(std::string& /*out*/, const Error& /*error*/) override {}

  std::string Unary(std::span<const Answer> answers, const Usage& /*usage*/) override {
    Json::Array texts;
    Json::Array finishes;
    for (const Answer& answer : answers) {
      texts.emplace_back(TextOf(answer));
      finishes.emplace_back(FinishName(answer.finish));
    }
    Json out{Json::Object{}};
    out.Set("model_name", model_);
    out.Set("model_version", "1");
    if (!id_.empty()) {
      out.Set("id", id_);
    }
    Json::Array outputs;
    if (Wants("text_output")) {
      outputs.push_back(Tensor("text_output", std::move(texts)));
    }
    if (Wants("finish_reason")) {
      outputs.push_back(Tensor("finish_reason", std::move(finishes)));
    }
    out.Set("outputs", std::move(outputs));
    return out.Dump();
  }

 private:
  static Json Tensor(std::string_view name, Json::Array data) {
    Json out{Json::Object{}};
    out.Set("name", name);
    out.Set("datatype", "BYTES");
    out.Set("shape", Json::Array{Json(static_cast<std::uint64_t>(data.size()))});
    out.Set("data", std::move(data));
    return out;
  }

  bool Wants(std::string_view output) const {
    return outputs_.empty() || std::ranges::find(outputs_, output) != outputs_.end();
  }

  std::string model_;
  std::string id_;
  std::vector<std::string> outputs_;  // asked for; empty: all
};

class GenerateWriter final : public AnswerWriter {
 public:
  GenerateWriter(std::string model, std::string id)
      : model_(std::move(model)), id_(std::move(id)) {}

  Surface surface() const override { return Surface::kKserve; }

  void Begin(AnswerHead /*head*/) override {}

  void AppendStart(std::string& /*out*/, const Usage& /*usage*/) override {}

  void AppendPart(std::string& out, const AnswerPart& part) override {
    wire::AppendSseData(out, Body(part.text, nullptr));
  }

  void AppendEnd(std::string& out, const ChoiceFinish& finish, const Usage& /*usage*/) override {
    wire::AppendSseData(out, Body("", &finish));
  }

  void AppendError(std::string& out, const Error& error) override {
    wire::AppendSseData(out, ErrorBody(error, Dialect::kKserve));
  }

  std::string Unary(std::span<const Answer> answers, const Usage& /*usage*/) override {
    return Body(TextOf(answers.front()), &answers.front().finish);
  }

 private:
  std::string Body(std::string_view text, const ChoiceFinish* finish) const {
    Json out{Json::Object{}};
    if (!id_.empty()) {
      out.Set("id", id_);
    }
    out.Set("model_name", model_);
    out.Set("model_version", "1");
    out.Set("text_output", text);
    if (finish != nullptr) {
      out.Set("finish_reason", FinishName(*finish));
    }
    return out.Dump();
  }

  std::string model_;
  std::string id_;
};

// The one element of a tensor of shape [1], or [1, 1].
Result<const Json*> Element(const Json& tensor, std::string_view datatype, const std::string& at) {
  const Json* type = tensor.Find("datatype");
  const Json* shape = tensor.Find("shape");
  const Json* data = tensor.Find("data");
  if (type == nullptr || *type != Json(datatype)) {
    return Bad(at + ".datatype", fmt::format("must be \"{}\"", datatype));
  }
  const bool one =
      shape != nullptr && shape->is_array() && !shape->array().empty() &&
      shape->array().size() <= 2 &&
      std::ranges::all_of(shape->array(), [](const Json& size) { return size.AsInt() == 1; });
  if (!one) {
    return Bad(at + ".shape", "must be [1]");
  }
  while (data != nullptr && data->is_array() && data->array().size() == 1) {
    data = &data->array().front();
  }
  if (data == nullptr || data->is_array()) {
    return Bad(at + ".data", "must have one element");
  }
  return data;
}

// The name of a tensor that has members of `known` alone.
Result<std::string> NameOf(const Json& tensor, std::initializer_list<std::string_view> known,
                           const std::string& at) {
  const Json* name = tensor.Find("name");
  if (name == nullptr || !name->is_string()) {
    return Bad(at + ".name", "must be a string");
  }
  for (const auto& [key, value] : tensor.object()) {
    if (key == "parameters") {
      PX_CHECK_OK(CheckTensorParameters(value, at));
    } else if (std::ranges::find(known, key) == known.end()) {
      return Unknown(At(at, key));
    }
  }
  return name->string();
}

Result<void> ReadOutputs(const Json& outputs, Reading& reading) {
  if (!outputs.is_array()) {
    return Bad("outputs", "must be a list of tensors");
  }
  for (std::size_t i = 0; i < outputs.array().size(); ++i) {
    const std::string at = fmt::format("outputs[{}]", i);
    PX_TRY(const std::string name, NameOf(outputs.array()[i], {"name"}, at));
    PX_CHECK_OK(AddKserveOutput(name, at + ".name", reading.outputs));
  }
  return {};
}

Result<void> ReadTensor(const Json& tensor, const std::string& at, Reading& reading) {
  PX_TRY(const std::string name, NameOf(tensor, {"name", "datatype", "shape", "data"}, at));
  if (name == "text_input") {
    if (reading.out.Find("prompt") != nullptr) {
      return Bad(at + ".name", "text_input is given twice");
    }
    PX_TRY(const Json* text, Element(tensor, "BYTES", at));
    if (!text->is_string()) {
      return Bad(at + ".data", "must be a string");
    }
    reading.out.Set("prompt", *text);
    return {};
  }
  if (name == "streaming" || name == "stream") {
    if (std::exchange(reading.streaming, true)) {
      return Bad(at + ".name", "streaming is given twice");
    }
    PX_TRY(const Json* streaming, Element(tensor, "BOOL", at));
    if (!streaming->is_bool()) {
      return Bad(at + ".data", "must be true or false");
    }
    return streaming->boolean() ? Result<void>(NotDone("streaming",
                                                       "tensors are not streamed over HTTP; use "
                                                       "generate_stream"))
                                : Result<void>();
  }
  return Bad(at + ".name", fmt::format("the model has no input {}", Shown(Json(name))));
}

Result<std::string> IdOf(const Json& body) {
  const Json* id = body.Find("id");
  if (id == nullptr || id->is_null()) {
    return std::string();
  }
  if (!id->is_string() || id->string().size() > kLabelBytesMax) {
    return Bad("id", fmt::format("must be a string of at most {} bytes", kLabelBytesMax));
  }
  return id->string();
}

constexpr std::string_view kInputs =
    R"([{"name":"text_input","datatype":"BYTES","shape":[1]},)"
    R"({"name":"streaming","datatype":"BOOL","shape":[1],"optional":true}])";
constexpr std::string_view kOutputs =
    R"([{"name":"text_output","datatype":"BYTES","shape":[-1]},)"
    R"({"name":"finish_reason","datatype":"BYTES","shape":[-1],"optional":true}])";

}  // namespace

Result<void> AddKserveOutput(const std::string& name, const std::string& at,
                             std::vector<std::string>& out) {
  if (name != "text_output" && name != "finish_reason") {
    return Bad(at, fmt::format("the model has no output {}", Shown(Json(name))));
  }
  if (std::ranges::find(out, name) != out.end()) {
    return Bad(at, fmt::format("{} is asked for twice", name));
  }
  out.push_back(name);
  return {};
}

Result<void> CheckTensorParameters(const Json& parameters, const std::string& at) {
  if (parameters.is_null()) {
    return {};
  }
  if (!parameters.is_object()) {
    return Bad(at + ".parameters", "must be an object");
  }
  for (const auto& [key, value] : parameters.object()) {
    if (!value.is_null() && value != Json(false)) {
      return NotDone(At(at + ".parameters", key),
                     "is not supported: tensors have no parameters and no binary data here");
    }
  }
  return {};
}

std::string KserveMetadata(std::string_view model) {
  std::string out = R"({"name":)";
  wire::AppendJsonString(out, model);
  out += R"(,"versions":["1"],"platform":"pixii","inputs":)";
  out += kInputs;
  out += R"(,"outputs":)";
  out += kOutputs;
  out += '}';
  return out;
}

Result<SurfaceRequest> ReadKserveInfer(const Json& body, std::string_view model) {
  if (!body.is_object()) {
    return Fail(Code::kInvalidArgument, "the body must be a JSON object");
  }
  PX_TRY(std::string id, IdOf(body));
  Reading reading;
  reading.out.Set("model", model);
  for (const auto& [name, value] : body.object()) {
    if (name == "inputs") {
      if (!value.is_array()) {
        return Bad(name, "must be a list of tensors");
      }
      for (std::size_t i = 0; i < value.array().size(); ++i) {
        PX_CHECK_OK(ReadTensor(value.array()[i], fmt::format("inputs[{}]", i), reading));
      }
    } else if (name == "parameters" && !value.is_null()) {
      PX_CHECK_OK(AddParameters(value, reading));
    } else if (name == "outputs" && !value.is_null()) {
      PX_CHECK_OK(ReadOutputs(value, reading));
    } else if (name != "id" && name != "outputs" && name != "parameters") {
      std::string shown = name.substr(0, 100);
      return Fail(Code::kInvalidArgument, fmt::format("unknown field \"{}\"", shown), shown);
    }
  }
  if (reading.out.Find("prompt") == nullptr) {
    return Bad("inputs", "the tensor text_input is missing");
  }
  PX_TRY(SurfaceRequest read,
         MakeSurfaceRequest(std::move(reading.out), Surface::kCompletions, reading.names));
  read.writer =
      std::make_unique<InferWriter>(std::string(model), std::move(id), std::move(reading.outputs));
  return read;
}

Result<SurfaceRequest> ReadKserveGenerate(const Json& body, std::string_view model, bool stream) {
  if (!body.is_object()) {
    return Fail(Code::kInvalidArgument, "the body must be a JSON object");
  }
  PX_TRY(std::string id, IdOf(body));
  Reading reading;
  Json& out = reading.out;
  out.Set("model", model);
  out.Set("stream", stream);
  for (const auto& [name, value] : body.object()) {
    if (name == "text_input") {
      if (!value.is_string()) {
        return Bad(name, fmt::format("{} is not a string", Shown(value)));
      }
      out.Set("prompt", value);
    } else if (name == "parameters" && !value.is_null()) {
      PX_CHECK_OK(AddParameters(value, reading));
    } else if (name == "streaming" || name == "stream") {
      if (value != Json(stream)) {
        return Bad(name, "is decided by the route");
      }
    } else if (name != "id" && name != "parameters") {
      PX_CHECK_OK(AddParameter(name, name, value, reading));
    }
  }
  if (out.Find("prompt") == nullptr) {
    return Bad("text_input", "is missing");
  }
  for (std::string_view many : {"n", "best_of"}) {
    const Json* count = out.Find(many);
    if (count != nullptr && !count->is_null() && count->AsInt() != 1) {
      return NotDone(reading.names.Of(many), "one text is given here; use infer");
    }
  }
  PX_TRY(SurfaceRequest read,
         MakeSurfaceRequest(std::move(out), Surface::kCompletions, reading.names));
  read.writer = std::make_unique<GenerateWriter>(std::string(model), std::move(id));
  return read;
}

}  // namespace pixii::frontend
