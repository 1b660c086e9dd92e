// KServe's protocol over gRPC: each call is a request to the server's own routes.
//
// Thread: the frontend's loop. What the library says on its threads is posted there.
// A call's metadata become header fields, so keys, tenants, quotas and labels are those of HTTP.
// docs/subsystems/frontend.md
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "frontend/exchange.h"
#include "frontend/grpc_abi.h"
#include "frontend/kserve_proto.h"
#include "frontend/local_exchange.h"
#include "rt/loop.h"
#include "rt/shared_library.h"

namespace pixii::frontend {

struct GrpcOptions {
  std::string host = "127.0.0.1";
  std::uint16_t port = 0;   // 0: the system picks one
  std::string certificate;  // PEM; empty: no TLS
  std::string key;          // likewise
  std::string authorities;  // that sign clients' certificates; empty: none is asked for
  std::uint32_t message_bytes_max = 16U << 20;
  std::uint32_t calls_max = 1024;              // at a time; further ones get RESOURCE_EXHAUSTED
  std::uint32_t stream_bytes_max = 64U << 10;  // held for a client that does not read
};

/// libpixii_grpc.so, which is loaded when it is asked for.
struct GrpcLibrary {
  std::unique_ptr<rt::SharedLibrary> file;  // null: the functions are elsewhere, as in a test
  const grpc_abi::Library* functions = nullptr;
};

/// `path` empty: beside the program, or in the folder above it. Errors: kUnsupported.
Result<GrpcLibrary> LoadGrpcLibrary(std::string path);

class GrpcServer final {
  struct Key {};

 public:
  /// `handler` takes requests as of a connection and outlives the server. Errors: kUnavailable with
  /// what the library says.
  static Result<std::unique_ptr<GrpcServer>> Start(rt::Loop& loop, ExchangeHandler& handler,
                                                   GrpcLibrary library, const GrpcOptions& options);
  /// For Start.
  GrpcServer(Key key, rt::Loop& loop, ExchangeHandler& handler, GrpcLibrary library,
             const GrpcOptions& options);
  /// Ends every call.
  ~GrpcServer();

  std::uint16_t port() const { return port_; }

  std::size_t call_count() const { return calls_.size(); }

  /// Takes no new calls; requests that run may go on until `deadline`. Does not wait: the requests
  /// are the handler's.
  void BeginDrain(rt::Time deadline);

 private:
  struct Call {
    std::uint64_t id = 0;
    KserveMethod method = KserveMethod::kServerLive;
    std::vector<wire::HttpField> fields;
    KserveCall asked;  // what runs
    std::unique_ptr<LocalExchange> exchange;
    std::string events;              // of a stream, not yet a whole one
    std::deque<std::string> outbox;  // messages
    bool reading = false;
    bool writing = false;
    bool answered = false;  // a unary call's answer is in the outbox
    bool finished = false;
    bool pumping = false;  // a pump is posted
  };

  /// Posts `use` of the call, if it is still there.
  template <class Use>
  void Post(std::uint64_t id, Use use);

  void OnBegin(std::uint64_t id, const std::string& path, std::vector<wire::HttpField> fields);
  void OnMessage(Call& call, const std::string& message);
  void OnEnd(Call& call);
  void Pump(Call& call);
  void SchedulePump(Call& call);
  void TakeStream(Call& call);
  void TakeAnswer(Call& call);
  void FailRequest(Call& call, int http_status, std::string_view message);
  void Finish(Call& call, int status, std::string_view message);
  void Erase(std::uint64_t id);

  rt::Loop& loop_;
  ExchangeHandler& handler_;
  GrpcLibrary library_;
  const GrpcOptions options_;
  const std::shared_ptr<bool> alive_;  // posts hold it weakly
  grpc_abi::Server* server_ = nullptr;
  std::uint16_t port_ = 0;
  std::map<std::uint64_t, std::unique_ptr<Call>> calls_;
  bool closing_ = false;
};

}  // namespace pixii::frontend
