// A frontend on its ports: HTTP, TLS, gRPC, API keys, records of requests.
//
// Thread: one loop.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/access_log_writer.h"
#include "apps/image_source.h"
#include "apps/option_structs.h"
#include "apps/record_writer.h"
#include "apps/request_recorder.h"
#include "apps/trace_exporter.h"
#include "base/result.h"
#include "control/instance.h"
#include "control/worker_link.h"
#include "frontend/api_keys.h"
#include "frontend/frontend.h"
#include "frontend/grpc_server.h"
#include "frontend/media_service.h"
#include "obs/log.h"
#include "obs/metrics.h"
#include "rt/loop.h"
#include "rt/net.h"
#include "rt/tls.h"
#include "rt/work_pool.h"

namespace pixii::apps {

/// How gRPC is spoken on a port of `host`, with the flags' certificates and limits. Blocks: at the
/// start. Errors: those of reading the certificates.
Result<frontend::GrpcOptions> GrpcOptionsOf(const HttpFlags& flags, std::string host,
                                            std::int64_t port);

class HttpUnit final {
 public:
  /// All outlive it.
  HttpUnit(rt::Loop& loop, rt::Net& net, obs::Log& log, const ProcessFlags& process,
           const HttpFlags& flags);

  HttpUnit(const HttpUnit&) = delete;
  HttpUnit& operator=(const HttpUnit&) = delete;

  /// Reads what the flags name, before anything that takes long: a wrong file is said at once.
  Result<void> Prepare();

  /// Listens. `instances`: what /health shows, of workers of other processes.
  Result<void> Start(bool adapter_api, obs::Registry& registry,
                     std::function<std::vector<frontend::ShownInstance>()> instances = {});

  /// frontend().Serve(), with how answers of the model are taken apart.
  Result<frontend::ServiceId> Serve(frontend::ServedModel served,
                                    std::shared_ptr<control::WorkerLink> link);

  /// Before Start: what it will serve makes videos and pictures.
  void OfferMedia(frontend::MediaServiceOptions options) { media_ = std::move(options); }

  /// frontend().ServeMedia(). Pre: OfferMedia, then Start.
  Result<void> ServeMedia(std::unique_ptr<frontend::MediaMaker> maker);

  /// Once the model has answered: writes the port files, says so. Stops the loop if it cannot.
  void AnnounceWhenReady(std::string_view note);

  /// Reads keys and certificates anew.
  void Reload();

  /// What came of the media that requests brought.
  void Export(obs::Registry& registry) const;

  /// Lets what runs end, then stops the loop, or calls `on_done` if it is given. False, and nothing
  /// happens: it was not started.
  bool Drain(std::function<void()> on_done = {});

  /// Pre: Prepare.
  const MediaGetters& getters() const { return getters_; }

  /// Pre: Start.
  frontend::Frontend& frontend() { return *frontend_; }

  /// Where it listens. Pre: Start.
  const rt::Address& address() const { return address_; }

  bool is_started() const { return frontend_.has_value(); }

  /// Of the process, if announcing failed.
  std::optional<int> exit() const { return exit_; }

 private:
  struct Reloaded;

  Result<void> UseParsers(frontend::ServedModel& served) const;
  Result<rt::Address> ListenAddress() const;
  Result<void> UseTls();
  rt::TlsFiles TlsFiles() const;
  void UseReloaded(Reloaded& fresh);
  Result<void> ListenGrpc();
  rt::Task<void> Announce(std::string note);
  rt::Task<void> WatchReadiness();
  rt::Task<void> DrainAndStop(std::function<void()> on_done);
  Result<void> WritePorts() const;
  void SayEnded(const frontend::RequestTrace& trace);
  void SayExample(std::string_view note) const;

  rt::Loop& loop_;
  obs::Log& log_;
  const ProcessFlags& process_;
  const HttpFlags& flags_;
  rt::Net* net_;  // the plain one, or that below
  rt::Net* const plain_net_;
  std::unique_ptr<rt::Net> tls_net_;  // null: plain HTTP
  const std::shared_ptr<rt::TlsSlot> tls_ = std::make_shared<rt::TlsSlot>();
  frontend::ApiKeys keys_;
  rt::Address address_;                  // asked for, then bound
  std::optional<wire::ModelCard> card_;  // of the model that was served first; none of videos
  MediaGetters getters_;
  std::string model_name_;
  std::optional<frontend::MediaServiceOptions> media_;  // nothing: it makes none
  bool draining_ = false;
  std::optional<int> exit_;
  std::unique_ptr<RecordWriter> recorder_;
  std::unique_ptr<AccessLogWriter> access_log_;          // null: there is none
  std::unique_ptr<TraceExporter> exporter_;              // null: nobody collects traces
  std::unique_ptr<RequestRecorder> recorder_of_traces_;  // null: nobody wants such records
  std::unique_ptr<frontend::TraceStore> traces_;         // from Start on
  std::optional<frontend::Frontend> frontend_;
  std::unique_ptr<frontend::GrpcServer> grpc_;  // asks the frontend
  std::unique_ptr<rt::WorkPool> reload_pool_;
};

}  // namespace pixii::apps
