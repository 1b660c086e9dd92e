#include "sim/sim_client.h"

#include <fmt/format.h>

#include <utility>

#include "wire/http_response_parser.h"
#include "wire/json.h"
#include "wire/sse.h"

namespace pixii::sim {

namespace {

constexpr std::size_t kReadSize = 4096;

std::string MakeBody(const ClientPlan& plan) {
  const wire::GenerateRequest& request = plan.request;
  std::string prompts = fmt::format("[{}]", fmt::join(request.prompt, ","));
  for (const std::vector<TokenId>& prompt : plan.more_prompts) {
    prompts += fmt::format(",[{}]", fmt::join(prompt, ","));
  }
  if (!plan.more_prompts.empty()) {
    prompts = "[" + prompts + "]";
  }
  std::string body = fmt::format(
      "{{\"prompt\":{},\"max_tokens\":{},\"min_tokens\":{},\"n\":{},\"seed\":{},\"temperature\":{"
      "},\"top_p\":{},\"top_k\":{},"
      "\"presence_penalty\":{},\"repetition_penalty\":{},\"ignore_eos\":{},\"return_token_ids\":"
      "true,\"stream\":{}",
      prompts, request.stop.max_tokens, request.stop.min_tokens, request.choice_count,
      request.sampling.seed, request.sampling.temperature, request.sampling.top_p,
      request.sampling.top_k, request.sampling.presence_penalty,
      request.sampling.repetition_penalty, request.stop.ignore_eos, plan.stream);
  if (!request.stop.stop_token_ids.empty()) {
    body += fmt::format(",\"stop_token_ids\":[{}]", fmt::join(request.stop.stop_token_ids, ","));
  }
  return body + "}";
}

// What a body says, whole or in events.
class AnswerReader final {
 public:
  AnswerReader(bool stream, ClientReport& report) : stream_(stream), report_(report) {}

  void Take(std::string piece) {
    if (!stream_) {
      text_ += piece;
      return;
    }
    std::vector<wire::SseEvent> events;
    if (Result<void> fed = sse_.Feed(piece, events); !fed) {
      Broken(fed.error().ToString());
    }
    for (const wire::SseEvent& event : events) {
      if (done_) {
        Broken("an event after [DONE]");
      } else if (event.data == "[DONE]") {
        done_ = true;
      } else {
        TakeJson(event.data);
      }
    }
  }

  /// The body is complete.
  void End() {
    if (!stream_) {
      TakeJson(text_);
    } else if (!done_ && !error_) {
      Broken("the stream ended without [DONE]");
    }
    for (std::size_t i = 0; i < report_.finish_reasons.size(); ++i) {
      if (report_.finish_reasons[i].empty() && !error_) {
        Broken(fmt::format("choice {} never ended", i));
      }
    }
  }

  bool error() const { return error_; }

  /// Something was wrong with the answer, other than that it ended with an error.
  bool broken() const { return broken_; }

 private:
  void TakeError(const wire::Json& error, const std::string& text) {
    const wire::Json* code = error.Find("code");
    if (code == nullptr || !code->is_string() || code->string().empty()) {
      return Broken("an error without a code: " + text.substr(0, 300));
    }
    report_.error_code = code->string();
    report_.detail = text.substr(0, 300);
  }

  void Broken(std::string detail) {
    if (!std::exchange(broken_, true)) {
      report_.detail = std::move(detail);
    }
  }

  void TakeJson(const std::string& text) {
    Result<wire::Json> json = wire::ParseJson(text);
    if (!json) {
      return Broken(json.error().ToString());
    }
    if (const wire::Json* error = json->Find("error")) {
      if (error_) {
        return Broken("a second error");
      }
      error_ = true;
      TakeError(*error, text);
      return;
    }
    if (error_) {
      return Broken("more of an answer after its error");
    }
    const wire::Json* choices = json->Find("choices");
    if (choices == nullptr || !choices->is_array()) {
      return Broken("no choices");
    }
    for (const wire::Json& choice : choices->array()) {
      TakeChoice(choice);
    }
  }

  void TakeChoice(const wire::Json& choice) {
    const wire::Json* index_json = choice.Find("index");
    std::int64_t index = index_json != nullptr ? index_json->AsInt().value_or(-1) : -1;
    if (index < 0 || index >= static_cast<std::int64_t>(report_.tokens.size())) {
      return Broken("a choice without an index of ours");
    }
    auto at = static_cast<std::size_t>(index);
    if (!report_.finish_reasons[at].empty()) {
      return Broken(fmt::format("choice {} goes on after its end", at));
    }
    const wire::Json* ids = choice.Find("token_ids");
    if (ids != nullptr && ids->is_array()) {
      for (const wire::Json& id : ids->array()) {
        report_.tokens[at].push_back(static_cast<TokenId>(id.AsInt().value_or(-1)));
      }
    }
    const wire::Json* reason = choice.Find("finish_reason");
    if (reason != nullptr && reason->is_string()) {
      report_.finish_reasons[at] = reason->string();
    }
  }

