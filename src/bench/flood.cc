#include "bench/flood.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/assert.h"
#include "rt/sync.h"

namespace pixii::bench {

namespace {

constexpr std::size_t kReadSize = 64 * 1024;
constexpr std::size_t kAnswerSizeMax = 64 << 20;  // bytes
constexpr std::string_view kHeadEnd = "\r\n\r\n";
constexpr std::string_view kStreamEnd = "\r\n0\r\n\r\n";
constexpr std::string_view kEvent = "data: ";

double Milliseconds(rt::Duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

Result<void> CheckStatus(std::string_view answer) {
  if (!answer.starts_with("HTTP/1.1 200")) {
    return Fail(Code::kUnavailable, fmt::format("the answer is {}", answer.substr(0, 500)));
  }
  return {};
}

FloodRequest MakeRequest(std::string head, std::string_view body) {
  FloodRequest request{.bytes = std::move(head)};
  const std::size_t at = body.find(std::string(FloodRequest::kDigits, '0'));
  if (at != std::string_view::npos) {
    request.number_at = request.bytes.size() + at;
  }
  request.bytes += body;
  return request;
}

class Flood final {
 public:
  Flood(rt::Loop& loop, rt::Net& net, FloodOptions options)
      : loop_(loop), net_(net), options_(std::move(options)), finished_(loop) {
    PX_ASSERT(!options_.stream || options_.pipeline == 1);
  }

  rt::Task<Result<FloodResult>> Run() {
    const rt::Time begin = loop_.Now();
    end_ = begin + options_.time;
    for (std::uint32_t i = 0; i < options_.connections; ++i) {
      PX_CO_TRY(rt::Gate::Pass pass, finished_.Enter());
      loop_.Spawn(Client(std::move(pass)));
    }
    auto all = finished_.Close();
    co_await std::move(all);
    result_.elapsed_s = Milliseconds(loop_.Now() - begin) / 1000;
    if (error_) {
      co_return Fail(*error_);
    }
    co_return std::move(result_);
  }

 private:
  rt::Task<void> Client(rt::Gate::Pass pass) {
    auto run = Requests();
    Result<void> done = co_await std::move(run);
    if (!done) {
      error_ = done.error();
    }
    (void)pass;
  }

  rt::Task<Result<void>> Requests() {
    auto connect = net_.Connect(options_.server, loop_.Now() + options_.patience);
    PX_CO_TRY(const std::unique_ptr<rt::Stream> stream, co_await std::move(connect));
    AnswerReader reader(options_.stream);
    std::vector<char> piece(kReadSize);
    std::string requests;
    for (std::uint32_t i = 0; i < options_.pipeline; ++i) {
      requests += options_.request.bytes;
    }
    do {
      Number(requests);
      const rt::Time sent = loop_.Now();
      const rt::Time deadline = sent + options_.patience;
      auto write = stream->Write(requests, deadline);
      PX_CO_CHECK_OK(co_await std::move(write));
      bool first = false;
      for (std::uint32_t answered = 0; answered < options_.pipeline;) {
        auto read = stream->Read(piece, deadline);
        PX_CO_TRY(const std::size_t count, co_await std::move(read));
        if (count == 0) {
          co_return Fail(Code::kUnavailable, "the server closed the connection");
        }
        PX_CO_TRY(const std::uint32_t ended, reader.Feed({piece.data(), count}));
        if (!first && (ended > 0 || reader.has_begun())) {
          first = true;
          result_.first_ms.push_back(Milliseconds(loop_.Now() - sent));
        }
        answered += ended;
        result_.requests += ended;
      }
    } while (!error_ && loop_.Now() < end_);
    result_.events += reader.events();
    result_.last_answer = reader.last_answer();
    co_return Result<void>();
  }

  /// Gives each copy a number of its own.
  void Number(std::string& requests) {
    const FloodRequest& request = options_.request;
    if (request.number_at == FloodRequest::kSame) {
      return;
    }
    for (std::size_t begin = 0; begin < requests.size(); begin += request.bytes.size()) {
      std::uint64_t left = ++number_;
      for (std::size_t digit = FloodRequest::kDigits; digit-- > 0; left /= 10) {
        requests[begin + request.number_at + digit] = static_cast<char>('0' + left % 10);
      }
    }
  }

  rt::Loop& loop_;
  rt::Net& net_;
  FloodOptions options_;
  rt::Gate finished_;
  rt::Time end_;
  std::uint64_t number_ = 0;
  std::optional<Error> error_;
  FloodResult result_;
};

}  // namespace

FloodRequest MakeFloodPost(const rt::Address& server, std::string_view path,
                           std::string_view body) {
  return MakeRequest(fmt::format("POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: "
                                 "application/json\r\nContent-Length: {}\r\n\r\n",
                                 path, server.ToString(), body.size()),
                     body);
}

FloodRequest MakeFloodGet(const rt::Address& server, std::string_view path) {
  return MakeRequest(fmt::format("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", path, server.ToString()),
                     {});
}

// Size of the answer that `rest` begins with; 0: its head is not whole yet.
Result<std::size_t> AnswerReader::WholeSize(std::string_view rest) {
  if (!head_.empty() && rest.starts_with(head_)) {
    return head_total_;
  }
  const std::size_t end = rest.find(kHeadEnd);
  if (end == std::string_view::npos) {
    return std::size_t{0};
  }
  PX_CHECK_OK(CheckStatus(rest));
  const std::string_view head = rest.substr(0, end + kHeadEnd.size());
  constexpr std::string_view kLength = "\r\nContent-Length: ";
  const std::size_t at = head.find(kLength);
  std::size_t size = 0;
  const char* digits = head.data() + std::min(at, head.size()) + kLength.size();
  if (at == std::string_view::npos ||
      std::from_chars(digits, head.data() + head.size(), size).ec != std::errc{} ||
      size > kAnswerSizeMax) {
    return Fail(Code::kDataCorrupt, "an answer has no Content-Length");
  }
  head_ = head;
  head_total_ = head.size() + size;
  return head_total_;
}

Result<std::uint32_t> AnswerReader::FeedStream() {
  if (!has_begun_) {
    has_begun_ = unread_.find(kEvent) != std::string::npos;
  }
  if (unread_.size() > kAnswerSizeMax) {
    return Fail(Code::kDataCorrupt, "an answer does not end");
  }
  const bool whole = unread_.ends_with(kStreamEnd);
  if (!whole && (has_begun_ || unread_.find(kHeadEnd) == std::string::npos)) {
    return 0U;
  }
  PX_CHECK_OK(CheckStatus(unread_));
  if (!whole) {
    return 0U;
  }
  for (std::size_t at = unread_.find(kEvent); at != std::string::npos;
       at = unread_.find(kEvent, at + kEvent.size())) {
    ++events_;
  }
  std::swap(last_, unread_);
  unread_.clear();
  has_begun_ = false;
  return 1U;
}

Result<std::uint32_t> AnswerReader::Feed(std::string_view bytes) {
  unread_ += bytes;
  if (stream_) {
    return FeedStream();
  }
  std::uint32_t ended = 0;
  std::size_t begin = 0;
  while (begin < unread_.size()) {
    const std::string_view rest = std::string_view(unread_).substr(begin);
    PX_TRY(const std::size_t size, WholeSize(rest));
    if (size == 0 || size > rest.size()) {
      break;
    }
    begin += size;
    ++ended;
    if (begin == unread_.size()) {
      last_ = rest.substr(0, size);
    }
  }
  unread_.erase(0, begin);
  has_begun_ = !unread_.empty();
  return ended;
}

rt::Task<Result<FloodResult>> RunFlood(rt::Loop& loop, rt::Net& net, FloodOptions options) {
  Flood flood(loop, net, std::move(options));
  auto run = flood.Run();
  co_return co_await std::move(run);
}

}  // namespace pixii::bench
