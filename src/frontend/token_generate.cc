// /inference/v1/generate: token ids in, token ids out, as vLLM has it; no text is made of them.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

#include "frontend/error_body.h"
#include "frontend/field_error.h"
#include "frontend/frontend.h"
#include "wire/sse.h"

namespace pixii::frontend {

using wire::Json;

namespace {

void AppendChoice(std::string& out, std::size_t index, std::span<const TokenId> tokens,
                  const ChoiceFinish* finish) {
  fmt::format_to(std::back_inserter(out), R"({{"index":{},"logprobs":null,"finish_reason":)",
                 index);
  out += finish == nullptr                     ? "null"
         : finish->kind == FinishKind::kLength ? R"("length")"
                                               : R"("stop")";
  fmt::format_to(std::back_inserter(out), R"(,"token_ids":[{}]}})", fmt::join(tokens, ","));
}

class TokenWriter final : public AnswerWriter {
 public:
  explicit TokenWriter(std::string request_id) : request_id_(std::move(request_id)) {}

  Surface surface() const override { return Surface::kTokens; }

  void Begin(AnswerHead head) override {
    if (request_id_.empty()) {
      request_id_ = std::move(head.id);
    }
  }

  void AppendStart(std::string& /*out*/, const Usage& /*usage*/) override {}

  void AppendPart(std::string& /*out*/, const AnswerPart& /*part*/) override {}

  void AppendTokens(std::string& out, std::span<const TokenId> tokens) override {
    std::string data = Head();
    AppendChoice(data, 0, tokens, nullptr);
    data += "]}";
    wire::AppendSseData(out, data);
  }

  void AppendEnd(std::string& out, const ChoiceFinish& finish, const Usage& usage) override {
    std::string data = Head();
    AppendChoice(data, 0, {}, &finish);
    data += R"(],"usage":)";
    AppendUsage(data, usage);
    data += '}';
    wire::AppendSseData(out, data);
    out += wire::kSseDone;
  }

  void AppendError(std::string& out, const Error& error) override {
    wire::AppendSseData(out, ErrorBody(error));
  }

  std::string Unary(std::span<const Answer> answers, const Usage& usage) override {
    std::string out = Head();
    for (std::size_t i = 0; i < answers.size(); ++i) {
      out += i == 0 ? "" : ",";
      AppendChoice(out, i, answers[i].tokens, &answers[i].finish);
    }
    out += R"(],"prompt_logprobs":null,"usage":)";
    AppendUsage(out, usage);
    out += '}';
    return out;
  }

 private:
  std::string Head() const {
    std::string out = R"({"request_id":)";
    wire::AppendJsonString(out, request_id_);
    out += R"(,"choices":[)";
    return out;
  }

  std::string request_id_;
};

// Of sampling_params: what needs no text. "detokenize" is what the route is for.
constexpr auto kParameters = std::to_array<std::string_view>(
    {"n", "temperature", "top_p", "top_k", "min_p", "seed", "max_tokens", "min_tokens",
     "stop_token_ids", "ignore_eos", "presence_penalty", "frequency_penalty", "repetition_penalty",
     "logit_bias", "allowed_token_ids", "best_of", "top_a", "typical_p"});
constexpr auto kRoot = std::to_array<std::string_view>({"model", "stream", "priority"});

Result<void> AddParameters(const Json& parameters, Json& out, FieldNames& names) {
  if (!parameters.is_object()) {
    return Bad("sampling_params", "must be an object");
  }
  for (const auto& [name, value] : parameters.object()) {
    if (std::ranges::find(kParameters, name) != kParameters.end()) {
      out.Set(name, value);
      names.Add({.inner = name, .outer = "sampling_params." + name});
    } else if (!value.is_null() && !(name == "detokenize" && value == Json(false))) {
      const std::string field = "sampling_params." + name.substr(0, 100);
      return Fail(Code::kUnsupported, fmt::format("{}: this field is not supported here", field),
                  field);
    }
  }
  return {};
}

Result<SurfaceRequest> ReadTokenRequest(const Json& body) {
  if (!body.is_object()) {
    return Fail(Code::kInvalidArgument, "the body must be a JSON object");
  }
  Json out{Json::Object{}};
  FieldNames names({{"prompt", "token_ids"}});
  std::string request_id;
  for (const auto& [name, value] : body.object()) {
    if (value.is_null()) {
      continue;
    }
    if (name == "token_ids") {
      PX_TRY(std::vector<TokenId> ids, ParseTokenIds(value, name));
      if (ids.empty()) {
        return Bad(name, "is empty");
      }
      out.Set("prompt", value);
    } else if (name == "sampling_params") {
      PX_CHECK_OK(AddParameters(value, out, names));
    } else if (name == "request_id") {
      if (!value.is_string() || value.string().size() > kLabelBytesMax) {
        return Bad(name, fmt::format("must be a string of at most {} bytes", kLabelBytesMax));
      }
      request_id = value.string();
    } else if (std::ranges::find(kRoot, name) != kRoot.end()) {
      out.Set(name, value);
    } else {
      std::string shown = name.substr(0, 100);
      return Fail(Code::kInvalidArgument, fmt::format("unknown field \"{}\"", shown), shown);
    }
  }
  if (out.Find("prompt") == nullptr) {
    return Bad("token_ids", "is missing");
  }
  const Json* stream = out.Find("stream");
  const Json* count = out.Find("n");
  if (stream != nullptr && *stream == Json(true) && count != nullptr && count->AsInt() != 1) {
    return Bad("sampling_params.n", "one choice is streamed here");
  }
  PX_TRY(SurfaceRequest read, MakeSurfaceRequest(std::move(out), Surface::kCompletions, names));
  read.writer = std::make_unique<TokenWriter>(std::move(request_id));
  read.tokens_only = true;
  return read;
}

}  // namespace

void Frontend::HandleGenerateTokens(Call& call) {
  Generate(call, Surface::kTokens, ReadTokenRequest);
}

}  // namespace pixii::frontend
