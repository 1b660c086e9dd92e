#include "bench/conformance.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <memory>

#include "rt/sync.h"
#include "wire/http_response_parser.h"

namespace pixii::bench {

namespace {

constexpr std::size_t kReadSize = 64 << 10;  // bytes
constexpr std::uint64_t kAnswerBytesMax = std::uint64_t{64} << 20;
constexpr rt::Duration kAskAgain = std::chrono::milliseconds(100);

std::size_t EventCount(std::string_view body) {
  std::size_t count = 0;
  for (std::size_t at = body.find("\n\n"); at != body.npos; at = body.find("\n\n", at + 2)) {
    ++count;
  }
  return count;
}

std::string Filled(std::string text, std::string_view model) {
  constexpr std::string_view kModel = "$MODEL";
  std::string quoted;
  wire::AppendJsonString(quoted, model);
  for (std::size_t at = text.find(kModel); at != text.npos; at = text.find(kModel, at)) {
    text.replace(at, kModel.size(), quoted);
    at += quoted.size();
  }
  return text;
}

// Asks one server; what it is asked and when is the caller's business.
class Asker final {
 public:
  Asker(rt::Loop& loop, rt::Net& net, const ConformanceOptions& options)
      : loop_(loop), net_(net), options_(options) {}

  void set_model(std::string model) { model_ = std::move(model); }

  rt::Task<ServerAnswer> Send(Ask ask) {
    const rt::Time patience = loop_.Now() + options_.load_patience;
    while (true) {
      auto once = SendOnce(ask);
      ServerAnswer answer = co_await std::move(once);
      if (!ask.until || ask.until(answer) || loop_.Now() >= patience) {
        co_return answer;
      }
      auto pause = loop_.SleepFor(kAskAgain);
      co_await std::move(pause);
    }
  }

  /// All asks of a step, at once.
  rt::Task<std::vector<ServerAnswer>> SendAll(std::vector<Ask> asks) {
    std::vector<ServerAnswer> answers(asks.size());
    rt::Gate gate(loop_);
    for (std::size_t i = 0; i < asks.size(); ++i) {
      Result<rt::Gate::Pass> pass = gate.Enter();
      if (pass) {
        loop_.Spawn(SendInto(std::move(asks[i]), answers[i], std::move(*pass)));
      }
    }
    auto all = gate.Close();
    co_await std::move(all);
    co_return answers;
  }

 private:
  rt::Task<void> SendInto(Ask ask, ServerAnswer& answer, rt::Gate::Pass pass) {
    auto send = Send(std::move(ask));
    answer = co_await std::move(send);
    (void)pass;
  }

  std::string BytesOf(const Ask& ask) const {
    if (!ask.raw.empty()) {
      return ask.raw;
    }
    const std::string body = Filled(ask.body, model_);
    const bool routed = ask.path.starts_with("/v1");
    std::string bytes =
        fmt::format("{} {}{} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", ask.method,
                    routed ? options_.base_path : "", ask.path, options_.host);
    if (!options_.api_key.empty()) {
      bytes += "Authorization: Bearer " + options_.api_key + "\r\n";
    }
    for (const wire::HttpField& field : ask.fields) {
      bytes += field.name + ": " + field.value + "\r\n";
    }
    if (ask.method != "GET") {
      bytes += fmt::format("Content-Type: application/json\r\nContent-Length: {}\r\n", body.size());
    }
    return bytes + "\r\n" + body;
  }

  rt::Task<ServerAnswer> SendOnce(Ask ask) {
    const rt::Time begin = loop_.Now();
    ServerAnswer answer;
    auto exchange = Exchange(ask, answer);
    const Result<void> done = co_await std::move(exchange);
    if (!done) {
      answer.failure = done.error().detail();
    }
    answer.total_ms = std::chrono::duration<double, std::milli>(loop_.Now() - begin).count();
    co_return answer;
  }

