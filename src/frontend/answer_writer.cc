#include "frontend/answer_writer.h"

#include <utility>

namespace pixii::frontend {

void JoinPart(std::vector<AnswerPart>& parts, const AnswerPart& part) {
  bool joins = !parts.empty() && parts.back().kind == part.kind &&
               (part.kind != AnswerPart::Kind::kCall || !part.begins);
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
