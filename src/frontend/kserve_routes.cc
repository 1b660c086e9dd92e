// /v2: KServe's routes.
#include <fmt/format.h>

#include <optional>
#include <utility>

#include "frontend/frontend.h"
#include "frontend/kserve.h"

namespace pixii::frontend {

namespace {

constexpr std::string_view kVersion = "/versions/1";  // the only one there is; may stay away

}  // namespace

Result<std::string> Frontend::KserveModel(Call& call) const {
  std::string_view name = ParameterOf(*call.route, call.exchange.request());
  if (name.ends_with(kVersion)) {
    name.remove_suffix(kVersion.size());
  }
  std::optional<std::string> model = wire::PercentDecode(name);
  if (!model) {
    return Fail(Code::kInvalidArgument, "model: the name is badly encoded", "model");
  }
  PX_TRY(const Named named, FindAllowed(call, *model));
  call.service = named.service;
  return std::move(*model);
}

void Frontend::HandleKserveServer(Call& call) {
  Answer(call, std::string(R"({"name":"pixii","version":"2","extensions":["generate"]})"));
}

void Frontend::HandleKserveLive(Call& call) { Answer(call, std::string(R"({"live":true})")); }

void Frontend::HandleKserveReady(Call& call) {
  const bool is_ready = call.service != nullptr ? !draining_ && call.service->ready() : ready();
  call.exchange.Respond({.status = is_ready ? 200 : 503,
                         .body = fmt::format(R"({{"ready":{}}})", is_ready),
                         .fields = std::move(call.fields)});
}

void Frontend::HandleKserveModel(Call& call) {
  Result<std::string> model = KserveModel(call);
  Answer(call, model ? KserveMetadata(*model) : std::move(model));
}

void Frontend::HandleKserveModelReady(Call& call) {
  if (Result<std::string> model = KserveModel(call); !model) {
    Refuse(call, model.error());
    return;
  }
  HandleKserveReady(call);
}

void Frontend::HandleKserveInfer(Call& call) {
  Result<std::string> model = KserveModel(call);
  if (!model) {
    RefuseWork(call, Surface::kKserve, false, model.error());
    return;
  }
  Generate(call, Surface::kKserve, [model = std::move(*model)](const wire::Json& body) {
    return ReadKserveInfer(body, model);
  });
}

void Frontend::HandleKserveGenerate(Call& call) { GenerateKserve(call, false); }

void Frontend::HandleKserveStream(Call& call) { GenerateKserve(call, true); }

void Frontend::GenerateKserve(Call& call, bool stream) {
  Result<std::string> model = KserveModel(call);
  if (!model) {
    RefuseWork(call, Surface::kKserve, stream, model.error());
    return;
  }
  Generate(call, Surface::kKserve, [model = std::move(*model), stream](const wire::Json& body) {
    return ReadKserveGenerate(body, model, stream);
  });
}

}  // namespace pixii::frontend
