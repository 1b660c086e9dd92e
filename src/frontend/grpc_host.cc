#include "frontend/grpc_host.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

namespace pixii::frontend {

using grpc_abi::Bytes;

namespace {

std::string Copy(Bytes bytes) {
  return bytes.size == 0 ? std::string() : std::string(bytes.data, bytes.size);
}

Bytes View(std::string_view text) { return {text.data(), text.size()}; }

GrpcHost& Host(void* self) { return *static_cast<GrpcHost*>(self); }

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

GrpcHost::GrpcHost(Key /*key*/, rt::Loop& loop, GrpcHandler& handler, GrpcLibrary library)
    : loop_(loop),
      handler_(handler),
      library_(std::move(library)),
      alive_(std::make_shared<bool>(true)) {}

GrpcHost::~GrpcHost() {
  if (server_ != nullptr) {
    library_.functions->free(server_);
  }
}

template <class Use>
void GrpcHost::Post(Use use) {
  loop_.Post([&handler = handler_, alive = std::weak_ptr(alive_), use = std::move(use)] {
    if (!alive.expired()) {
      use(handler);
    }
  });
}

Result<std::unique_ptr<GrpcHost>> GrpcHost::Start(rt::Loop& loop, GrpcHandler& handler,
                                                  GrpcLibrary library, const GrpcOptions& options) {
  auto out = std::make_unique<GrpcHost>(Key{}, loop, handler, std::move(library));
  GrpcHost* self = out.get();
  const grpc_abi::Events events{
      .self = self,
      .begin =
          [](void* raw, std::uint64_t id, Bytes path, const grpc_abi::Field* given,
             std::size_t count) {
            std::vector<wire::HttpField> fields;
            for (std::size_t i = 0; i < count; ++i) {
              fields.push_back({Copy(given[i].name), Copy(given[i].value)});
            }
            Host(raw).Post([id, path = Copy(path), fields = std::move(fields)](GrpcHandler& to) {
              to.OnGrpcBegin(id, path, fields);
            });
          },
      .message =
          [](void* raw, std::uint64_t id, Bytes message) {
            Host(raw).Post(
                [id, text = Copy(message)](GrpcHandler& to) { to.OnGrpcMessage(id, text); });
          },
      .end = [](void* raw,
                std::uint64_t id) { Host(raw).Post([id](GrpcHandler& to) { to.OnGrpcEnd(id); }); },
      .written =
          [](void* raw, std::uint64_t id) {
            Host(raw).Post([id](GrpcHandler& to) { to.OnGrpcWritten(id); });
          },
      .cancelled =
          [](void* raw, std::uint64_t id) {
            Host(raw).Post([id](GrpcHandler& to) { to.OnGrpcCancelled(id); });
          },
      .done =
          [](void* raw, std::uint64_t id) {
            Host(raw).Post([id](GrpcHandler& to) { to.OnGrpcDone(id); });
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
    self->server_ = nullptr;
    return Fail(Code::kUnavailable, fmt::format("gRPC on {}: {}", address, problem), "grpc-port");
  }
  return out;
}

void GrpcHost::Close(rt::Time deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - loop_.Now()).count();
  library_.functions->close(server_, std::max<std::int64_t>(0, left));
}

}  // namespace pixii::frontend
