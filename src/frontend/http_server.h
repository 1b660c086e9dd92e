// Listens, and owns the connections. Flushes them once per turn of the loop, whatever was appended
// meanwhile.
//
// Thread: one loop. Several servers on several loops can share a port (ListenOptions::reuse_port).
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "frontend/exchange.h"
#include "frontend/http_connection.h"
#include "frontend/options.h"
#include "rt/net.h"
#include "rt/sync.h"

namespace pixii::frontend {

class HttpServer final : private ConnectionHost {
  struct Key {};

 public:
  /// Errors: those of rt::Net::Listen. `handler` outlives the server.
  static Result<std::unique_ptr<HttpServer>> Listen(rt::Loop& loop, rt::Net& net,
                                                    const rt::Address& address,
                                                    const rt::ListenOptions& listen,
                                                    const HttpServerOptions& options,
                                                    ExchangeHandler& handler);
  /// For Listen.
  HttpServer(Key key, rt::Loop& loop, std::unique_ptr<rt::Listener> listener,
             const HttpServerOptions& options, ExchangeHandler& handler);
  ~HttpServer() override;

  rt::Address address() const { return listener_->address(); }

  /// From now on every response ends its connection, and idle connections are closed. New ones are
  /// still accepted.
  void BeginDrain();
  /// Stops listening and closes every connection; waits until all are gone, at most until
  /// `deadline`.
  rt::Task<void> Close(rt::Time deadline);
  /// Waits until no client has an answer under way, or the deadline.
  rt::Task<void> WaitUntilAnswered(rt::Time deadline);

  std::size_t connection_count() const { return connections_.size(); }

  std::uint64_t accepted_count() const { return accepted_count_; }

  std::uint64_t refused_count() const { return refused_count_; }

 private:
  rt::Task<void> AcceptLoop();
  rt::Task<void> TurnLoop();
  void Adopt(std::unique_ptr<rt::Stream> stream);

  void ScheduleFlush(HttpConnection& connection) override;
  void OnDone(HttpConnection& connection) override;

  bool draining() const override { return draining_; }

  rt::Loop& loop_;
  std::unique_ptr<rt::Listener> listener_;
  HttpServerOptions options_;
  ExchangeHandler& handler_;
  std::unordered_map<HttpConnection*, std::unique_ptr<HttpConnection>> connections_;
  std::vector<HttpConnection*> dirty_;
  std::vector<HttpConnection*> flushing_;
  std::vector<HttpConnection*> done_;
  std::uint64_t accepted_count_ = 0;
  std::uint64_t refused_count_ = 0;
  bool draining_ = false;
  rt::WaitList turn_;
  rt::WaitList all_gone_;
  rt::SpawnedTasks tasks_;  // last: their frames use what stands above
};

}  // namespace pixii::frontend
