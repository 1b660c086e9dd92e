#include "frontend/grpc_server.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "frontend/error_body.h"
#include "wire/sse.h"

namespace pixii::frontend {

namespace {

// What of a call's metadata routes look at.
bool IsHeader(std::string_view name) {
  return name == "authorization" || name == "x-api-key" || name == "x-request-id" ||
         name == "traceparent" || name == "tracestate";
}

// The sentence of an error body of the routes.
std::string MessageOf(const Response& response) {
  const Result<wire::Json> body = wire::ParseJson(response.body);
  const wire::Json* error = body ? body->Find("error") : nullptr;
  if (error != nullptr && error->is_object()) {
    error = error->Find("message");
  }
  return error != nullptr && error->is_string() ? error->string()
                                                : fmt::format("status {}", response.status);
}

}  // namespace

GrpcServer::GrpcServer(Key /*key*/, rt::Loop& loop, ExchangeHandler& handler,
                       const GrpcOptions& options)
    : loop_(loop), handler_(handler), options_(options), alive_(std::make_shared<bool>(true)) {}

Result<std::unique_ptr<GrpcServer>> GrpcServer::Start(rt::Loop& loop, ExchangeHandler& handler,
                                                      GrpcLibrary library,
                                                      const GrpcOptions& options) {
  auto out = std::make_unique<GrpcServer>(Key{}, loop, handler, options);
  PX_TRY(out->host_, GrpcHost::Start(loop, *out, std::move(library), options));
  return out;
}

GrpcServer::~GrpcServer() {
  for (const auto& [id, call] : calls_) {
    if (call->exchange) {
      call->exchange->HangUp();
    }
  }
}

void GrpcServer::BeginDrain(rt::Time deadline) {
  closing_ = true;
  host_->Close(deadline);
  for (const auto& [id, call] : calls_) {
    SchedulePump(*call);  // streams between two requests end
  }
}

void GrpcServer::OnGrpcBegin(std::uint64_t id, const std::string& path,
                             std::vector<wire::HttpField> fields) {
  auto owned = std::make_unique<Call>();
  Call& call = *owned;
  call.id = id;
  std::erase_if(fields, [](const wire::HttpField& field) { return !IsHeader(field.name); });
  call.fields = std::move(fields);
  const bool full = calls_.size() >= options_.calls_max;
  calls_.emplace(id, std::move(owned));
  const std::optional<KserveMethod> method = FindKserveMethod(path);
  if (!method) {
    Finish(call, kGrpcUnimplemented, "there is no such method");
  } else if (closing_) {
    Finish(call, kGrpcUnavailable, "the server shuts down; ask another");
  } else if (full) {
    Finish(call, kGrpcResourceExhausted,
           fmt::format("{} calls run, which is the limit; try again later", options_.calls_max));
  } else {
    call.method = *method;
    call.reading = true;
    host_->Read(id);
  }
}

void GrpcServer::OnGrpcMessage(std::uint64_t id, const std::string& message) {
  const auto found = calls_.find(id);
  if (found == calls_.end() || found->second->finished) {
    return;
  }
  Call& call = *found->second;
  call.reading = false;
  Result<KserveCall> asked = ReadKserveMessage(call.method, message);
  if (!asked && asked.error().param().empty()) {  // nobody can tell what would follow
    Finish(call, kGrpcInvalidArgument, ClientMessage(asked.error()));
    return;
  }
  if (!asked) {
    call.asked = KserveCall();
    call.asked.method = call.method;
    FailRequest(call, ClientStatus(asked.error()), ClientMessage(asked.error()));
    Pump(call);
    return;
  }
  call.asked = std::move(*asked);
  wire::HttpRequest request = std::move(call.asked.request);
  request.fields = call.fields;
  if (request.method == "POST") {
    request.fields.push_back({"content-type", "application/json"});
  }
  // The handler may answer at once, but the pump comes later and finds it.
  call.exchange = std::make_unique<LocalExchange>(
      std::move(request), [this, raw = &call] { SchedulePump(*raw); }, options_.stream_bytes_max);
  handler_.Handle(*call.exchange);
}

void GrpcServer::OnGrpcEnd(std::uint64_t id) {
  const auto found = calls_.find(id);
  if (found == calls_.end()) {
    return;
  }
  Call& call = *found->second;
  call.reading = false;
  if (call.method == KserveMethod::kModelStreamInfer) {
    Finish(call, kGrpcOk, "");
  } else {
    Finish(call, kGrpcInvalidArgument, "the call has no message");
  }
}

void GrpcServer::OnGrpcWritten(std::uint64_t id) {
  if (const auto found = calls_.find(id); found != calls_.end()) {
    found->second->writing = false;
    Pump(*found->second);
  }
}

void GrpcServer::OnGrpcCancelled(std::uint64_t id) {
  if (const auto found = calls_.find(id); found != calls_.end()) {
    Finish(*found->second, kGrpcCancelled, "the client gave up or its deadline passed");
  }
}

void GrpcServer::SchedulePump(Call& call) {
  if (!std::exchange(call.pumping, true)) {
    loop_.Post([this, alive = std::weak_ptr(alive_), id = call.id] {
      if (alive.expired()) {
        return;
      }
      if (const auto found = calls_.find(id); found != calls_.end()) {
        found->second->pumping = false;
        Pump(*found->second);
      }
    });
  }
}

// One message is on its way at a time: what the client does not take is held where it is made.
void GrpcServer::Pump(Call& call) {
  if (call.finished || call.writing) {
    return;
  }
  if (call.outbox.empty() && call.exchange) {
    TakeStream(call);
    if (call.exchange->ended()) {
      TakeAnswer(call);
      call.exchange.reset();
    }
    if (call.finished) {
      return;
    }
  }
  if (!call.outbox.empty()) {
    call.writing = true;
    const std::string message = std::move(call.outbox.front());
    call.outbox.pop_front();
    host_->Write(call.id, message);
  } else if (!call.exchange && call.method != KserveMethod::kModelStreamInfer) {
    if (call.answered) {
      Finish(call, kGrpcOk, "");
    }
  } else if (!call.exchange && closing_) {
    Finish(call, kGrpcUnavailable, "the server shuts down; ask another");
  } else if (!call.exchange && !call.reading) {
    call.reading = true;
    host_->Read(call.id);
  }
}

void GrpcServer::TakeStream(Call& call) {
  call.events += call.exchange->TakeStream();
  const std::size_t end = call.events.rfind("\n\n");
  if (end == std::string::npos) {
    return;
  }
  wire::SseParser parser;
  std::vector<wire::SseEvent> events;
  const auto fed = parser.Feed(std::string_view(call.events).substr(0, end + 2), events);
  call.events.erase(0, end + 2);
  for (const wire::SseEvent& event : fed ? events : std::vector<wire::SseEvent>()) {
    const Result<wire::Json> data = wire::ParseJson(event.data);
    if (!data) {
      continue;  // a comment
    }
    const wire::Json* error = data->Find("error");
    call.outbox.push_back(error != nullptr && error->is_string()
                              ? KserveFailure(call.asked, error->string())
                              : KservePiece(call.asked, *data));
  }
}

void GrpcServer::TakeAnswer(Call& call) {
  const std::optional<Response>& response = call.exchange->response();
  if (call.exchange->streaming()) {
    return;  // its events said everything
  }
  if (!response) {
    FailRequest(call, HttpStatus(Code::kInternal), "the request ended unanswered");
    return;
  }
  const bool not_ready =
      response->status == HttpStatus(Code::kUnavailable) &&
      (call.method == KserveMethod::kServerReady || call.method == KserveMethod::kModelReady);
  const Result<wire::Json> body = wire::ParseJson(response->body);
  if ((response->status == 200 || (not_ready && body && body->Find("ready") != nullptr)) && body) {
    call.outbox.push_back(KserveReply(call.asked, *body));
    call.answered = true;
  } else {
    FailRequest(call, response->status, MessageOf(*response));
  }
}

// A unary call ends with it; in a stream it is the answer to one request.
void GrpcServer::FailRequest(Call& call, int http_status, std::string_view message) {
  if (call.method == KserveMethod::kModelStreamInfer) {
    call.outbox.push_back(KserveFailure(call.asked, message));
  } else {
    Finish(call, GrpcStatusOf(http_status), message);
  }
}

void GrpcServer::Finish(Call& call, int status, std::string_view message) {
  if (call.finished) {
    return;
  }
  call.finished = true;
  if (call.exchange) {
    call.exchange->HangUp();
  }
  host_->Finish(call.id, status, message);
}

}  // namespace pixii::frontend
