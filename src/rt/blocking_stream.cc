#include "rt/blocking_stream.h"

#include <optional>
#include <string_view>
#include <utility>

#include "rt/resolve.h"
#include "rt/socket_address.h"
#include "rt/sync.h"

namespace pixii::rt {

namespace {

template <class T>
Task<void> StopAfter(Loop& loop, Task<Result<T>> task, std::optional<Result<T>>& result) {
  result = co_await std::move(task);
  loop.Stop();
}

/// Runs `loop` until `task` has ended.
template <class T>
Result<T> Await(Loop& loop, Task<Result<T>> task) {
  std::optional<Result<T>> result;
  loop.Spawn(StopAfter(loop, std::move(task), result));
  loop.Run();
  return std::move(*result);
}

/// The same until `deadline`, however busy the peer keeps us.
template <class T>
Result<T> Await(Loop& loop, Task<Result<T>> task, Time deadline) {
  return Await(loop, WithDeadline(loop, std::move(task), deadline));
}

}  // namespace

BlockingStream::BlockingStream(std::unique_ptr<Loop> loop)
    : loop_(std::move(loop)), net_(MakeNet(*loop_)) {}

Result<std::unique_ptr<BlockingStream>> BlockingStream::Connect(
    const Address& address, Duration limit, std::shared_ptr<const TlsContext> tls) {
  Address target = address;
  if (const auto known = ToSocketAddresses(address);
      !known && known.error().code() == Code::kUnsupported) {
    PX_TRY(target.host, ResolveHost(address.host));
  }
  PX_TRY(std::unique_ptr<Loop> loop, MakeLoop());
  auto made = std::unique_ptr<BlockingStream>(
      new BlockingStream(std::move(loop)));  // tidy: new the constructor is private
  made->Begin(limit);
  if (tls) {
    made->tls_net_ =
        MakeTlsNet(*made->loop_, *made->net_, std::shared_ptr<const TlsContext>(), std::move(tls));
  }
  Net& net = made->tls_net_ ? *made->tls_net_ : *made->net_;
  PX_TRY(made->stream_,
         Await(*made->loop_, net.Connect(std::move(target), kNever), made->deadline_));
  return made;
}

void BlockingStream::Begin(Duration limit) { deadline_ = loop_->Now() + limit; }

Result<void> BlockingStream::Send(std::span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return Await(*loop_, stream_->Write(text, kNever), deadline_);
}

Result<std::size_t> BlockingStream::ReceiveSome(std::span<std::byte> out) {
  const std::span<char> text(reinterpret_cast<char*>(out.data()), out.size());
  PX_TRY(const std::size_t size, Await(*loop_, stream_->Read(text, kNever), deadline_));
  if (size == 0) {
    return Fail(Code::kUnavailable, "the other side ended the connection");
  }
  return size;
}

Result<void> BlockingStream::Receive(std::span<std::byte> out) {
  while (!out.empty()) {
    PX_TRY(const std::size_t size, ReceiveSome(out));
    out = out.subspan(size);
  }
  return {};
}

// Bytes that are there are found before that deadline, though it is now.
bool BlockingStream::stale() {
  char byte = 0;
  const auto got = Await(*loop_, stream_->Read({&byte, 1}, loop_->Now()));
  return got || got.error().code() != Code::kDeadlineExceeded;
}

}  // namespace pixii::rt
