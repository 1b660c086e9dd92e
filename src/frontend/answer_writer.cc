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

Result<SurfaceRequest> MakeSurfaceRequest(wire::Json body, Surface common,
                                          const FieldNames& names) {
  Result<OpenAiRequest> request = ParseOpenAiRequest(body, common);
  if (!request) {
    return Fail(names.InCallersWords(request.error()));
  }
  request->names = request->names.Then(names);
  const NvextAnswer& shown = request->nvext;
  if (shown.shows_fields() || shown.request_id_event || shown.token_ids_event ||
      shown.query_worker) {
    const Error no_place(Code::kUnsupported,
                         "nvext: answers in this form have no place for extra_fields and "
                         "annotations",
                         "nvext");
    return Fail(request->names.InCallersWords(no_place));
  }
  return SurfaceRequest{.request = std::move(*request), .body = std::move(body), .writer = nullptr};
}

}  // namespace pixii::frontend
