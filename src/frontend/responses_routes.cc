// /v1/responses and what is stored of it.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "frontend/field_error.h"
#include "frontend/frontend.h"
#include "frontend/responses.h"

namespace pixii::frontend {

namespace {

Error NotStored(std::string_view id) {
  return Error(
      Code::kNotFound,
      fmt::format("there is no response {} (any more)", wire::Json(id.substr(0, 100)).Dump()),
      "response_id");
}

// What OpenAI takes beside the id makes another answer of it, which is not done here.
Result<void> CheckQuery(std::string_view query) {
  while (!query.empty()) {
    const std::string_view one = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(one.size() + 1, query.size()));
    if (!one.empty() && one != "stream=false") {
      return NotDone(one.substr(0, std::min<std::size_t>(one.find('='), 100)), "is not supported");
    }
  }
  return {};
}

}  // namespace

// Bodies that name a previous response are looked into on the loop, which owns the store; whatever
// else is wrong with them is said by who reads them.
Result<ResponsesContext> Frontend::MakeResponsesContext(const Call& call) {
  ResponsesContext out{.store = responses_, .previous = nullptr};
  const std::string& text = call.exchange.request().body;
  if (text.find("previous_response_id") == std::string::npos) {
    return out;
  }
  PX_TRY(wire::Json body, ParseBody(call.exchange.request()));
  const std::string id = PreviousResponseId(body);
  if (!id.empty()) {
    out.previous = responses_->Get(call.key->tenant, id, Now());
  }
  return out;
}

void Frontend::HandleResponses(Call& call) {
  Result<ResponsesContext> context = MakeResponsesContext(call);
  if (!context) {
    RefuseWork(call, Surface::kResponses, false, context.error());
    return;
  }
  Generate(call, Surface::kResponses, [context = std::move(*context)](const wire::Json& body) {
    return ReadResponsesRequest(body, context);
  });
}

void Frontend::HandleResponsesCount(Call& call) {
  auto count = [&]() -> Result<std::string> {
    PX_TRY(ResponsesContext context, MakeResponsesContext(call));
    PX_TRY(wire::Json body, ParseBody(call.exchange.request()));
    PX_TRY(SurfaceRequest read, ReadResponsesCount(body, context));
    return CountTokens(call, read.request, R"({"object":"response.input_tokens","input_tokens":)");
  };
  Answer(call, count());
}

void Frontend::HandleResponse(Call& call) {
  const std::string_view id = ParameterOf(*call.route, call.exchange.request());
  if (Result<void> plain = CheckQuery(call.exchange.request().query); !plain) {
    Refuse(call, plain.error());
    return;
  }
  auto found = responses_->Get(call.key->tenant, id, Now());
  Answer(call, found != nullptr ? Result<std::string>(found->body)
                                : Result<std::string>(Fail(NotStored(id))));
}

void Frontend::HandleDeleteResponse(Call& call) {
  const std::string_view id = ParameterOf(*call.route, call.exchange.request());
  if (!responses_->Erase(call.key->tenant, id, Now())) {
    Refuse(call, NotStored(id));
    return;
  }
  AnswerDeleted(call, "response", id);
}

}  // namespace pixii::frontend