  rt::Task<Result<void>> Exchange(Ask ask, ServerAnswer& answer) {
    const rt::Time deadline = loop_.Now() + options_.patience;
    auto connect = net_.Connect(options_.server, deadline);
    PX_CO_TRY(const std::unique_ptr<rt::Stream> stream, co_await std::move(connect));
    const std::string bytes = BytesOf(ask);
    auto write = stream->Write(bytes, deadline);
    const Result<void> written = co_await std::move(write);
    if (ask.hang_up_after == 0) {
      co_return written;
    }
    // A server may answer and close before it has read all; the answer is what counts.
    wire::HttpResponseParser parser(kAnswerBytesMax);
    std::string unread;
    std::vector<char> piece(kReadSize);
    while (!parser.complete()) {
      auto read = stream->Read(piece, deadline);
      const Result<std::size_t> count = co_await std::move(read);
      if (!count || *count == 0) {
        Result<void> end = count ? parser.FeedEnd() : Result<void>(Fail(count.error()));
        if (!end || !parser.complete()) {
          co_return end ? Fail(Code::kUnavailable, "the connection was closed without an answer")
                        : Fail(end.error());
        }
        break;
      }
      unread.append(piece.data(), *count);
      PX_CO_TRY(const std::size_t used, parser.Feed(unread));
      unread.erase(0, used);
      if (parser.head_complete()) {
        answer.status = parser.status();
        answer.fields = parser.fields();
        answer.body += parser.TakeBody();
      }
      if (ask.hang_up_after > 0 &&
          EventCount(answer.body) >= static_cast<std::size_t>(ask.hang_up_after)) {
        co_return Result<void>();
      }
    }
    answer.status = parser.status();
    answer.fields = parser.fields();
    answer.body += parser.TakeBody();
    co_return Result<void>();
  }

  rt::Loop& loop_;
  rt::Net& net_;
  const ConformanceOptions& options_;
  std::string model_;
};

// The first model that the server lists.
Result<std::string> FirstModel(const ServerAnswer& answer) {
  if (answer.status == 0) {
    return Fail(Code::kUnavailable, "nobody answers: " + answer.failure);
  }
  const Result<wire::Json> json = wire::ParseJson(answer.body);
  const wire::Json* data = json ? json->Find("data") : nullptr;
  if (data == nullptr || !data->is_array() || data->array().empty()) {
    return Fail(Code::kUnavailable,
                "the server lists no model at /v1/models; --model names the one to ask", "model");
  }
  const wire::Json* id = data->array().front().Find("id");
  return id != nullptr && id->is_string()
             ? Result<std::string>(id->string())
             : Fail(Code::kUnavailable, "the first model at /v1/models has no id", "model");
}

std::string_view OutcomeWord(Outcome outcome) {
  return outcome == Outcome::kPass ? "pass" : outcome == Outcome::kFail ? "FAIL" : "not supported";
}

std::string_view AuthorityWord(Authority authority) {
  return authority == Authority::kOpenAi ? "openai" : "ours";
}

struct Score {
  std::size_t passed = 0;
  std::size_t failed = 0;
  std::size_t unsupported = 0;
};

// By group and authority, groups in the order of their first case.
std::vector<std::pair<std::string, std::array<Score, 2>>> Scores(
    const std::vector<ConformanceRow>& rows) {
  std::vector<std::pair<std::string, std::array<Score, 2>>> out;
  for (const ConformanceRow& row : rows) {
    auto at = std::ranges::find(out, row.asked.group,
                                &std::pair<std::string, std::array<Score, 2>>::first);
    if (at == out.end()) {
      at = out.insert(out.end(), {row.asked.group, {}});
    }
    Score& score = at->second[row.asked.authority == Authority::kOpenAi ? 0 : 1];
    ++(row.verdict.outcome == Outcome::kPass   ? score.passed
       : row.verdict.outcome == Outcome::kFail ? score.failed
                                               : score.unsupported);
  }
  return out;
}

std::string OneLine(std::string text) {
  constexpr std::size_t kLineMax = 160;  // bytes
  std::ranges::replace_if(text, [](char c) { return static_cast<unsigned char>(c) < 0x20; }, ' ');
  if (text.size() > kLineMax) {
    std::size_t end = kLineMax;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80) {
      --end;  // not inside a character
    }
    text.resize(end);
    text += "...";
  }
  return text;
}

}  // namespace

std::string_view ServerAnswer::Field(std::string_view name) const {
  for (const wire::HttpField& field : fields) {
    if (wire::EqualsIgnoreCase(field.name, name)) {
      return field.value;
    }
  }
  return {};
}

std::size_t ConformanceReport::failed() const {
  return static_cast<std::size_t>(std::ranges::count_if(
      rows, [](const ConformanceRow& row) { return row.verdict.outcome == Outcome::kFail; }));
}

