#include "bench/http_load.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <span>
#include <utility>

#include "rt/sync.h"
#include "wire/http_response_parser.h"
#include "wire/json.h"

namespace pixii::bench {

namespace {

constexpr std::size_t kReadSize = 64 << 10;

double Milliseconds(rt::Duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

// One keep-alive connection with the parser of its answers.
struct Connection {
  std::unique_ptr<rt::Stream> stream;
  wire::HttpResponseParser parser;
  std::string unread;  // bytes behind what the parser took
  std::vector<char> piece = std::vector<char>(kReadSize);
};

// What the events of one answer say, and when they came. Read without making a tree of each:
// whoever measures on the machine that is measured must cost little.
class Events final {
 public:
  Events(rt::Time sent, bool keeps_ids, RequestSample& sample)
      : sent_(sent), last_(sent), sample_(sample), keeps_ids_(keeps_ids) {}

  Result<void> Take(std::string_view piece, rt::Time now) {
    unread_ += piece;
    std::size_t begin = 0;
    for (std::size_t end = unread_.find(kEnd); end != unread_.npos;
         end = unread_.find(kEnd, begin)) {
      std::string_view event = std::string_view(unread_).substr(begin, end - begin);
      begin = end + kEnd.size();
      if (!event.starts_with(kData)) {
        continue;
      }
      event.remove_prefix(kData.size());
      if (event == "[DONE]") {
        done_ = true;
        continue;
      }
      PX_TRY(const std::uint32_t tokens, CountTokens(event));
      if (tokens == 0) {
        continue;
      }
      if (sample_.output_tokens == 0) {
        sample_.first_token_ms = Milliseconds(now - sent_);
      } else {
        sample_.gaps_ms.push_back(Milliseconds(now - last_));
      }
      last_ = now;
      sample_.output_tokens += tokens;
    }
    unread_.erase(0, begin);
    return {};
  }

  bool done() const { return done_; }

  const std::vector<TokenId>& ids() const { return ids_; }

 private:
  static constexpr std::string_view kData = "data: ";
  static constexpr std::string_view kEnd = "\n\n";

  // Inside a string of JSON quotes are escaped, so what is found here is a member's name.
  Result<std::uint32_t> CountTokens(std::string_view data) {
    constexpr std::string_view kIds = "\"token_ids\":[";
    std::uint32_t tokens = 0;
    std::size_t at = data.find(kIds);
    if (at == data.npos && data.find("\"error\":") != data.npos) {
      return Fail(Code::kUnavailable, std::string(data));
    }
    for (; at != data.npos; at = data.find(kIds, at)) {
      at += kIds.size();
      const std::string_view ids = data.substr(at, data.find(']', at) - at);
      tokens += ids.empty() ? 0 : 1 + static_cast<std::uint32_t>(std::ranges::count(ids, ','));
      if (keeps_ids_) {
        KeepIds(ids);
      }
    }
    return tokens;
  }

  void KeepIds(std::string_view list) {
    const char* at = list.data();
    const char* const end = at + list.size();
    while (at < end) {
      TokenId id = 0;
      const auto [next, error] = std::from_chars(at, end, id);
      if (error == std::errc()) {
        ids_.push_back(id);
      }
      at = std::find(next, end, ',');
      at += at < end ? 1 : 0;
    }
  }

  rt::Time sent_;
  rt::Time last_;
  RequestSample& sample_;
  bool keeps_ids_;
  std::string unread_;
  bool done_ = false;
  std::vector<TokenId> ids_;
};

class Load final {
 public:
  Load(rt::Loop& loop, rt::Net& net, LoadOptions options, LoadProgress progress)
      : loop_(loop),
        net_(net),
        options_(std::move(options)),
        progress_(std::move(progress)),
        finished_(loop) {}

  rt::Task<Result<LoadResult>> Run() {
    begin_ = loop_.Now();
    next_arrival_ = begin_;
    own_plan_.seed = options_.seed;
    end_ = options_.time > rt::Duration::zero() ? begin_ + options_.time : rt::kNever;
    rt::Gate& gate = finished_;
    for (std::uint32_t i = 0; i < options_.concurrency; ++i) {
      PX_CO_TRY(rt::Gate::Pass pass, gate.Enter());
      loop_.Spawn(Client(std::move(pass)));
    }
    auto all = gate.Close();
    co_await std::move(all);
    result_.elapsed_s = Milliseconds(loop_.Now() - begin_) / 1000;
    co_return std::move(result_);
  }

 private:
  // One request as it is to be sent.
  struct Next {
    PlannedRequest request;
    rt::Time arrival;  // past if it has waited for a place
  };

  // The next one; none if all were taken or time is up.
  std::optional<Next> Take() {
    const std::uint32_t index = started_++;
    if (options_.plan) {
      const LoadPlan& plan = *options_.plan;
      if (index >= plan.requests.size()) {
        return std::nullopt;
      }
      const PlannedRequest& request = plan.requests[index];
      return Next{request, plan.timed ? begin_ + request.at : loop_.Now()};
    }
    Next next{.request = {.index = index,
                          .input_tokens = options_.input_tokens,
                          .output_tokens = options_.output_tokens,
                          .prefix_tokens = options_.shared_prefix_tokens},
              .arrival = loop_.Now()};
    if (options_.rate_per_second > 0) {
      const double gap_s = loop_.random().Exponential(1 / options_.rate_per_second);
      next_arrival_ +=
          std::chrono::duration_cast<rt::Duration>(std::chrono::duration<double>(gap_s));
      next.arrival = next_arrival_;
    }
    return index < options_.request_count && next.arrival < end_ ? std::optional(std::move(next))
                                                                 : std::nullopt;
  }

  // Takes requests until none is left, on one connection as long as it lives.
  rt::Task<void> Client(rt::Gate::Pass pass) {
    std::unique_ptr<Connection> connection;
    for (std::optional<Next> next = Take(); next; next = Take()) {
      if (next->arrival > loop_.Now()) {
        auto sleep = loop_.SleepUntil(next->arrival);
        co_await std::move(sleep);
      }
      std::vector<TokenId> said;  // by both sides, in this conversation
      for (std::uint32_t turn = 0; turn < options_.turns; ++turn) {
        if (turn > 0) {
          next->arrival = loop_.Now() + options_.turn_delay;
          auto sleep = loop_.SleepUntil(next->arrival);
          co_await std::move(sleep);
        }
        RequestSample sample;
        sample.turn = turn;
        const std::vector<TokenId> own = PromptOf(next->request, turn);
        said.insert(said.end(), own.begin(), own.end());
        sample.input_tokens = static_cast<std::uint32_t>(said.size());
        sample.arrival_ms = Milliseconds(next->arrival - begin_);
        sample.send_delay_ms = Milliseconds(loop_.Now() - next->arrival);
        auto one = One(connection, *next, said, sample);
        const Result<void> done = co_await std::move(one);
        if (!done) {
          sample.error = done.error().ToString();
          connection.reset();
        }
        result_.samples.push_back(std::move(sample));
        if (progress_) {
          progress_(result_.samples.size());
        }
        if (!done) {
          break;  // what comes after was not said
        }
      }
    }
    (void)pass;
  }

  // What a turn says for the first time.
  std::vector<TokenId> PromptOf(PlannedRequest request, std::uint32_t turn) const {
    constexpr int kTurnBit = 40;  // above all numbers of requests
    if (turn > 0) {
      request.index += static_cast<std::uint64_t>(turn) << kTurnBit;
      request.prefix_tokens = 0;
      request.hash_ids.clear();
    }
    return (options_.plan ? *options_.plan : own_plan_).Prompt(request, options_.token_id_max);
  }

  std::string MakeRequest(const PlannedRequest& request, std::span<const TokenId> prompt) const {
    std::string body = "{";
    if (!options_.model.empty()) {
      body += "\"model\":";
      wire::AppendJsonString(body, options_.model);
      body += ',';
    }
    body += "\"prompt\":[";
    for (std::size_t i = 0; i < prompt.size(); ++i) {
      body += fmt::format("{}{}", i == 0 ? "" : ",", prompt[i]);
    }
    body += fmt::format(
        "],\"max_tokens\":{},\"ignore_eos\":true,\"stream\":true,\"seed\":{},\"return_token_ids\":"
        "true}}",
        request.output_tokens, request.index);
    std::string head = fmt::format(
        "POST {}/v1/completions HTTP/1.1\r\nHost: {}\r\nContent-Type: "
        "application/json\r\nContent-Length: {}\r\n",
        options_.base_path, options_.host.empty() ? options_.server.ToString() : options_.host,
        body.size());
    if (!options_.api_key.empty()) {
      head += "Authorization: Bearer " + options_.api_key + "\r\n";
    }
    return head + "\r\n" + body;
  }

  // `said` gets the answer's tokens, if there is a next turn.
  rt::Task<Result<void>> One(std::unique_ptr<Connection>& connection, Next next,
                             std::vector<TokenId>& said, RequestSample& sample) {
    rt::Time deadline = loop_.Now() + options_.request_timeout;
    if (!connection) {
      auto connect = net_.Connect(options_.server, deadline);
      PX_CO_TRY(std::unique_ptr<rt::Stream> stream, co_await std::move(connect));
      connection = std::make_unique<Connection>();
      connection->stream = std::move(stream);
    }
    std::string request = MakeRequest(next.request, said);
    // From the arrival: who waits for a place waits, whatever the server is asked meanwhile.
    const rt::Time sent = next.arrival;
    Events events(sent, options_.turns > 1, sample);
    auto write = connection->stream->Write(request, deadline);
    PX_CO_CHECK_OK(co_await std::move(write));
    auto reading = ReadAnswer(*connection, events, deadline);
    PX_CO_CHECK_OK(co_await std::move(reading));
    sample.total_ms = Milliseconds(loop_.Now() - sent);
    if (!events.done()) {
      co_return Fail(Code::kDataCorrupt, "the stream ended without [DONE]");
    }
    if (sample.output_tokens != next.request.output_tokens) {
      co_return Fail(Code::kDataCorrupt,
                     fmt::format("{} tokens came, {} were asked for", sample.output_tokens,
                                 next.request.output_tokens));
    }
    said.insert(said.end(), events.ids().begin(), events.ids().end());
    co_return Result<void>();
  }

  rt::Task<Result<void>> ReadAnswer(Connection& connection, Events& events, rt::Time deadline) {
    wire::HttpResponseParser& parser = connection.parser;
    std::vector<char>& piece = connection.piece;
    while (!parser.complete()) {
      auto read = connection.stream->Read(piece, deadline);
      PX_CO_TRY(std::size_t count, co_await std::move(read));
      if (count == 0) {
        co_return Fail(Code::kUnavailable, "the server closed the connection");
      }
      connection.unread.append(piece.data(), count);
      PX_CO_TRY(std::size_t used, parser.Feed(connection.unread));
      connection.unread.erase(0, used);
      if (parser.head_complete() && parser.status() == 200) {
        PX_CO_CHECK_OK(events.Take(parser.TakeBody(), loop_.Now()));
      }
    }
    if (parser.status() != 200) {
      co_return Fail(Code::kUnavailable, fmt::format("status {}: {}", parser.status(),
                                                     parser.TakeBody().substr(0, 300)));
    }
    parser.Next();
    co_return Result<void>();
  }

  rt::Loop& loop_;
  rt::Net& net_;
  LoadOptions options_;
  LoadProgress progress_;
  rt::Gate finished_;
  LoadPlan own_plan_;  // without requests: how prompts are made where no plan is given
  rt::Time begin_;
  rt::Time next_arrival_;
  rt::Time end_ = rt::kNever;
  std::uint32_t started_ = 0;
  LoadResult result_;
};

}  // namespace

rt::Task<Result<LoadResult>> RunLoad(rt::Loop& loop, rt::Net& net, LoadOptions options,
                                     LoadProgress progress) {
  Load load(loop, net, std::move(options), std::move(progress));
  auto run = load.Run();
  co_return co_await std::move(run);
}

}  // namespace pixii::bench
