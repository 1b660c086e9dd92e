// /v1/messages and /v1/messages/count_tokens.
#include <fmt/format.h>

#include <utility>

#include "frontend/anthropic.h"
#include "frontend/frontend.h"

namespace pixii::frontend {

void Frontend::HandleMessages(Call& call) {
  Generate(call, Surface::kMessages, [this](const wire::Json& body) {
    return ReadAnthropicRequest(body, options_.anthropic);
  });
}

// How many tokens a chat's prompt has, as `opening` and the number and "}".
Result<std::string> Frontend::CountTokens(const Call& call, const OpenAiRequest& request,
                                          std::string_view opening) const {
  PX_TRY(const Named named, FindAllowed(call, request.model));
  const ServedModel& model = named.service->model();
  if (!model.text) {
    return Fail(Code::kUnsupported, fmt::format("the model \"{}\" has no tokenizer", model.name()),
                "model");
  }
  if (!request.media.empty()) {  // to get and decode one may take long, and the loop waits
    const std::string& where = request.media[0].where;
    const Error refused(Code::kUnsupported, fmt::format("{}: pictures are not counted here", where),
                        where);
    return Fail(request.names.InCallersWords(refused));
  }
  const Result<std::vector<TokenId>> tokens = model.text->EncodeChat(request.chat);
  if (!tokens) {
    return Fail(request.names.InCallersWords(tokens.error()));
  }
  return fmt::format("{}{}}}", opening, tokens->size());
}

void Frontend::HandleCountTokens(Call& call) {
  auto count = [&]() -> Result<std::string> {
    PX_TRY(wire::Json body, ParseBody(call.exchange.request()));
    PX_TRY(SurfaceRequest read, ReadAnthropicCount(body, options_.anthropic));
    return CountTokens(call, read.request, R"({"input_tokens":)");
  };
  Answer(call, count());
}

}  // namespace pixii::frontend
