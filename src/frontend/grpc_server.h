// KServe's protocol over gRPC: each call is a request to the server's own routes.
//
// Thread: the frontend's loop.
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
#include "frontend/grpc_host.h"
#include "frontend/kserve_proto.h"
#include "frontend/local_exchange.h"
#include "rt/loop.h"

namespace pixii::frontend {

class GrpcServer final : private GrpcHandler {
  struct Key {};

 public:
  /// `handler` takes requests as of a connection and outlives the server. Errors: kUnavailable with
  /// what the library says.
  static Result<std::unique_ptr<GrpcServer>> Start(rt::Loop& loop, ExchangeHandler& handler,
                                                   GrpcLibrary library, const GrpcOptions& options);
  /// For Start.
  GrpcServer(Key key, rt::Loop& loop, ExchangeHandler& handler, const GrpcOptions& options);
  /// Ends every call.
  ~GrpcServer() override;

  std::uint16_t port() const { return host_->port(); }

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

  // GrpcHandler
  void OnGrpcBegin(std::uint64_t id, const std::string& path,
                   std::vector<wire::HttpField> fields) override;
  void OnGrpcMessage(std::uint64_t id, const std::string& message) override;
  void OnGrpcEnd(std::uint64_t id) override;
  void OnGrpcWritten(std::uint64_t id) override;
  void OnGrpcCancelled(std::uint64_t id) override;

  void OnGrpcDone(std::uint64_t id) override { calls_.erase(id); }

  void Pump(Call& call);
  void SchedulePump(Call& call);
  void TakeStream(Call& call);
  void TakeAnswer(Call& call);
  void FailRequest(Call& call, int http_status, std::string_view message);
  void Finish(Call& call, int status, std::string_view message);

  rt::Loop& loop_;
  ExchangeHandler& handler_;
  const GrpcOptions options_;
  const std::shared_ptr<bool> alive_;  // posts hold it weakly
  std::map<std::uint64_t, std::unique_ptr<Call>> calls_;
  bool closing_ = false;
  std::unique_ptr<GrpcHost> host_;  // last: it ends the calls
};

}  // namespace pixii::frontend
