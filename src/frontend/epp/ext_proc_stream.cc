#include "frontend/epp/ext_proc_stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "frontend/error_body.h"
#include "frontend/grpc_host.h"

namespace pixii::frontend {

using Kind = ExtProcMessage::Kind;

namespace {

// Whose prompts decide where they go.
constexpr std::array<std::string_view, 4> kPrompts{"/v1/chat/completions", "/v1/completions",
                                                   "/v1/messages", "/v1/responses"};

}  // namespace

bool ExtProcStream::has_prompt() const {
  // What an earlier answer said is known where that was given alone.
  return request_.method == "POST" &&
         std::ranges::find(kPrompts, request_.path) != kPrompts.end() &&
         (request_.path != kPrompts.back() ||
          request_.body.find("\"previous_response_id\"") == std::string::npos);
}

bool ExtProcStream::Allows(std::string_view endpoint) const {
  return !subset_ || std::ranges::find(*subset_, endpoint) != subset_->end();
}

ExtProcStep ExtProcStream::Broken(std::string_view why) {
  state_ = State::kOver;
  return {.over = true, .finish = kGrpcInvalidArgument, .why = std::string(why)};
}

ExtProcStep ExtProcStream::OnEnd() {
  state_ = State::kOver;
  return {.over = true, .finish = kGrpcOk};
}

ExtProcStep ExtProcStream::OnMessage(std::string_view bytes) {
  if (state_ == State::kOver) {
    return {};
  }
  Result<ExtProcMessage> message = ReadExtProcMessage(bytes);
  if (!message) {
    return Broken(message.error().detail());
  }
  if (message->observes) {
    return OnEnd();  // nobody would hear where it should go
  }
  switch (message->kind) {
    case Kind::kNothing:
      return Broken("the message says nothing that is known here");
    case Kind::kRequestHeaders:
      return OnRequestHeaders(std::move(*message));
    case Kind::kRequestBody:
      return OnRequestBody(*message);
    case Kind::kRequestTrailers:
      return OnRequestTrailers();
    case Kind::kResponseHeaders:
      return OnResponseHeaders(*message);
    case Kind::kResponseBody:
      return OnResponseBody(*message);
    case Kind::kResponseTrailers: {
      if (state_ != State::kAnswered) {
        return Broken("trailers of an answer came before it");
      }
      ExtProcStep out = OnEnd();
      out.finish.reset();
      out.replies.push_back(TrailersReply(Kind::kResponseTrailers));
      return out;
    }
  }
  return {};
}

ExtProcStep ExtProcStream::OnRequestHeaders(ExtProcMessage message) {
  if (state_ != State::kBegin) {
    return Broken("a stream has the headers of two requests");
  }
  state_ = State::kBody;
  mode_ = message.request_body.value_or(options_.body_mode);
  answer_mode_ = message.response_body.value_or(options_.body_mode);
  subset_ = std::move(message.subset);
  for (wire::HttpField& field : message.headers) {
    if (field.name == ":method") {
      request_.method = std::move(field.value);
    } else if (field.name == ":path") {
      const std::size_t query = std::min(field.value.find('?'), field.value.size());
      request_.path = field.value.substr(0, query);
      request_.query = field.value.substr(std::min(query + 1, field.value.size()));
    } else if (!field.name.starts_with(':')) {
      request_.fields.push_back(std::move(field));
    }
  }
  bodiless_ = message.end_of_stream || mode_ == BodyMode::kNone;
  if (bodiless_ || mode_ == BodyMode::kStreamed) {
    return Ask();
  }
  ExtProcStep out;
  if (!duplex()) {  // the body comes once its headers are answered
    replied_headers_ = true;
    out.replies.push_back(HeadersReply(Kind::kRequestHeaders, nullptr));
  }
  return out;
}

ExtProcStep ExtProcStream::OnRequestBody(const ExtProcMessage& message) {
  if (mode_ == BodyMode::kStreamed && !bodiless_ &&
      (state_ == State::kRouted || state_ == State::kAnswered)) {
    return {.replies = {BodyReply(Kind::kRequestBody, nullptr, nullptr)}};
  }
  if (state_ == State::kAnswered && duplex()) {  // an answer may begin before the request's end
    return {
        .replies = {StreamedBodyReply(Kind::kRequestBody, message.body, message.end_of_stream)}};
  }
  if (state_ != State::kBody || body_ended_) {
    return Broken("a request's body came out of turn");
  }
  if (request_.body.size() + message.body.size() > options_.body_bytes_max) {
    const Error error(Code::kTooLarge,
                      fmt::format("the body has more than {} bytes", options_.body_bytes_max));
    return OnRefused(413, {{"content-type", "application/json"}}, ErrorBody(error),
                     "body too large");
  }
  request_.body += message.body;
  body_ended_ = message.end_of_stream || !duplex();
  return body_ended_ ? Ask() : ExtProcStep();
}

ExtProcStep ExtProcStream::OnRequestTrailers() {
  if (state_ == State::kBody && duplex() && !body_ended_) {
    body_ended_ = true;
    trailers_due_ = true;
    return Ask();
  }
  if (state_ == State::kAsked) {
    trailers_due_ = true;
    return {};
  }
  if (state_ == State::kRouted || state_ == State::kAnswered) {
    return {.replies = {TrailersReply(Kind::kRequestTrailers)}};
  }
  return Broken("a request's trailers came out of turn");
}

ExtProcStep ExtProcStream::Ask() {
  state_ = State::kAsked;
  return {.ask = !bodiless_ && mode_ != BodyMode::kStreamed && has_prompt()
                     ? ExtProcStep::Ask::kRoute
                     : ExtProcStep::Ask::kSpread};
}

ExtProcStep ExtProcStream::OnRouted(const RouteChange& change, std::optional<std::string> body) {
  state_ = State::kRouted;
  ExtProcStep out;
  if (!replied_headers_) {
    replied_headers_ = true;
    out.replies.push_back(HeadersReply(Kind::kRequestHeaders, &change));
    if (!bodiless_ && duplex()) {
      const std::string& whole = body ? *body : request_.body;
      std::string_view rest = whole;
      do {
        const std::string_view piece = rest.substr(0, options_.piece_bytes_max);
        rest.remove_prefix(piece.size());
        out.replies.push_back(
            StreamedBodyReply(Kind::kRequestBody, piece, rest.empty() && !trailers_due_));
      } while (!rest.empty());
    }
  } else {
    out.replies.push_back(BodyReply(Kind::kRequestBody, &change, body ? &*body : nullptr));
  }
  if (trailers_due_) {
    out.replies.push_back(TrailersReply(Kind::kRequestTrailers));
  }
  request_ = {};
  return out;
}

ExtProcStep ExtProcStream::OnRefused(int status, std::vector<wire::HttpField> fields,
                                     std::string_view body, std::string_view why) {
  state_ = State::kOver;
  request_ = {};
  return {.replies = {ImmediateReply(status, fields, body, why)}, .over = true, .finish = kGrpcOk};
}

ExtProcStep ExtProcStream::OnResponseHeaders(const ExtProcMessage& message) {
  if (state_ != State::kRouted) {
    return Broken("an answer came before the request went anywhere, or twice");
  }
  state_ = State::kAnswered;
  for (const wire::HttpField& field : message.headers) {
    if (field.name == "content-type") {
      streams_ = field.value.starts_with("text/event-stream");
    } else if (field.name == ":status") {
      counts_ = field.value == "200";
    }
  }
  ExtProcStep out;
  out.replies.push_back(HeadersReply(Kind::kResponseHeaders, nullptr));
  out.over = message.end_of_stream;
  return out;
}

// As workers' answers are made: an event of a stream brings a token, and a whole answer comes when
// nothing of it is left to compute.
std::uint32_t ExtProcStream::CountTokens(std::string_view piece) {
  if (!counts_ || piece.empty()) {
    return 0;
  }
  if (!streams_) {
    return std::exchange(began_, true) ? 0 : 1;
  }
  std::uint32_t out = 0;
  for (const char c : piece) {
    if (c == '\n') {
      out += line_ended_ ? 1 : 0;
      line_ended_ = !line_ended_;
    } else if (c != '\r') {
      line_ended_ = false;
    }
  }
  return out;
}

ExtProcStep ExtProcStream::OnResponseBody(const ExtProcMessage& message) {
  if (state_ != State::kAnswered) {
    return Broken("an answer's body came before its headers");
  }
  ExtProcStep out;
  out.replies.push_back(
      answer_mode_ == BodyMode::kFullDuplex
          ? StreamedBodyReply(Kind::kResponseBody, message.body, message.end_of_stream)
          : BodyReply(Kind::kResponseBody, nullptr, nullptr));
  out.tokens = CountTokens(message.body);
  out.over = message.end_of_stream;
  return out;
}

}  // namespace pixii::frontend