std::string ConformanceReport::ToText() const {
  std::size_t widest = 0;
  for (const ConformanceRow& row : rows) {
    widest = std::max(widest, row.asked.group.size() + 1 + row.asked.name.size());
  }
  std::string text;
  for (const ConformanceRow& row : rows) {
    text += fmt::format("{:<{}}  {:<6}  {:<13}  {}{}{}\n", row.asked.group + "/" + row.asked.name,
                        widest, AuthorityWord(row.asked.authority),
                        OutcomeWord(row.verdict.outcome), row.asked.asks,
                        row.verdict.evidence.empty() ? "" : ": ", OneLine(row.verdict.evidence));
  }
  text += fmt::format("\n{:<14} {:>22} {:>22}\n", "", "OpenAI's reference", "ours");
  for (const auto& [group, scores] : Scores(rows)) {
    text += fmt::format("{:<14}", group);
    for (const Score& score : scores) {
      text += fmt::format(
          " {:>22}",
          fmt::format("{} of {}{}", score.passed, score.passed + score.failed,
                      score.unsupported == 0 ? "" : fmt::format(" ({} not)", score.unsupported)));
    }
    text += '\n';
  }
  return text;
}

wire::Json ConformanceReport::ToJson() const {
  wire::Json::Array cases_json;
  for (const ConformanceRow& row : rows) {
    wire::Json json(wire::Json::Object{});
    json.Set("group", row.asked.group);
    json.Set("name", row.asked.name);
    json.Set("authority", AuthorityWord(row.asked.authority));
    json.Set("source", row.asked.source);
    json.Set("asks", row.asked.asks);
    json.Set("outcome", row.verdict.outcome == Outcome::kPass   ? "pass"
                        : row.verdict.outcome == Outcome::kFail ? "fail"
                                                                : "not_supported");
    json.Set("evidence", row.verdict.evidence);
    cases_json.push_back(std::move(json));
  }
  wire::Json scores(wire::Json::Object{});
  for (const auto& [group, by_authority] : Scores(rows)) {
    wire::Json both(wire::Json::Object{});
    for (const Authority authority : {Authority::kOpenAi, Authority::kOurs}) {
      const Score& score = by_authority[authority == Authority::kOpenAi ? 0 : 1];
      wire::Json json(wire::Json::Object{});
      json.Set("passed", static_cast<std::int64_t>(score.passed));
      json.Set("failed", static_cast<std::int64_t>(score.failed));
      json.Set("not_supported", static_cast<std::int64_t>(score.unsupported));
      both.Set(AuthorityWord(authority), std::move(json));
    }
    scores.Set(group, std::move(both));
  }
  wire::Json out(wire::Json::Object{});
  out.Set("model", model);
  out.Set("scores", std::move(scores));
  out.Set("cases", std::move(cases_json));
  return out;
}

Result<std::vector<ConformanceCase>> SelectCases(std::vector<ConformanceCase> cases,
                                                 const std::vector<std::string>& only) {
  const auto named = [](const ConformanceCase& asked, const std::string& word) {
    return asked.group == word || asked.group + "/" + asked.name == word;
  };
  for (const std::string& word : only) {
    if (std::ranges::none_of(cases, [&](const auto& asked) { return named(asked, word); })) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("\"{}\" is neither a group nor group/case; --list shows them", word),
                  "only");
    }
  }
  if (!only.empty()) {
    std::erase_if(cases, [&](const ConformanceCase& asked) {
      return std::ranges::none_of(only,
                                  [&](const std::string& word) { return named(asked, word); });
    });
  }
  return cases;
}

rt::Task<Result<ConformanceReport>> RunConformance(rt::Loop& loop, rt::Net& net,
                                                   ConformanceOptions options) {
  ConformanceReport report;
  PX_CO_TRY(std::vector<ConformanceCase> cases, SelectCases(ConformanceCases(), options.only));
  Asker asker(loop, net, options);
  Ask list;
  list.method = "GET";
  list.path = "/v1/models";
  auto listed = asker.Send(std::move(list));
  const ServerAnswer models = co_await std::move(listed);
  if (options.model.empty() || models.status == 0) {
    PX_CO_TRY(options.model, FirstModel(models));
  }
  report.model = options.model;
  asker.set_model(options.model);
  for (ConformanceCase& asked : cases) {
    std::vector<ServerAnswer> answers;
    for (const std::vector<Ask>& step : asked.steps) {
      auto all = asker.SendAll(step);
      std::vector<ServerAnswer> got = co_await std::move(all);
      std::ranges::move(got, std::back_inserter(answers));
    }
    Verdict verdict = asked.judge(answers);
    report.rows.push_back({.asked = std::move(asked), .verdict = std::move(verdict)});
  }
  co_return report;
}

}  // namespace pixii::bench
