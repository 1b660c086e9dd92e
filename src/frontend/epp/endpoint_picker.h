// Tells gateways which endpoint gets a request: Envoy's external processing and gRPC's health
// service on a port.
//
// Thread: one loop. docs/endpoint_picker.md
// A request counts at its worker from the moment it is told of until the gateway says that its
// answer has ended, or the stream that tells of it breaks.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "frontend/cluster_view.h"
#include "frontend/epp/ext_proc_stream.h"
#include "frontend/exchange.h"
#include "frontend/fleet/placer.h"
#include "frontend/grpc_host.h"
#include "obs/metrics.h"
#include "rt/alarm.h"
#include "rt/loop.h"

namespace pixii::frontend {

struct EndpointPickerOptions {
  GrpcOptions grpc = {};
  ExtProcOptions proc = {};
  std::uint16_t endpoint_port = 8000;  // beside each worker
  bool token_data = true;              // requests get their prompt's tokens with them
};

/// What it stands on; all outlive it.
struct EndpointPickerEnvironment {
  rt::Loop& loop;
  ExchangeHandler& handler;  // reads requests
  obs::Registry& registry;
  /// Who places requests of a service (PlannedRequest::service); null: it is gone.
  std::function<Placer*(std::uint64_t service)> placer;
  std::function<std::vector<ShownInstance>()> instances;
  std::function<bool()> ready;
};

/// Where a gateway reaches the frontend beside a worker; nothing: nowhere.
std::optional<std::string> EndpointOf(std::string_view worker_address, std::uint16_t port);

/// `body` with the tokens as nvext.token_data; nothing: it is no JSON object.
std::optional<std::string> WithTokenData(const std::string& body,
                                         const std::vector<TokenId>& tokens);

class EndpointPicker final : private GrpcHandler {
  struct Key {};

 public:
  /// Errors: kUnavailable with what the library says.
  static Result<std::unique_ptr<EndpointPicker>> Start(EndpointPickerEnvironment environment,
                                                       GrpcLibrary library,
                                                       const EndpointPickerOptions& options);
  /// For Start.
  EndpointPicker(Key key, EndpointPickerEnvironment environment,
                 const EndpointPickerOptions& options);
  /// Ends every stream.
  ~EndpointPicker() override;

  std::uint16_t port() const { return host_->port(); }

  /// Requests that have not ended.
  std::size_t stream_count() const { return streams_.size(); }

  /// Takes nothing new; `on_done` is called once nothing runs, or at `deadline`.
  void Drain(rt::Time deadline, std::function<void()> on_done);

 private:
  class Stream;

  /// A health check that is answered, or watched.
  struct Check {
    bool watches = false;
    std::string service;
    std::optional<Health> told;
    bool writing = false;
    bool finished = false;
  };

  // GrpcHandler
  void OnGrpcBegin(std::uint64_t id, const std::string& path,
                   std::vector<wire::HttpField> fields) override;
  void OnGrpcMessage(std::uint64_t id, const std::string& message) override;
  void OnGrpcEnd(std::uint64_t id) override;
  void OnGrpcWritten(std::uint64_t id) override;
  void OnGrpcCancelled(std::uint64_t id) override;
  void OnGrpcDone(std::uint64_t id) override;

  void OnCheck(std::uint64_t id, Check& check, const std::string& message);
  void TellHealth(std::uint64_t id, Check& check);
  Health HealthOf(std::string_view service) const;
  void OnTime();
  std::optional<control::Instance> NextInTurn(const Stream& stream);
  std::optional<std::string> EndpointFor(const Stream& stream,
                                         const control::Instance& instance) const;
  void Count(std::string_view result);
  void Ended();

  EndpointPickerEnvironment environment_;
  const EndpointPickerOptions options_;
  std::map<std::uint64_t, std::unique_ptr<Stream>> streams_;
  std::map<std::uint64_t, Check> checks_;
  std::uint64_t turn_ = 0;
  rt::Time deadline_ = rt::kNever;  // of what runs while it drains
  std::function<void()> on_done_;
  bool draining_ = false;
  rt::Alarm alarm_;
  obs::Gauge& streams_open_;
  const std::shared_ptr<bool> alive_;  // posts hold it weakly
  std::unique_ptr<GrpcHost> host_;     // last: it ends the calls
};

}  // namespace pixii::frontend