  bool stream_;
  ClientReport& report_;
  std::string text_;
  wire::SseParser sse_;
  bool done_ = false;
  bool error_ = false;
  bool broken_ = false;
};

class Client final {
 public:
  Client(rt::Loop& loop, rt::Net& net, ClientPlan plan, ClientReport& report)
      : loop_(loop),
        net_(net),
        plan_(std::move(plan)),
        report_(report),
        reader_(plan_.stream, report) {
    const std::size_t count = plan_.request.choice_count * (1 + plan_.more_prompts.size());
    report_.tokens.resize(count);
    report_.finish_reasons.resize(count);
  }

  rt::Task<Outcome> Run(rt::Address server) {
    auto connect = net_.Connect(std::move(server), rt::kNever);
    auto stream = co_await std::move(connect);
    if (!stream) {
      report_.detail = stream.error().ToString();
      co_return Outcome::kRefused;
    }
    stream_ = std::move(*stream);
    if (plan_.behaviour == Behaviour::kHangsUp) {
      timer_ = loop_.RunAt(loop_.Now() + plan_.hang_up_after, [this] {
        gave_up_ = true;
        stream_->Close();
      });
    }
    std::string body = MakeBody(plan_);
    std::string head = fmt::format(
        "POST /v1/completions HTTP/1.1\r\nHost: server\r\nContent-Type: "
        "application/json\r\nContent-Length: {}\r\n\r\n",
        body.size());
    std::string bytes = head + body;
    auto write = stream_->Write(bytes, rt::kNever);
    Result<void> written = co_await std::move(write);
    if (plan_.behaviour == Behaviour::kHangsUpEarly) {
      gave_up_ = true;
    }
    auto read = written && !gave_up_ ? ReadAnswer() : Nothing();
    Outcome outcome = co_await std::move(read);
    loop_.CancelTimer(timer_);
    stream_->Close();
    co_return gave_up_&& outcome != Outcome::kWhole ? Outcome::kGaveUp : outcome;
  }

 private:
  rt::Task<Outcome> Nothing() {
    report_.detail = "the request could not be sent";
    report_.transport_broke = true;
    co_return Outcome::kBroken;
  }

  rt::Task<Outcome> ReadAnswer() {
    wire::HttpResponseParser parser;
    std::vector<char> buffer(kReadSize);
    while (!parser.complete()) {
      if (plan_.behaviour == Behaviour::kSlowReader) {
        auto sleep = loop_.SleepFor(plan_.pause);
        co_await std::move(sleep);
      }
      auto read = stream_->Read(buffer, rt::kNever);
      Result<std::size_t> got = co_await std::move(read);
      if (!got || *got == 0) {
        report_.detail = got ? "the server closed before the end" : got.error().ToString();
        report_.transport_broke = true;
        co_return Outcome::kBroken;
      }
      unread_.append(buffer.data(), *got);
      Result<std::size_t> used = parser.Feed(unread_);
      if (!used) {
        report_.detail = used.error().ToString();
        co_return Outcome::kBroken;
      }
      unread_.erase(0, *used);
      if (parser.head_complete() && parser.status() == 200) {
        reader_.Take(parser.TakeBody());
      }
    }
    report_.status = parser.status();
    if (report_.status != 200) {
      co_return Refusal(parser);
    }
    reader_.End();
    if (reader_.broken()) {
      co_return Outcome::kBroken;
    }
    co_return reader_.error() ? Outcome::kFailed : Outcome::kWhole;
  }

  Outcome Refusal(wire::HttpResponseParser& parser) {
    const std::string body = parser.TakeBody();
    AnswerReader error(false, report_);
    error.Take(body);
    error.End();
    const bool typed = error.error() && !error.broken();
    report_.detail = fmt::format("status {}: {}", report_.status, body.substr(0, 300));
    if (report_.status == 503 || report_.status == 529) {
      return typed && !parser.Field("retry-after").empty() ? Outcome::kRefused : Outcome::kBroken;
    }
    return typed ? Outcome::kFailed : Outcome::kBroken;
  }

  rt::Loop& loop_;
  rt::Net& net_;
  ClientPlan plan_;
  ClientReport& report_;
  AnswerReader reader_;
  std::unique_ptr<rt::Stream> stream_;
  rt::TimerId timer_ = rt::TimerId::kNone;
  std::string unread_;
  bool gave_up_ = false;
};

}  // namespace

rt::Task<void> RunClient(rt::Loop& loop, rt::Net& net, rt::Address server, ClientPlan plan,
                         ClientReport& report) {
  Client client(loop, net, std::move(plan), report);
  auto run = client.Run(std::move(server));
  report.outcome = co_await std::move(run);
}

}  // namespace pixii::sim
