#include "control/http_call.h"

#include <fmt/format.h>

#include <limits>
#include <utility>

namespace pixii::control {

namespace {

constexpr std::size_t kReadBytes = 64 * 1024;
constexpr std::uint64_t kAnswerBytesMax = 512ULL * 1024 * 1024;

std::string HeadOf(const HttpCall& call) {
  std::string head = fmt::format("{} {} HTTP/1.1\r\nHost: {}\r\n", call.method, call.target,
                                 call.host.empty() ? call.address.ToString() : call.host);
  for (const wire::HttpField& field : call.fields) {
    head += fmt::format("{}: {}\r\n", field.name, field.value);
  }
  return head + fmt::format("Content-Length: {}\r\nConnection: close\r\n\r\n", call.body.size());
}

}  // namespace

HttpStream::HttpStream(std::unique_ptr<rt::Stream> stream, std::uint64_t body_bytes_max)
    : stream_(std::move(stream)), parser_(body_bytes_max), buffer_(kReadBytes, '\0') {}

rt::Task<Result<void>> HttpStream::ReadMore(rt::Time deadline) {
  auto reading = stream_->Read(buffer_, deadline);
  PX_CO_TRY(const std::size_t size, co_await std::move(reading));
  if (size == 0) {
    co_return parser_.FeedEnd();
  }
  unread_.append(buffer_, 0, size);
  PX_CO_TRY(const std::size_t used, parser_.Feed(unread_));
  unread_.erase(0, used);
  co_return Result<void>();
}

rt::Task<Result<std::string>> HttpStream::Read(rt::Time deadline) {
  while (true) {
    std::string piece = parser_.TakeBody();
    if (!piece.empty() || parser_.complete()) {
      co_return piece;
    }
    auto more = ReadMore(deadline);
    PX_CO_CHECK_OK(co_await std::move(more));
  }
}

rt::Task<Result<void>> HttpStream::ReadHead(rt::Time deadline) {
  while (!parser_.head_complete()) {
    auto more = ReadMore(deadline);
    PX_CO_CHECK_OK(co_await std::move(more));
  }
  co_return Result<void>();
}

rt::Task<Result<std::unique_ptr<HttpStream>>> SendHttp(rt::Net& net, HttpCall call,
                                                       rt::Time deadline) {
  auto connecting = net.Connect(call.address, deadline);
  PX_CO_TRY(std::unique_ptr<rt::Stream> connected, co_await std::move(connecting));
  const std::string request = HeadOf(call) + call.body;
  auto writing = connected->Write(request, deadline);
  PX_CO_CHECK_OK(co_await std::move(writing));
  co_return std::make_unique<HttpStream>(std::move(connected),
                                         std::numeric_limits<std::int64_t>::max());
}

rt::Task<Result<std::unique_ptr<HttpStream>>> OpenHttpStream(rt::Net& net, HttpCall call,
                                                             rt::Time deadline) {
  auto sending = SendHttp(net, std::move(call), deadline);
  PX_CO_TRY(std::unique_ptr<HttpStream> stream, co_await std::move(sending));
  auto head = stream->ReadHead(deadline);
  PX_CO_CHECK_OK(co_await std::move(head));
  co_return stream;
}

rt::Task<Result<HttpAnswer>> CallHttp(rt::Net& net, HttpCall call, rt::Time deadline) {
  auto opening = OpenHttpStream(net, std::move(call), deadline);
  PX_CO_TRY(const std::unique_ptr<HttpStream> stream, co_await std::move(opening));
  HttpAnswer answer{.status = stream->status(),
                    .body = {},
                    .retry_after = std::string(stream->Field("Retry-After"))};
  while (true) {
    auto reading = stream->Read(deadline);
    PX_CO_TRY(const std::string piece, co_await std::move(reading));
    if (piece.empty()) {
      co_return answer;
    }
    answer.body += piece;
    if (answer.body.size() > kAnswerBytesMax) {
      co_return Fail(Code::kTooLarge, "an answer of more than 512 MiB");
    }
  }
}

}  // namespace pixii::control
