#include "bench/bench_loop.h"

#include <csignal>

namespace pixii::bench {

namespace {

constexpr rt::Duration kStartPatience = std::chrono::seconds(20);
constexpr rt::Duration kStartPoll = std::chrono::milliseconds(5);

}  // namespace

Result<std::unique_ptr<BenchLoop>> BenchLoop::Make(std::function<void()> on_interrupt) {
  auto out = std::make_unique<BenchLoop>();
  PX_TRY(out->loop_, rt::MakeLoop());
  out->net_ = rt::MakeNet(*out->loop_);
  PX_TRY(out->signals_,
         rt::WatchSignals(*out->loop_, {SIGTERM, SIGINT},
                          [on_interrupt = std::move(on_interrupt)](int) { on_interrupt(); }));
  return out;
}

Result<rt::Address> BenchLoop::WaitFor(HttpTarget& target) {
  return Wait(Listening(target, loop_->Now() + kStartPatience));
}

rt::Task<Result<rt::Address>> BenchLoop::Listening(HttpTarget& target, rt::Time deadline) {
  while (true) {
    Result<rt::Address> address = target.address();
    if (address) {
      auto connect = net_->Connect(*address, deadline);
      const Result<std::unique_ptr<rt::Stream>> stream = co_await std::move(connect);
      if (stream) {
        co_return address;
      }
    }
    const bool ended = !address && address.error().code() == Code::kNotFound && !target.running();
    if (ended || loop_->Now() > deadline) {
      co_return Fail(address ? Error(Code::kUnavailable, "the server does not listen")
                             : address.error());
    }
    auto sleep = loop_->SleepFor(kStartPoll);
    co_await std::move(sleep);
  }
}

}  // namespace pixii::bench
