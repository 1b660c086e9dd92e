// One HTTP request of a gateway, as it tells of it: what is asked, when it is answered, what its
// worker has said, when it is over.
//
// Thread: a value; decides and does nothing. docs/endpoint_picker.md
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "frontend/epp/ext_proc_proto.h"
#include "wire/http.h"

namespace pixii::frontend {

struct ExtProcOptions {
  BodyMode body_mode = BodyMode::kFullDuplex;  // of a gateway that does not say
  std::uint64_t body_bytes_max = 16U << 20U;   // of a request
  std::uint32_t piece_bytes_max = 60'000;      // of a body that goes back
};

/// What is to be done after a message.
struct ExtProcStep {
  enum class Ask : std::uint8_t {
    kNothing,
    kRoute,   // where its prompt should go: OnRouted or OnRefused follows
    kSpread,  // any endpoint will do: likewise
  };

  std::vector<std::string> replies = {};  // to the gateway, in this order
  Ask ask = Ask::kNothing;
  std::uint32_t tokens = 0;  // of the answer, as far as can be told
  bool over = false;         // nothing runs for it any more
  /// The stream's end, behind the replies: gRPC's status.
  std::optional<int> finish = {};
  std::string why = {};
};

class ExtProcStream final {
 public:
  explicit ExtProcStream(const ExtProcOptions& options) : options_(options) {}

  ExtProcStep OnMessage(std::string_view bytes);

  /// The gateway says no more.
  ExtProcStep OnEnd();

  /// `body`: in place of the request's own; nothing: that. Pre: asked.
  ExtProcStep OnRouted(const RouteChange& change, std::optional<std::string> body);

  /// The client gets this. Pre: asked, or nothing was answered yet.
  ExtProcStep OnRefused(int status, std::vector<wire::HttpField> fields, std::string_view body,
                        std::string_view why);

  /// As the client sent it. Pre: asked.
  const wire::HttpRequest& request() const { return request_; }

  /// Whether the gateway lets it go there.
  bool Allows(std::string_view endpoint) const;

  /// It has not been asked about, answered or refused.
  bool collecting() const { return state_ == State::kBegin || state_ == State::kBody; }

 private:
  enum class State : std::uint8_t {
    kBegin,     // nothing was said
    kBody,      // its headers are here
    kAsked,     // where it goes is being found out
    kRouted,    // it went there
    kAnswered,  // its answer began
    kOver,
  };

  ExtProcStep OnRequestHeaders(ExtProcMessage message);
  ExtProcStep OnRequestBody(const ExtProcMessage& message);
  ExtProcStep OnRequestTrailers();
  ExtProcStep OnResponseHeaders(const ExtProcMessage& message);
  ExtProcStep OnResponseBody(const ExtProcMessage& message);
  ExtProcStep Ask();
  ExtProcStep Broken(std::string_view why);
  bool has_prompt() const;

  bool duplex() const { return mode_ == BodyMode::kFullDuplex; }

  std::uint32_t CountTokens(std::string_view piece);

  const ExtProcOptions options_;
  State state_ = State::kBegin;
  BodyMode mode_ = BodyMode::kNone;
  BodyMode answer_mode_ = BodyMode::kFullDuplex;
  wire::HttpRequest request_;
  std::optional<std::vector<std::string>> subset_;
  bool bodiless_ = false;      // it ends with its headers
  bool body_ended_ = false;    // the gateway sent all of it
  bool trailers_due_ = false;  // behind the body
  bool replied_headers_ = false;
  bool streams_ = false;  // the answer is a stream of events
  bool counts_ = false;   // the answer brings tokens
  bool began_ = false;
  bool line_ended_ = false;  // the last byte of its body was a line's end
};

}  // namespace pixii::frontend
