#include "bench/floor_server.h"

#include <array>
#include <string_view>
#include <utility>

namespace pixii::bench {

Result<std::unique_ptr<FloorServer>> FloorServer::Start(std::string answer) {
  auto server = std::make_unique<FloorServer>();
  server->answer_ = std::move(answer);
  PX_TRY(server->loop_, rt::MakeLoop());
  server->net_ = rt::MakeNet(*server->loop_);
  PX_TRY(server->listener_, server->net_->Listen({.host = "127.0.0.1", .port = 0}, {}));
  server->loop_->Spawn(server->Accept());
  server->thread_ = rt::Thread("floor", [raw = server.get()] { raw->loop_->Run(); });
  return server;
}

FloorServer::~FloorServer() {
  if (thread_.joinable()) {
    loop_->Stop();
    thread_.Join();
  }
  // Connections and listener end on this thread, which owns a loop that does not run.
}

rt::Task<void> FloorServer::Accept() {
  while (true) {
    auto accept = listener_->Accept();
    Result<std::unique_ptr<rt::Stream>> stream = co_await std::move(accept);
    if (!stream) {
      co_return;
    }
    loop_->Spawn(Serve(std::move(*stream)));
  }
}

rt::Task<void> FloorServer::Serve(std::unique_ptr<rt::Stream> stream) {
  constexpr std::string_view kEnd = "\r\n\r\n";
  std::array<char, 16 * 1024> buffer;  // NOLINT: filled by the kernel
  std::string answers;
  std::size_t matched = 0;  // bytes of kEnd
  while (true) {
    auto read = stream->Read(buffer, rt::kNever);
    const Result<std::size_t> count = co_await std::move(read);
    if (!count || *count == 0) {
      co_return;
    }
    answers.clear();
    for (const char c : std::string_view(buffer.data(), *count)) {
      matched = c == kEnd[matched] ? matched + 1 : c == '\r' ? 1 : 0;
      if (matched == kEnd.size()) {
        answers += answer_;
        matched = 0;
      }
    }
    auto write = stream->Write(answers, rt::kNever);
    const Result<void> written = co_await std::move(write);
    if (!written) {
      co_return;
    }
  }
}

}  // namespace pixii::bench
