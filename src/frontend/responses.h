// OpenAI's /v1/responses: its bodies as the common request, its answers and events.
//
// Thread: reading on any, writing on the frontend's loop. Source: OpenAI's published OpenAPI file.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "frontend/answer_writer.h"
#include "frontend/response_store.h"

namespace pixii::frontend {

/// Fields that an answer repeats, as JSON text, and what its conversation is.
struct ResponsesEcho {
  wire::Json fields;           // object, in the order they are written
  wire::Json::Array messages;  // in OpenAI's chat form, without instructions
  bool store = true;
};

struct ResponsesContext {
  std::shared_ptr<ResponseStore> store;            // for answers
  std::shared_ptr<const StoredResponse> previous;  // that previous_response_id names; null: none
};

/// The id that `body` gives as previous_response_id; empty: none.
std::string PreviousResponseId(const wire::Json& body);

/// The body of /v1/responses. Errors: kInvalidArgument, kUnsupported, kNotFound (the previous
/// response), with the field as param.
Result<SurfaceRequest> ReadResponsesRequest(const wire::Json& body,
                                            const ResponsesContext& context);

/// The body of /v1/responses/input_tokens.
Result<SurfaceRequest> ReadResponsesCount(const wire::Json& body, const ResponsesContext& context);

class ResponsesWriter final : public AnswerWriter {
 public:
  ResponsesWriter(ResponsesEcho echo, std::shared_ptr<ResponseStore> store)
      : echo_(std::move(echo)), store_(std::move(store)) {}

  Surface surface() const override { return Surface::kResponses; }

  void Begin(AnswerHead head) override { head_ = std::move(head); }

  void AppendStart(std::string& out, const Usage& usage) override;
  void AppendPart(std::string& out, const AnswerPart& part) override;
  void AppendEnd(std::string& out, const ChoiceFinish& finish, const Usage& usage) override;
  void AppendError(std::string& out, const Error& error) override;
  std::string Unary(std::span<const Answer> answers, const Usage& usage) override;

 private:
  enum class Status : std::uint8_t { kInProgress, kCompleted, kIncomplete, kFailed };

  static std::string_view Name(Status status);
  void NameCalls();
  std::string ItemId(std::size_t index) const;
  std::string Item(std::size_t index, Status status, bool empty) const;
  std::string Body(Status status, const Usage* usage, const Error* error) const;
  void Event(std::string& out, std::string_view type, std::string_view rest);
  void OpenItem(std::string& out, const AnswerPart& part);
  void CloseItem(std::string& out);
  void Store(const std::string& body);

  ResponsesEcho echo_;
  std::shared_ptr<ResponseStore> store_;
  AnswerHead head_;
  std::vector<AnswerPart> parts_;      // what was written so far
  bool open_ = false;                  // the last of them
  Status ended_ = Status::kCompleted;  // of items, as they are closed
  std::uint64_t sequence_ = 0;
};

}  // namespace pixii::frontend
