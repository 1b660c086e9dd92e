#include "bench/conformance_judges.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace pixii::bench {

namespace {

constexpr std::string_view kQuestion =
    R"([{"role":"user","content":"Count from one to ten, in words."}])";

std::string Joined(const Members& members) {
  std::string out = "{";
  for (const auto& [key, value] : members) {
    out += fmt::format("{}\"{}\":{}", out.size() == 1 ? "" : ",", key, value);
  }
  return out + "}";
}

std::string WithExtra(std::string_view front, std::string_view extra) {
  return fmt::format("{{{}{}{}}}", front, extra.empty() ? "" : ",", extra);
}

bool IsClientError(int status) { return (status >= 400 && status < 500) || status == 501; }

std::string Start(const ServerAnswer& answer) {
  return answer.status == 0
             ? answer.failure
             : fmt::format("status {}: {}", answer.status, answer.body.substr(0, 200));
}

// "messages[0].content", "messages.0" and "messages" name messages; "max_tokens" does not name
// "max".
bool Names(std::string_view param, std::string_view field) {
  return param == field ||
         (param.starts_with(field) && (param[field.size()] == '.' || param[field.size()] == '['));
}

}  // namespace

Verdict Passed(std::string evidence) {
  return {.outcome = Outcome::kPass, .evidence = std::move(evidence)};
}

Verdict Failed(std::string evidence) {
  return {.outcome = Outcome::kFail, .evidence = std::move(evidence)};
}

Verdict NotSupported(std::string evidence) {
  return {.outcome = Outcome::kNotSupported, .evidence = std::move(evidence)};
}

Ask Post(std::string path, std::string body) {
  Ask ask;
  ask.path = std::move(path);
  ask.body = std::move(body);
  return ask;
}

Ask Get(std::string path) {
  Ask ask;
  ask.method = "GET";
  ask.path = std::move(path);
  return ask;
}

Ask ChatOf(std::string_view messages, std::string_view extra) {
  const std::string limit = extra.find("\"max_tokens\"") == extra.npos ? ",\"max_tokens\":16" : "";
  return Post("/v1/chat/completions",
              WithExtra(fmt::format("\"model\":$MODEL,\"messages\":{}{}", messages, limit), extra));
}

Ask Chat(std::string_view extra) { return ChatOf(kQuestion, extra); }

Ask Completion(std::string_view extra) {
  return Post(
      "/v1/completions",
      WithExtra("\"model\":$MODEL,\"prompt\":\"One, two, three,\",\"max_tokens\":16", extra));
}

Ask HangUp(Ask ask, std::int32_t after) {
  ask.hang_up_after = after;
  return ask;
}

Members ChatMembers() {
  return {{"model", "$MODEL"}, {"messages", std::string(kQuestion)}, {"max_tokens", "1"}};
}

Members CompletionMembers() {
  return {{"model", "$MODEL"}, {"prompt", "\"One, two,\""}, {"max_tokens", "1"}};
}

std::string BodyWith(Members members, std::string_view key, std::string_view value) {
  std::erase_if(members, [&](const auto& member) { return member.first == key; });
  if (!value.empty()) {
    members.emplace_back(key, value);
  }
  return Joined(members);
}

Judge Whole(WholeJudge judge, bool optional) {
  return [judge, optional](std::span<const ServerAnswer> answers) {
    std::vector<WholeAnswer> whole;
    for (const ServerAnswer& answer : answers) {
      Result<WholeAnswer> one = ReadWhole(answer);
      if (!one) {
        return optional && IsClientError(answer.status) ? NotSupported(Start(answer))
                                                        : Failed(one.error().detail());
      }
      whole.push_back(std::move(*one));
    }
    return judge(whole);
  };
}

Verdict JudgeError(const ServerAnswer& answer, std::span<const int> statuses,
                   std::string_view param) {
  if (answer.status == 0) {
    return Failed(answer.failure);
  }
  if (std::ranges::find(statuses, answer.status) == statuses.end()) {
    return Failed(fmt::format("wanted status {}; {}", fmt::join(statuses, " or "), Start(answer)));
  }
  const Result<wire::Json> json = wire::ParseJson(answer.body);
  const wire::Json* error = json ? json->Find("error") : nullptr;
  if (error == nullptr || !error->is_object()) {
    return Failed("the body has no object \"error\": " + answer.body.substr(0, 200));
  }
  const wire::Json* message = error->Find("message");
  const wire::Json* type = error->Find("type");
  if (message == nullptr || !message->is_string() || message->string().empty()) {
    return Failed("error.message is missing: " + error->Dump());
  }
  if (type == nullptr || !type->is_string() || error->Find("code") == nullptr ||
      error->Find("param") == nullptr) {
    return Failed("error has not all of type, param and code: " + error->Dump());
  }
  const wire::Json& named = *error->Find("param");
  if (!param.empty() && !(named.is_string() && Names(named.string(), param))) {
    return Failed(fmt::format("error.param is {}, not \"{}\"", named.Dump(), param));
  }
  return Passed(fmt::format("{}: {}", answer.status, message->string()));
}

Judge Refused(std::vector<int> statuses, std::string param) {
  return [statuses = std::move(statuses),
          param = std::move(param)](std::span<const ServerAnswer> answers) {
    Verdict verdict = Failed("nothing was asked");
    for (const ServerAnswer& answer : answers) {
      verdict = JudgeError(answer, statuses, param);
      if (verdict.outcome == Outcome::kFail) {
        break;
      }
    }
    return verdict;
  };
}

Judge AnsweredOrRefused() {
  return [](std::span<const ServerAnswer> answers) {
    std::string seen;
    for (const ServerAnswer& answer : answers) {
      if (answer.status == 200) {
        if (!answer.failure.empty()) {
          return Failed(answer.failure);
        }
        seen += "200 ";
        continue;
      }
      if (!IsClientError(answer.status)) {
        return Failed(Start(answer));
      }
      seen += fmt::format("{} ", answer.status);
    }
    return Passed(std::move(seen));
  };
}

bool SameAnswers(const WholeAnswer& a, const WholeAnswer& b) {
  return std::ranges::equal(a.choices, b.choices, [](const auto& left, const auto& right) {
    const auto same_call = [](const WholeCall& one, const WholeCall& other) {
      return one.name == other.name && one.arguments == other.arguments;  // ids are anew
    };
    return left.index == right.index && left.text == right.text &&
           left.reasoning == right.reasoning && left.finish == right.finish &&
           std::ranges::equal(left.calls, right.calls, same_call);
  });
}

std::string Shown(const WholeAnswer& answer) {
  std::string out;
  for (const WholeChoice& choice : answer.choices) {
    out +=
        fmt::format("[{}] {}{} ({}) ", choice.index, choice.reasoning, choice.text, choice.finish);
  }
  return out;
}

}  // namespace pixii::bench
