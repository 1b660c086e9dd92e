// Any body is a request within its limits or a refusal that a client understands.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/assert.h"
#include "frontend/error_body.h"
#include "frontend/openai_request.h"

namespace {

using pixii::frontend::OpenAiRequest;
using pixii::frontend::Surface;

void Check(const pixii::wire::Json& body, Surface surface) {
  auto request = pixii::frontend::ParseOpenAiRequest(body, surface);
  if (!request) {
    int status = pixii::frontend::ClientStatus(request.error());
    PX_ASSERT(status >= 400 && status < 500);
    auto text = pixii::wire::ParseJson(pixii::frontend::ErrorBody(request.error()));
    PX_ASSERT(text && text->Find("error") != nullptr);
    return;
  }
  PX_ASSERT(request->choice_count() >= 1 &&
            request->choice_count() <= pixii::frontend::kChoicesMax);
  PX_ASSERT(request->top_logprobs >= -1 &&
            request->top_logprobs <= static_cast<std::int32_t>(pixii::frontend::kTopLogprobsMax));
  PX_ASSERT(request->temperature.value_or(1) >= 0 && request->temperature.value_or(1) <= 2);
  PX_ASSERT(request->top_p.value_or(1) > 0 && request->top_p.value_or(1) <= 1);
  PX_ASSERT(surface == Surface::kChat || !request->prompts.empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  auto body = pixii::wire::ParseJson(text, {.depth_max = 64, .values_max = 10'000});
  if (body) {
    Check(*body, Surface::kChat);
    Check(*body, Surface::kCompletions);
  }
  return 0;
}
