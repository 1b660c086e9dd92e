#include "bench/http_load.h"

#include <fmt/format.h>

#include <charconv>

#include "base/hash.h"
#include "rt/sync.h"
#include "wire/json.h"

namespace pixii::bench {

namespace {

constexpr std::size_t kReadSize = 64 << 10;
constexpr std::size_t kHeadSizeMax = 64 << 10;

double Milliseconds(rt::Duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

// One keep-alive connection and what was read from it and not yet used.
class Connection final {
 public:
  explicit Connection(std::unique_ptr<rt::Stream> stream)
      : stream_(std::move(stream)), piece_(kReadSize) {}

  rt::Stream& stream() { return *stream_; }

  /// Up to and without "\r\n" or "\n".
  rt::Task<Result<std::string>> ReadLine(rt::Time deadline) {
    for (std::size_t searched = begin_;;) {
      std::size_t end = buffer_.find('\n', searched);
      if (end != std::string::npos) {
        std::string line = buffer_.substr(begin_, end - begin_);
        begin_ = end + 1;
        if (!line.empty() && line.back() == '\r') {
          line.pop_back();
        }
        co_return line;
      }
      if (buffer_.size() - begin_ > kHeadSizeMax * 16) {
        co_return Fail(Code::kTooLarge, "the server sent a line without an end");
      }
      searched = buffer_.size() - begin_;
      auto more = Fill(deadline);
      PX_CO_CHECK_OK(co_await std::move(more));
      searched += begin_;
    }
  }

  rt::Task<Result<std::string>> ReadExactly(std::size_t size, rt::Time deadline) {
    while (buffer_.size() - begin_ < size) {
      auto more = Fill(deadline);
      PX_CO_CHECK_OK(co_await std::move(more));
    }
    std::string out = buffer_.substr(begin_, size);
    begin_ += size;
    co_return out;
  }

 private:
  rt::Task<Result<void>> Fill(rt::Time deadline) {
    buffer_.erase(0, begin_);
    begin_ = 0;
    auto read = stream_->Read(piece_, deadline);
    PX_CO_TRY(std::size_t count, co_await std::move(read));
    if (count == 0) {
      co_return Fail(Code::kUnavailable, "the server closed the connection");
    }
    buffer_.append(piece_.data(), count);
    co_return Result<void>();
  }

  std::unique_ptr<rt::Stream> stream_;
  std::string buffer_;
  std::size_t begin_ = 0;
  std::vector<char> piece_;
};

struct Head {
  int status = 0;
  bool chunked = false;
  std::size_t content_length = 0;
};

rt::Task<Result<Head>> ReadHead(Connection& connection, rt::Time deadline) {
  auto first = connection.ReadLine(deadline);
  PX_CO_TRY(std::string line, co_await std::move(first));
  Head head;
  if (line.size() < 12 || !line.starts_with("HTTP/1.")) {
    co_return Fail(Code::kDataCorrupt, "no HTTP answer");
  }
  std::from_chars(line.data() + 9, line.data() + 12, head.status);
  for (;;) {
    auto next = connection.ReadLine(deadline);
    PX_CO_TRY(std::string header, co_await std::move(next));
    if (header.empty()) {
      co_return head;
    }
    for (std::size_t i = 0; i < header.find(':') && i < header.size(); ++i) {
      header[i] =
          static_cast<char>(header[i] >= 'A' && header[i] <= 'Z' ? header[i] + 32 : header[i]);
    }
    if (header == "transfer-encoding: chunked") {
      head.chunked = true;
    } else if (header.starts_with("content-length: ")) {
      std::from_chars(header.data() + 16, header.data() + header.size(), head.content_length);
    }
  }
}

class Load final {
 public:
  Load(rt::Loop& loop, rt::Net& net, LoadOptions options)
      : loop_(loop), net_(net), options_(std::move(options)), finished_(loop) {}

  rt::Task<Result<LoadResult>> Run() {
    rt::Time begin = loop_.Now();
    next_arrival_ = begin;
    rt::Gate& gate = finished_;
    for (std::uint32_t i = 0; i < options_.concurrency; ++i) {
      PX_CO_TRY(rt::Gate::Pass pass, gate.Enter());
      loop_.Spawn(Client(std::move(pass)));
    }
    auto all = gate.Close();
    co_await std::move(all);
    result_.elapsed_s = Milliseconds(loop_.Now() - begin) / 1000;
    co_return std::move(result_);
  }

 private:
  // Takes requests until none is left, on one connection as long as it lives.
  rt::Task<void> Client(rt::Gate::Pass pass) {
    std::unique_ptr<Connection> connection;
    while (started_ < options_.request_count) {
      std::uint32_t index = started_++;
      if (options_.rate_per_second > 0) {
        double gap_s = loop_.random().Exponential(1 / options_.rate_per_second);
        next_arrival_ +=
            std::chrono::duration_cast<rt::Duration>(std::chrono::duration<double>(gap_s));
        auto sleep = loop_.SleepUntil(next_arrival_);
        co_await std::move(sleep);
      }
      RequestSample sample;
      auto one = One(connection, index, sample);
      Result<void> done = co_await std::move(one);
      if (!done) {
        sample.error = done.error().ToString();
        connection.reset();
      }
      result_.samples.push_back(std::move(sample));
    }
    (void)pass;
  }

  std::string MakeRequest(std::uint32_t index) const {
    std::string body = "{";
    if (!options_.model.empty()) {
      body += "\"model\":";
      wire::AppendJsonString(body, options_.model);
      body += ',';
    }
    body += "\"prompt\":[";
    for (std::uint32_t i = 0; i < options_.input_tokens; ++i) {
      std::uint64_t owner = i < options_.shared_prefix_tokens ? 0 : index + 1;
      std::uint64_t key[3] = {options_.seed, owner, i};
      std::uint64_t draw = Hash64(std::as_bytes(std::span(key)));
      body += fmt::format("{}{}", i == 0 ? "" : ",", draw % options_.token_id_max);
    }
    body += fmt::format(
        "],\"max_tokens\":{},\"ignore_eos\":true,\"stream\":true,\"seed\":{},\"return_token_ids\":"
        "true}}",
        options_.output_tokens, index);
    std::string head = fmt::format(
        "POST /v1/completions HTTP/1.1\r\nHost: {}\r\nContent-Type: "
        "application/json\r\nContent-Length: {}\r\n",
        options_.server.ToString(), body.size());
    if (!options_.api_key.empty()) {
      head += "Authorization: Bearer " + options_.api_key + "\r\n";
    }
    return head + "\r\n" + body;
  }

  rt::Task<Result<void>> One(std::unique_ptr<Connection>& connection, std::uint32_t index,
                             RequestSample& sample) {
    rt::Time deadline = loop_.Now() + options_.request_timeout;
    if (!connection) {
      auto connect = net_.Connect(options_.server, deadline);
      PX_CO_TRY(std::unique_ptr<rt::Stream> stream, co_await std::move(connect));
      connection = std::make_unique<Connection>(std::move(stream));
    }
    std::string request = MakeRequest(index);
    rt::Time sent = loop_.Now();
    auto write = connection->stream().Write(request, deadline);
    PX_CO_CHECK_OK(co_await std::move(write));
    auto reading = ReadHead(*connection, deadline);
    PX_CO_TRY(Head head, co_await std::move(reading));
    if (head.status != 200 || !head.chunked) {
      auto body = connection->ReadExactly(head.content_length, deadline);
      PX_CO_TRY(std::string text, co_await std::move(body));
      co_return Fail(Code::kUnavailable,
                     fmt::format("status {}: {}", head.status, text.substr(0, 300)));
    }
    auto events = ReadEvents(*connection, sent, deadline, sample);
    PX_CO_CHECK_OK(co_await std::move(events));
    sample.total_ms = Milliseconds(loop_.Now() - sent);
    co_return Result<void>();
  }

  // Chunk boundaries are the server's; events end in an empty line.
  rt::Task<Result<void>> ReadEvents(Connection& connection, rt::Time sent, rt::Time deadline,
                                    RequestSample& sample) {
    std::string text;
    rt::Time last = sent;
    bool done = false;
    for (;;) {
      auto line = connection.ReadLine(deadline);
      PX_CO_TRY(std::string size_text, co_await std::move(line));
      std::size_t size = 0;
      std::from_chars(size_text.data(), size_text.data() + size_text.size(), size, 16);
      auto data = connection.ReadExactly(size + 2, deadline);
      PX_CO_TRY(std::string chunk, co_await std::move(data));
      if (size == 0) {
        break;
      }
      text.append(chunk, 0, size);
      for (std::size_t end = text.find("\n\n"); end != std::string::npos; end = text.find("\n\n")) {
        PX_CO_TRY(std::uint32_t tokens, TokensOfEvent(std::string_view(text).substr(0, end), done));
        text.erase(0, end + 2);
        if (tokens == 0) {
          continue;
        }
        rt::Time now = loop_.Now();
        if (sample.output_tokens == 0) {
          sample.first_token_ms = Milliseconds(now - sent);
        } else {
          sample.gaps_ms.push_back(Milliseconds(now - last));
        }
        last = now;
        sample.output_tokens += tokens;
      }
    }
    if (!done) {
      co_return Fail(Code::kDataCorrupt, "the stream ended without [DONE]");
    }
    if (sample.output_tokens != options_.output_tokens) {
      co_return Fail(Code::kDataCorrupt, fmt::format("{} tokens came, {} were asked for",
                                                     sample.output_tokens, options_.output_tokens));
    }
    co_return Result<void>();
  }

  static Result<std::uint32_t> TokensOfEvent(std::string_view event, bool& done) {
    if (!event.starts_with("data: ")) {
      return 0;  // a comment
    }
    event.remove_prefix(6);
    if (event == "[DONE]") {
      done = true;
      return 0;
    }
    PX_TRY(wire::Json json, wire::ParseJson(event));
    if (const wire::Json* error = json.Find("error"); error != nullptr) {
      return Fail(Code::kUnavailable, error->Dump());
    }
    std::uint32_t tokens = 0;
    const wire::Json* choices = json.Find("choices");
    for (std::size_t i = 0;
         choices != nullptr && choices->is_array() && i < choices->array().size(); ++i) {
      const wire::Json* ids = choices->array()[i].Find("token_ids");
      tokens +=
          ids != nullptr && ids->is_array() ? static_cast<std::uint32_t>(ids->array().size()) : 0;
    }
    return tokens;
  }

  rt::Loop& loop_;
  rt::Net& net_;
  LoadOptions options_;
  rt::Gate finished_;
  rt::Time next_arrival_;
  std::uint32_t started_ = 0;
  LoadResult result_;
};

}  // namespace

rt::Task<Result<LoadResult>> RunLoad(rt::Loop& loop, rt::Net& net, LoadOptions options) {
  Load load(loop, net, std::move(options));
  auto run = load.Run();
  co_return co_await std::move(run);
}

}  // namespace pixii::bench
