#include "frontend/http_server.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/assert.h"

namespace pixii::frontend {

namespace {

constexpr rt::Duration kAnsweredPoll = std::chrono::milliseconds(5);  // at shutdown only

}  // namespace

Result<std::unique_ptr<HttpServer>> HttpServer::Listen(rt::Loop& loop, rt::Net& net,
                                                       const rt::Address& address,
                                                       const rt::ListenOptions& listen,
                                                       const HttpServerOptions& options,
                                                       ExchangeHandler& handler) {
  PX_TRY(auto listener, net.Listen(address, listen));
  auto server = std::make_unique<HttpServer>(Key(), loop, std::move(listener), options, handler);
  server->tasks_.Start(server->TurnLoop());
  server->tasks_.Start(server->AcceptLoop());
  return server;
}

HttpServer::HttpServer(Key, rt::Loop& loop, std::unique_ptr<rt::Listener> listener,
                       const HttpServerOptions& options, ExchangeHandler& handler)
    : loop_(loop),
      listener_(std::move(listener)),
      options_(options),
      handler_(handler),
      turn_(loop),
      all_gone_(loop) {}

HttpServer::~HttpServer() {
  tasks_.Clear();
  connections_.clear();
}

rt::Task<void> HttpServer::AcceptLoop() {
  while (true) {
    Result<std::unique_ptr<rt::Stream>> stream = co_await listener_->Accept();
    if (stream) {
      Adopt(std::move(*stream));
      continue;
    }
    if (stream.error().code() == Code::kCancelled) {
      co_return;
    }
    co_await loop_.SleepFor(
        std::chrono::milliseconds(50));  // out of descriptors: some client will leave
  }
}

void HttpServer::Adopt(std::unique_ptr<rt::Stream> stream) {
  ++accepted_count_;
  if (connections_.size() >= options_.connections_max) {
    ++refused_count_;
    Response full = handler_.Refusal({503, "too many connections"});
    std::string text;
    wire::AppendHttpHead(text, {.status = full.status,
                                .content_type = full.content_type,
                                .content_length = full.body.size(),
                                .chunked = false,
                                .keep_alive = false,
                                .minor_version = 1,
                                .fields = std::move(full.fields)});
    text += full.body;
    (void)stream->TryWrite(text);
    return;
  }
  ConnectionHost& host = *this;
  auto connection =
      std::make_unique<HttpConnection>(loop_, std::move(stream), handler_, host, options_);
  HttpConnection* raw = connection.get();
  connections_.emplace(raw, std::move(connection));
  raw->Start();
}

// Runs after what the current turn had queued: one write per connection for all that was appended
// in it.
rt::Task<void> HttpServer::TurnLoop() {
  while (true) {
    if (dirty_.empty() && done_.empty()) {
      co_await turn_.Wait(rt::kNever);
    }
    flushing_.swap(dirty_);
    for (HttpConnection* connection : flushing_) {
      connection->flush_scheduled = false;
      connection->Flush();
    }
    flushing_.clear();
    if (!dirty_.empty()) {
      co_await loop_.Yield();  // a flush appended more: others first
      continue;
    }
    for (HttpConnection* connection : std::exchange(done_, {})) {
      connections_.erase(connection);
    }
    if (connections_.empty()) {
      all_gone_.WakeAll();
    }
  }
}

void HttpServer::ScheduleFlush(HttpConnection& connection) {
  connection.flush_scheduled = true;
  dirty_.push_back(&connection);
  turn_.WakeAll();
}

void HttpServer::OnDone(HttpConnection& connection) {
  done_.push_back(&connection);
  turn_.WakeAll();
}

void HttpServer::BeginDrain() {
  draining_ = true;
  for (auto& [raw, connection] : connections_) {
    raw->CloseIfIdle();
  }
}

rt::Task<void> HttpServer::WaitUntilAnswered(rt::Time deadline) {
  auto answering = [this] {
    return std::any_of(connections_.begin(), connections_.end(),
                       [](const auto& entry) { return entry.first->answering(); });
  };
  while (answering() && loop_.Now() < deadline) {
    co_await loop_.SleepFor(kAnsweredPoll);
  }
}

rt::Task<void> HttpServer::Close(rt::Time deadline) {
  draining_ = true;
  listener_->Close();
  std::vector<HttpConnection*> open;
  for (auto& [raw, connection] : connections_) {
    open.push_back(raw);
  }
  for (HttpConnection* connection : open) {
    connection->Close();
  }
  while (!connections_.empty() && loop_.Now() < deadline) {
    co_await all_gone_.Wait(deadline);
  }
}

}  // namespace pixii::frontend
