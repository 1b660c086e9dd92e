#include "frontend/answer_writer.h"

#include <utility>

namespace pixii::frontend {

void JoinPart(std::vector<AnswerPart>& parts, const AnswerPart& part) {
  bool joins =
      !parts.empty() && part.kind != AnswerPart::Kind::kCall && parts.back().kind == part.kind;
  if (joins) {
    std::string& logprobs = parts.back().logprobs;
    logprobs += logprobs.empty() || part.logprobs.empty() ? "" : ",";
    logprobs += part.logprobs;
    parts.back().text += part.text;
  } else {
    parts.push_back(part);
  }
}

void AnswerWriter::AppendTokens(std::string& /*out*/, std::span<const TokenId> /*tokens*/) {}

Result<SurfaceRequest> MakeSurfaceRequest(wire::Json body, Surface common) {
  PX_TRY(OpenAiRequest request, ParseOpenAiRequest(body, common));
  return SurfaceRequest{.request = std::move(request), .body = std::move(body), .writer = nullptr};
}

}  // namespace pixii::frontend
