// libpixii_grpc.so: a gRPC server that carries bytes. The only file that sees gRPC's headers.
#include <grpc/support/time.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/resource_quota.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "frontend/grpc_abi.h"

namespace pixii::frontend::grpc_abi {

namespace {

constexpr int kUnavailable = ::grpc::StatusCode::UNAVAILABLE;
constexpr int kKeepaliveMilliseconds = 60'000;  // a silent client is asked whether it is there
constexpr int kKeepaliveTimeoutMilliseconds = 20'000;

Bytes View(std::string_view text) { return {text.data(), text.size()}; }

std::string Copy(Bytes bytes) {
  return bytes.size == 0 ? std::string() : std::string(bytes.data, bytes.size);
}

std::string Gather(const ::grpc::ByteBuffer& buffer) {
  std::vector<::grpc::Slice> slices;
  std::string out;
  if (buffer.Dump(&slices).ok()) {
    for (const ::grpc::Slice& slice : slices) {
      out.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
    }
  }
  return out;
}

class Call;

}  // namespace

struct Server final : ::grpc::CallbackGenericService {
  ::grpc::ServerGenericBidiReactor* CreateReactor(
      ::grpc::GenericCallbackServerContext* context) override;

  std::shared_ptr<Call> Find(std::uint64_t id) {
    const std::lock_guard lock(mutex);
    const auto found = calls.find(id);
    return found == calls.end() ? nullptr : found->second;
  }

  Events events;
  std::unique_ptr<::grpc::Server> server;
  std::thread closer;
  std::mutex mutex;
  std::unordered_map<std::uint64_t, std::shared_ptr<Call>> calls;
  bool freeing = false;  // the program hears of no new calls
  std::atomic<std::uint64_t> last_call{0};
};

namespace {

// Lives in the server's map until it is done.
class Call final : public ::grpc::ServerGenericBidiReactor {
 public:
  Call(Server& server, std::uint64_t id) : server_(server), id_(id) {}

  void Read() { StartRead(&in_); }

  void Write(Bytes message) {
    const ::grpc::Slice slice(message.data, message.size);
    out_ = ::grpc::ByteBuffer(&slice, 1);
    StartWrite(&out_);
  }

  void End(int status, Bytes message) {
    if (ended_.exchange(true)) {
      return;
    }
    Finish(::grpc::Status(static_cast<::grpc::StatusCode>(status), Copy(message)));
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      server_.events.end(server_.events.self, id_);
      return;
    }
    const std::string message = Gather(in_);
    in_.Clear();
    server_.events.message(server_.events.self, id_, View(message));
  }

  void OnWriteDone(bool /*ok*/) override { server_.events.written(server_.events.self, id_); }

  void OnCancel() override { server_.events.cancelled(server_.events.self, id_); }

  void OnDone() override {
    std::shared_ptr<Call> self;  // dies behind everything else
    {
      const std::lock_guard lock(server_.mutex);
      const auto found = server_.calls.find(id_);
      self = std::move(found->second);
      server_.calls.erase(found);
    }
    server_.events.done(server_.events.self, id_);
  }

 private:
  Server& server_;
  const std::uint64_t id_;
  ::grpc::ByteBuffer in_;
  ::grpc::ByteBuffer out_;
  std::atomic<bool> ended_{false};
};

const char* Start(const Options* options, const Events* events, Server** out, std::uint16_t* port) {
  auto server = std::make_unique<Server>();
  server->events = *events;
  std::shared_ptr<::grpc::ServerCredentials> credentials = ::grpc::InsecureServerCredentials();
  if (options->certificate.size > 0) {
    ::grpc::SslServerCredentialsOptions tls(
        options->authorities.size > 0 ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                                      : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE);
    tls.pem_root_certs = Copy(options->authorities);
    tls.pem_key_cert_pairs.push_back({Copy(options->key), Copy(options->certificate)});
    credentials = ::grpc::SslServerCredentials(tls);
  }
  int bound = 0;
  ::grpc::ServerBuilder builder;
  builder.AddListeningPort(options->address, credentials, &bound);
  builder.SetMaxReceiveMessageSize(static_cast<int>(options->message_bytes_max));
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS,
                             static_cast<int>(options->streams_max));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMilliseconds);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMilliseconds);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.RegisterCallbackGenericService(server.get());
  server->server = builder.BuildAndStart();
  if (server->server == nullptr || bound == 0) {
    return "it cannot listen there: the address is in use or wrong, or so are certificate and key";
  }
  *port = static_cast<std::uint16_t>(bound);
  *out = server.release();
  return nullptr;
}

void Read(Server* server, std::uint64_t call) {
  if (const std::shared_ptr<Call> found = server->Find(call)) {
    found->Read();
  }
}

void Write(Server* server, std::uint64_t call, Bytes message) {
  if (const std::shared_ptr<Call> found = server->Find(call)) {
    found->Write(message);
  }
}

void Finish(Server* server, std::uint64_t call, int status, Bytes message) {
  if (const std::shared_ptr<Call> found = server->Find(call)) {
    found->End(status, message);
  }
}

void Close(Server* server, std::int64_t milliseconds) {
  const gpr_timespec deadline =
      gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(milliseconds, GPR_TIMESPAN));
  server->closer = std::thread([server, deadline] { server->server->Shutdown(deadline); });
}

void Free(Server* server) {
  std::vector<std::shared_ptr<Call>> left;
  {
    const std::lock_guard lock(server->mutex);
    server->freeing = true;
    for (const auto& [id, call] : server->calls) {
      left.push_back(call);
    }
  }
  for (const std::shared_ptr<Call>& call : left) {
    call->End(kUnavailable, View("the server ends"));
  }
  left.clear();
  if (server->closer.joinable()) {
    server->closer.join();
  } else {
    server->server->Shutdown(gpr_inf_past(GPR_CLOCK_MONOTONIC));
  }
  server->server->Wait();
  server->server.reset();
  const std::unique_ptr<Server> owned(server);
}

constexpr Library kLibrary{.abi = kAbi,
                           .start = Start,
                           .read = Read,
                           .write = Write,
                           .finish = Finish,
                           .close = Close,
                           .free = Free};

}  // namespace

::grpc::ServerGenericBidiReactor* Server::CreateReactor(
    ::grpc::GenericCallbackServerContext* context) {
  const std::uint64_t id = ++last_call;
  auto call = std::make_shared<Call>(*this, id);
  Call* raw = call.get();
  {
    const std::lock_guard lock(mutex);
    calls.emplace(id, std::move(call));
    if (freeing) {
      raw->End(kUnavailable, View("the server ends"));
      return raw;
    }
  }
  std::vector<Field> fields;
  for (const auto& [name, value] : context->client_metadata()) {
    fields.push_back({{name.data(), name.size()}, {value.data(), value.size()}});
  }
  events.begin(events.self, id, View(context->method()), fields.data(), fields.size());
  return raw;
}

}  // namespace pixii::frontend::grpc_abi

extern "C" __attribute__((visibility("default"))) const pixii::frontend::grpc_abi::Library*
pixii_grpc_library() {
  return &pixii::frontend::grpc_abi::kLibrary;
}
