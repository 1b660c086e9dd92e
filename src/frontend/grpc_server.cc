#include "frontend/grpc_server.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "frontend/error_body.h"
#include "wire/sse.h"

namespace pixii::frontend {

namespace {

using grpc_abi::Bytes;

constexpr int kOk = 0;
constexpr int kCancelled = 1;
constexpr int kInvalidArgument = 3;
constexpr int kResourceExhausted = 8;
constexpr int kUnimplemented = 12;
constexpr int kUnavailable = 14;

std::string Copy(Bytes bytes) {
  return bytes.size == 0 ? std::string() : std::string(bytes.data, bytes.size);
}

Bytes View(std::string_view text) { return {text.data(), text.size()}; }

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

Result<GrpcLibrary> LoadGrpcLibrary(std::string path) {
  if (path.empty()) {
    PX_TRY(path,
           rt::SharedLibrary::FindBesideProgram(
               grpc_abi::kLibraryName, "build the target pixii_grpc, which needs libgrpc++-dev"));
  }
  PX_TRY(rt::SharedLibrary file, rt::SharedLibrary::Open(path));
  PX_TRY(void* symbol, file.Symbol(grpc_abi::kEntryName));
  GrpcLibrary out;
  out.functions = reinterpret_cast<grpc_abi::Entry>(symbol)();
  if (out.functions->abi != grpc_abi::kAbi) {
    return Fail(Code::kUnsupported,
                fmt::format("{} speaks ABI {}, this program {}: build both of one version", path,
                            out.functions->abi, grpc_abi::kAbi),
                "kserve-grpc-server");
  }
  out.file = std::make_unique<rt::SharedLibrary>(std::move(file));
  return out;
}

GrpcServer::GrpcServer(Key /*key*/, rt::Loop& loop, ExchangeHandler& handler, GrpcLibrary library,
                       const GrpcOptions& options)
    : loop_(loop),
      handler_(handler),
      library_(std::move(library)),
      options_(options),
      alive_(std::make_shared<bool>(true)) {}

template <class Use>
void GrpcServer::Post(std::uint64_t id, Use use) {
  loop_.Post([this, alive = std::weak_ptr(alive_), id, use = std::move(use)] {
    if (alive.expired()) {
      return;
    }
    const auto found = calls_.find(id);
    if (found != calls_.end()) {
      use(*found->second);
    }
  });
}

Result<std::unique_ptr<GrpcServer>> GrpcServer::Start(rt::Loop& loop, ExchangeHandler& handler,
                                                      GrpcLibrary library,
                                                      const GrpcOptions& options) {
  auto out = std::make_unique<GrpcServer>(Key{}, loop, handler, std::move(library), options);
  GrpcServer* self = out.get();
  const grpc_abi::Events events{
      .self = self,
      .begin =
          [](void* raw, std::uint64_t id, Bytes path, const grpc_abi::Field* given,
             std::size_t count) {
            auto* server = static_cast<GrpcServer*>(raw);
            std::vector<wire::HttpField> fields;
            for (std::size_t i = 0; i < count; ++i) {
              std::string name = Copy(given[i].name);
              if (IsHeader(name)) {
                fields.push_back({std::move(name), Copy(given[i].value)});
              }
            }
            server->loop_.Post([server, alive = std::weak_ptr(server->alive_), id,
                                path = Copy(path), fields = std::move(fields)] {
              if (!alive.expired()) {
                server->OnBegin(id, path, fields);
              }
            });
          },
      .message =
          [](void* raw, std::uint64_t id, Bytes message) {
            auto* server = static_cast<GrpcServer*>(raw);
            server->Post(
                id, [server, text = Copy(message)](Call& call) { server->OnMessage(call, text); });
          },
      .end =
          [](void* raw, std::uint64_t id) {
            auto* server = static_cast<GrpcServer*>(raw);
            server->Post(id, [server](Call& call) { server->OnEnd(call); });
          },
      .written =
          [](void* raw, std::uint64_t id) {
            auto* server = static_cast<GrpcServer*>(raw);
            server->Post(id, [server](Call& call) {
              call.writing = false;
              server->Pump(call);
            });
          },
      .cancelled =
          [](void* raw, std::uint64_t id) {
            auto* server = static_cast<GrpcServer*>(raw);
            server->Post(id, [server](Call& call) {
              server->Finish(call, kCancelled, "the client gave up or its deadline passed");
            });
          },
      .done =
          [](void* raw, std::uint64_t id) {
            auto* server = static_cast<GrpcServer*>(raw);
            server->Post(id, [server, id](Call& /*call*/) { server->Erase(id); });
          },
  };
  const bool bare_ipv6 = options.host.find(':') != std::string::npos && options.host[0] != '[';
  const std::string address = fmt::format("{}{}{}:{}", bare_ipv6 ? "[" : "", options.host,
                                          bare_ipv6 ? "]" : "", options.port);
  const grpc_abi::Options given{.address = address.c_str(),
                                .certificate = View(options.certificate),
                                .key = View(options.key),
                                .authorities = View(options.authorities),
                                .message_bytes_max = options.message_bytes_max,
                                .streams_max = options.calls_max};
  if (const char* problem =
          self->library_.functions->start(&given, &events, &self->server_, &self->port_);
      problem != nullptr) {
    return Fail(Code::kUnavailable, fmt::format("gRPC on {}: {}", address, problem), "grpc-port");
  }
  return out;
}

GrpcServer::~GrpcServer() {
  for (const auto& [id, call] : calls_) {
    if (call->exchange) {
      call->exchange->HangUp();
    }
  }
  if (server_ != nullptr) {
    library_.functions->free(server_);
  }
}

void GrpcServer::BeginDrain(rt::Time deadline) {
  closing_ = true;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - loop_.Now()).count();
  library_.functions->close(server_, std::max<std::int64_t>(0, left));
  for (const auto& [id, call] : calls_) {
    SchedulePump(*call);  // streams between two requests end
  }
}

void GrpcServer::OnBegin(std::uint64_t id, const std::string& path,
                         std::vector<wire::HttpField> fields) {
  auto owned = std::make_unique<Call>();
  Call& call = *owned;
  call.id = id;
  call.fields = std::move(fields);
  const bool full = calls_.size() >= options_.calls_max;
  calls_.emplace(id, std::move(owned));
  const std::optional<KserveMethod> method = FindKserveMethod(path);
  if (!method) {
    Finish(call, kUnimplemented, "there is no such method");
  } else if (closing_) {
    Finish(call, kUnavailable, "the server shuts down; ask another");
  } else if (full) {
    Finish(call, kResourceExhausted,
           fmt::format("{} calls run, which is the limit; try again later", options_.calls_max));
  } else {
    call.method = *method;
    call.reading = true;
    library_.functions->read(server_, id);
  }
}

void GrpcServer::OnMessage(Call& call, const std::string& message) {
  call.reading = false;
  if (call.finished) {
    return;
  }
  Result<KserveCall> asked = ReadKserveMessage(call.method, message);
  if (!asked && asked.error().param().empty()) {  // nobody can tell what would follow
    Finish(call, kInvalidArgument, ClientMessage(asked.error()));
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

void GrpcServer::OnEnd(Call& call) {
  call.reading = false;
  if (call.method == KserveMethod::kModelStreamInfer) {
    Finish(call, kOk, "");
  } else {
    Finish(call, kInvalidArgument, "the call has no message");
  }
}

void GrpcServer::SchedulePump(Call& call) {
  if (!call.pumping) {
    call.pumping = true;
    Post(call.id, [this](Call& found) {
      found.pumping = false;
      Pump(found);
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
    library_.functions->write(server_, call.id, View(message));
  } else if (!call.exchange && call.method != KserveMethod::kModelStreamInfer) {
    if (call.answered) {
      Finish(call, kOk, "");
    }
  } else if (!call.exchange && closing_) {
    Finish(call, kUnavailable, "the server shuts down; ask another");
  } else if (!call.exchange && !call.reading) {
    call.reading = true;
    library_.functions->read(server_, call.id);
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
  library_.functions->finish(server_, call.id, status, View(message));
}

void GrpcServer::Erase(std::uint64_t id) { calls_.erase(id); }

}  // namespace pixii::frontend
