#include "transport/doorkeeper.h"

#include <utility>

namespace pixii::transport {

Result<void> Doorkeeper::Open(rt::Net& net, const rt::Address& address, Admit admit,
                              Welcome welcome) {
  PX_TRY(listener_, net.Listen(address, {}));
  admit_ = std::move(admit);
  welcome_ = std::move(welcome);
  tasks_.Start(Accept());
  return {};
}

void Doorkeeper::Close() {
  if (listener_ != nullptr) {
    listener_->Close();
  }
  tasks_.Clear();
}

void Doorkeeper::Left() {
  --inside_;
  context_.counters.connections.fetch_sub(1, std::memory_order_relaxed);
}

rt::Task<void> Doorkeeper::Accept() {
  while (true) {
    Result<std::unique_ptr<rt::Stream>> stream = co_await listener_->Accept();
    if (!stream && stream.error().code() == Code::kCancelled) {
      co_return;
    }
    if (!stream) {
      continue;  // no descriptors: the listener pauses by itself
    }
    if (strangers_ >= options_.strangers_max || inside_ >= options_.connections_max ||
        !admit_(**stream)) {
      Refuse();
      continue;
    }
    ++strangers_;
    tasks_.Start(Shake(std::move(*stream)));
  }
}

rt::Task<void> Doorkeeper::Shake(std::unique_ptr<rt::Stream> stream) {
  const HandshakeOptions options{.own = context_.id,
                                 .channel = options_.channel,
                                 .checksums = options_.checksums,
                                 .deadline = context_.loop.Now() + kHandshakeTimeMax};
  const Result<Session> session = co_await ShakeAsServer(*stream, key_, options);
  --strangers_;
  if (!session) {
    Refuse();
    co_return;
  }
  ++inside_;
  context_.counters.connections.fetch_add(1, std::memory_order_relaxed);
  if (!welcome_(std::move(stream), *session)) {
    Left();
  }
}

}  // namespace pixii::transport
