// The table of conformance cases: what is asked, who says so, and how the answers are judged.
#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <string>
#include <utility>

#include "bench/conformance_judges.h"

namespace pixii::bench {

namespace {

using Wholes = std::span<const WholeAnswer>;
using Answers = std::span<const ServerAnswer>;
using Steps = std::vector<std::vector<Ask>>;

constexpr Authority kOpenAi = Authority::kOpenAi;
constexpr Authority kOurs = Authority::kOurs;

constexpr const char* kChatReference = "OpenAI API reference, Create chat completion";
constexpr const char* kChunkReference = "OpenAI API reference, The chat completion chunk object";
constexpr const char* kUsageReference = "OpenAI API reference, Completion usage";
constexpr const char* kToolReference = "OpenAI function calling guide";
constexpr const char* kSchemaReference = "OpenAI structured outputs guide";
constexpr const char* kErrorReference = "OpenAI API reference, Errors";
constexpr const char* kOurApi = "docs/api.md";
constexpr const char* kOurCases = "docs/adversarial_cases.md";
constexpr const char* kOurDesign = "docs/architecture.md, one answer";

constexpr std::string_view kSeeded = R"("seed":7,"temperature":1)";
constexpr std::string_view kSeededStream = R"("seed":7,"temperature":1,"stream":true)";
constexpr std::string_view kGreedy = R"("temperature":0)";

constexpr std::string_view kTwoTools =
    R"("tools":[{"type":"function","function":{"name":"switch_lamp","description":"Switches the lamp.",)"
    R"("parameters":{"type":"object","properties":{"on":{"type":"boolean"}},"required":["on"],)"
    R"("additionalProperties":false},"strict":true}},{"type":"function","function":{"name":"pick_color",)"
    R"("description":"Picks a color.","parameters":{"type":"object","properties":{"color":{"type":)"
    R"("string","enum":["red","green"]}},"required":["color"],"additionalProperties":false},)"
    R"("strict":true}}],"max_tokens":200,"temperature":0)";
constexpr std::string_view kLampSchema =
    R"("response_format":{"type":"json_schema","json_schema":{"name":"lamp","strict":true,"schema":)"
    R"({"type":"object","properties":{"on":{"type":"boolean"},"color":{"type":"string","enum":)"
    R"(["red","green"]}},"required":["on","color"],"additionalProperties":false}}},)"
    R"("max_tokens":200)";

std::string And(std::initializer_list<std::string_view> parts) {
  std::string out;
  for (const std::string_view part : parts) {
    out += (out.empty() ? "" : ",") + std::string(part);
  }
  return out;
}

const WholeChoice& First(const WholeAnswer& answer) {
  static const WholeChoice kNone;
  return answer.choices.empty() ? kNone : answer.choices.front();
}

std::int64_t Count(const WholeAnswer& answer, std::string_view key) {
  const wire::Json* value = answer.usage.Find(key);
  return value == nullptr ? -1 : value->AsInt().value_or(-1);
}

bool HasOutput(const WholeChoice& choice) {
  return !choice.text.empty() || !choice.reasoning.empty() || !choice.calls.empty();
}

// Promises.

Verdict AllSame(Wholes answers) {
  for (const WholeAnswer& answer : answers) {
    if (!SameAnswers(answers.front(), answer)) {
      return Failed(fmt::format("{}is not {}", Shown(answer), Shown(answers.front())));
    }
  }
  return answers.front().choices.empty() ? Failed("there are no choices") : Passed();
}

// The first answer and the last one; what came between is traffic.
Verdict FirstIsLast(Answers answers) {
  const Judge judge = Whole(AllSame);
  const ServerAnswer ends[] = {answers.front(), answers.back()};
  return judge(ends);
}

Steps AloneAndInABatch() {
  std::vector<Ask> batch;
  for (int i = 0; i < 7; ++i) {
    batch.push_back(Chat(fmt::format(R"("seed":{},"temperature":1)", 100 + i)));
  }
  batch.push_back(Chat(kSeeded));
  return {{Chat(kSeeded)}, std::move(batch)};
}

Steps BesideHangUps() {
  std::vector<Ask> batch;
  for (int i = 0; i < 6; ++i) {
    batch.push_back(HangUp(Chat(R"("stream":true,"max_tokens":200)"), 1 + i % 3));
  }
  batch.push_back(Chat(kSeeded));
  return {{Chat(kSeeded)}, std::move(batch)};
}

// Ends.

Verdict EndsOnce(Wholes answers) {
  for (const WholeAnswer& answer : answers) {
    if (answer.done_count != 1 || answer.after_done != 0) {
      return Failed(fmt::format("{} times [DONE], {} events behind the first", answer.done_count,
                                answer.after_done));
    }
    for (const WholeChoice& choice : answer.choices) {
      if (choice.finish_count != 1 || choice.after_finish != 0) {
        return Failed(fmt::format("choice {}: {} chunks with finish_reason, {} with text behind it",
                                  choice.index, choice.finish_count, choice.after_finish));
      }
    }
  }
  return answers.front().choices.empty() ? Failed("there are no choices") : Passed();
}

Verdict BothChoicesEndOnce(Wholes answers) {
  const WholeAnswer& answer = answers.front();
  if (answer.choices.size() != 2 || answer.choice(0) == nullptr || answer.choice(1) == nullptr) {
    return Failed(fmt::format("{} choices, not of index 0 and 1", answer.choices.size()));
  }
  return answer.streamed ? EndsOnce(answers) : Passed();
}

Verdict EndsByLength(Wholes answers) {
  for (const WholeAnswer& answer : answers) {
    const std::int64_t tokens = Count(answer, "completion_tokens");
    if (tokens > 3) {
      return Failed(fmt::format("max_tokens 3, completion_tokens {}", tokens));
    }
    if (tokens == 3 && First(answer).finish != "length" && First(answer).finish != "stop") {
      return Failed(fmt::format("finish_reason \"{}\"", First(answer).finish));
    }
  }
  return Passed();
}

Verdict EndsKnown(Wholes answers) {
  for (const WholeAnswer& answer : answers) {
    const std::string& finish = First(answer).finish;
    if (finish != "stop" && finish != "length" && finish != "tool_calls" &&
        finish != "content_filter") {
      return Failed(fmt::format("finish_reason \"{}\"", finish));
    }
  }
  return Passed(First(answers.front()).finish);
}

// A letter that the first answer has, as stop of the second, ends that one before it.
Verdict StopsAt(Wholes answers) {
  for (const WholeChoice& choice : answers.front().choices) {
    for (const std::string_view stop : {"e", "a", "t"}) {
      if (choice.text.find(stop) != choice.text.npos) {
        return Failed(fmt::format("the text has the stop string \"{}\": {}", stop, choice.text));
      }
    }
  }
  return Passed(Shown(answers.front()));
}

// Cancel.

// What servers of this kind call the requests that they compute, or that clients wait for.
constexpr std::string_view kRunningGauges[] = {
    "pixii_engine_running",      "dynamo_frontend_inflight_requests", "vllm:num_requests_running",
    "vllm_num_requests_running", "sglang:num_running_reqs",           "sglang_num_running_reqs",
    "tgi_batch_current_size",    "llamacpp:requests_processing",      "num_requests_running",
};

// Sum over all gauges that are known; negative if there is none.
double Running(std::string_view metrics) {
  double sum = 0;
  bool found = false;
  while (!metrics.empty()) {
    const std::size_t end = metrics.find('\n');
    const std::string_view line = metrics.substr(0, end);
    metrics.remove_prefix(end == metrics.npos ? metrics.size() : end + 1);
    const std::string_view name = line.substr(0, line.find_first_of("{ "));
    const std::size_t space = line.rfind(' ');
    if (space != line.npos &&
        std::ranges::find(kRunningGauges, name) != std::ranges::end(kRunningGauges)) {
      found = true;
      sum += std::strtod(std::string(line.substr(space + 1)).c_str(), nullptr);
    }
  }
  return found ? sum : -1;
}

Ask UntilIdle() {
  Ask ask = Get("/metrics");
  ask.until = [](const ServerAnswer& answer) {
    return answer.status != 200 || Running(answer.body) <= 0;
  };
  return ask;
}

Verdict JudgeIdle(Answers answers) {
  const ServerAnswer& metrics = answers.back();
  const double running = metrics.status == 200 ? Running(metrics.body) : -1;
  if (running < 0) {
    return NotSupported("GET /metrics has no gauge of running requests that is known here");
  }
  return running == 0 ? Passed("0 running")
                      : Failed(fmt::format("{} still running after all clients left", running));
}

Steps HangUpAndLook(std::string_view extra, std::int32_t after) {
  std::vector<Ask> gone;
  for (int i = 0; i < 8; ++i) {
    gone.push_back(HangUp(Chat(extra), after));
  }
  return {std::move(gone), {UntilIdle()}};
}

// Templates.

Verdict LaterPromptIsLonger(Wholes answers) {
  const std::int64_t first = Count(answers[0], "prompt_tokens");
  const std::int64_t second = Count(answers[1], "prompt_tokens");
  return first > 0 && second > first
             ? Passed(fmt::format("{} and {} prompt tokens", first, second))
             : Failed(fmt::format("{} prompt tokens without, {} with it", first, second));
}

Verdict SamePrompt(Wholes answers) {
  const std::int64_t first = Count(answers[0], "prompt_tokens");
  const std::int64_t second = Count(answers[1], "prompt_tokens");
  if (first != second) {
    return Failed(fmt::format("{} and {} prompt tokens", first, second));
  }
  return AllSame(answers);
}

// Eight control tokens written by a user: as text each is several tokens, read as control one.
Verdict ControlIsText(Wholes answers) {
  const std::int64_t more = Count(answers[1], "prompt_tokens") - Count(answers[0], "prompt_tokens");
  return more >= 24 ? Passed(fmt::format("{} tokens more", more))
                    : Failed(fmt::format("eight times <|im_end|> are only {} tokens more: they "
                                         "were read as control tokens",
                                         more));
}

Verdict Answered(Wholes answers) {
  for (const WholeAnswer& answer : answers) {
    if (answer.choices.empty()) {
      return Failed("there are no choices");
    }
  }
  return Passed();
}

// Tools.

Verdict CallsFit(const WholeAnswer& answer, std::string_view wanted) {
  const WholeChoice& choice = First(answer);
  if (choice.calls.empty()) {
    return Failed("no call: " + Shown(answer));
  }
  for (const WholeCall& call : choice.calls) {
    const Result<wire::Json> arguments = wire::ParseJson(call.arguments);
    if (!arguments || !arguments->is_object()) {
      return Failed("arguments are no JSON object: " + call.arguments);
    }
    const wire::Json* on = arguments->Find("on");
    const wire::Json* color = arguments->Find("color");
    const bool lamp = call.name == "switch_lamp" && on != nullptr && on->is_bool();
    const bool pick = call.name == "pick_color" && color != nullptr && color->is_string() &&
                      (color->string() == "red" || color->string() == "green");
    if ((!lamp && !pick) || arguments->object().size() != 1) {
      return Failed(fmt::format("{}({}) is not of the schema", call.name, call.arguments));
    }
    if (!wanted.empty() && call.name != wanted) {
      return Failed(fmt::format("{} was called, {} was asked for", call.name, wanted));
    }
    if (call.id.empty() || call.type != "function") {
      return Failed(fmt::format("id \"{}\", type \"{}\"", call.id, call.type));
    }
  }
  return Passed(choice.calls.front().name + choice.calls.front().arguments);
}

Verdict CallRequired(Wholes answers) {
  const std::string& finish = First(answers.front()).finish;
  const Verdict verdict = CallsFit(answers.front(), "");
  return verdict.outcome == Outcome::kPass && finish != "tool_calls" && finish != "stop"
             ? Failed(fmt::format("finish_reason \"{}\"", finish))
             : verdict;
}

Verdict CallNamed(Wholes answers) { return CallsFit(answers.front(), "pick_color"); }

Verdict NoCall(Wholes answers) {
  return First(answers.front()).calls.empty()
             ? Passed()
             : Failed("a call of " + First(answers.front()).calls.front().name);
}

Verdict OneCall(Wholes answers) {
  const Verdict verdict = CallsFit(answers.front(), "");
  const std::size_t count = First(answers.front()).calls.size();
  return count > 1 ? Failed(fmt::format("{} calls", count)) : verdict;
}

Verdict CallStreamedAlike(Wholes answers) {
  const Verdict verdict = CallsFit(answers[1], "");
  return verdict.outcome == Outcome::kPass ? AllSame(answers) : verdict;
}

// Schemas.

Verdict LampFits(Wholes answers) {
  for (const WholeAnswer& answer : answers) {
    for (const WholeChoice& choice : answer.choices) {
      const Result<wire::Json> json = wire::ParseJson(choice.text);
      const wire::Json* on = json ? json->Find("on") : nullptr;
      const wire::Json* color = json ? json->Find("color") : nullptr;
      if (on == nullptr || !on->is_bool() || color == nullptr || !color->is_string() ||
          (color->string() != "red" && color->string() != "green") || json->object().size() != 2) {
        return Failed(fmt::format("\"{}\" is not of the schema", choice.text));
      }
    }
  }
  return answers.front().choices.empty() ? Failed("there are no choices")
                                         : Passed(First(answers.front()).text);
}

Verdict LampStreamedAlike(Wholes answers) {
  const Verdict verdict = LampFits(answers);
  return verdict.outcome == Outcome::kPass ? AllSame(answers) : verdict;
}

// A model may go on until its length ends it: then what is there begins an object.
Verdict IsObject(Wholes answers) {
  const WholeChoice& choice = First(answers.front());
  const Result<wire::Json> json = wire::ParseJson(choice.text);
  const std::size_t begin = choice.text.find_first_not_of(" \t\r\n");
  const bool cut =
      choice.finish == "length" && (begin == choice.text.npos || choice.text[begin] == '{');
  return (json && json->is_object()) || cut ? Passed(choice.text) : Failed(choice.text);
}

// Streams.

Verdict ChunksAgree(Wholes answers) {
  const WholeAnswer& answer = answers.front();
  if (!answer.streamed) {
    return Failed("the answer is no text/event-stream");
  }
  if (answer.ids_differ || answer.id.empty()) {
    return Failed("id, object or model differ between chunks, or there is no id");
  }
  return answer.object == "chat.completion.chunk" ? Passed() : Failed("object " + answer.object);
}

Verdict RoleFirst(Wholes answers) {
  const WholeChoice& choice = First(answers.front());
  return choice.role == "assistant" && choice.role_late == 0
             ? Passed()
             : Failed(fmt::format("role \"{}\", {} chunks of text before it", choice.role,
                                  choice.role_late));
}

Verdict UsageUnasked(Wholes answers) {
  return answers.front().usage_count == 0
             ? Passed()
             : Failed(fmt::format("{} chunks with usage", answers.front().usage_count));
}

Verdict UsageLast(Wholes answers) {
  const WholeAnswer& answer = answers.front();
  return answer.usage_count == 1 && !answer.usage_with_choices && answer.usage_last
             ? Passed()
             : Failed(fmt::format("{} chunks with usage, {}, {}", answer.usage_count,
                                  answer.usage_with_choices ? "with choices" : "without choices",
                                  answer.usage_last ? "last" : "not last"));
}

Verdict LogprobsAlike(Wholes answers) {
  const WholeChoice& whole = First(answers[0]);
  const WholeChoice& streamed = First(answers[1]);
  if (whole.logprob_tokens.empty()) {
    return Failed("no logprobs");
  }
  return whole.logprob_tokens == streamed.logprob_tokens
             ? AllSame(answers)
             : Failed(fmt::format("{} tokens whole, {} streamed, or others",
                                  whole.logprob_tokens.size(), streamed.logprob_tokens.size()));
}

Verdict ObjectNamed(Wholes answers) {
  const WholeAnswer& answer = answers.front();
  return answer.object == "chat.completion" && !answer.id.empty() && !answer.model.empty() &&
                 First(answer).role == "assistant"
             ? Passed(answer.id)
             : Failed(fmt::format("object \"{}\", id \"{}\", model \"{}\", role \"{}\"",
                                  answer.object, answer.id, answer.model, First(answer).role));
}

// Usage.

Verdict UsageAdds(Wholes answers) {
  for (const WholeAnswer& answer : answers) {
    const std::int64_t prompt = Count(answer, "prompt_tokens");
    const std::int64_t completion = Count(answer, "completion_tokens");
    const std::int64_t total = Count(answer, "total_tokens");
    if (prompt < 1 || completion < 0 || prompt + completion != total) {
      return Failed(fmt::format("{} + {} = {}", prompt, completion, total));
    }
    if (First(answer).finish == "length" && completion != 16) {
      return Failed(fmt::format("ended by max_tokens 16 with completion_tokens {}", completion));
    }
    if (completion > 16) {
      return Failed(fmt::format("max_tokens 16, completion_tokens {}", completion));
    }
  }
  return Passed(answers.front().usage.Dump());
}

Verdict UsageAlike(Wholes answers) {
  for (const std::string_view key : {"prompt_tokens", "completion_tokens", "total_tokens"}) {
    if (Count(answers[0], key) != Count(answers[1], key) || Count(answers[0], key) < 0) {
      return Failed(
          fmt::format("{}: {} and {}", key, Count(answers[0], key), Count(answers[1], key)));
    }
  }
  return Passed();
}

// A prompt counts once, the tokens of all choices count.
Verdict UsageOfChoices(Wholes answers) {
  const std::int64_t one = Count(answers[0], "prompt_tokens");
  const std::int64_t two = Count(answers[1], "prompt_tokens");
  const std::int64_t tokens = Count(answers[1], "completion_tokens");
  std::int64_t least = 0;
  for (const WholeChoice& choice : answers[1].choices) {
    least += choice.finish == "length" ? 16 : HasOutput(choice) ? 1 : 0;
  }
  return one == two && tokens >= least && tokens <= 32
             ? Passed()
             : Failed(fmt::format("prompt_tokens {} and {}, completion_tokens {} of two choices",
                                  one, two, tokens));
}

Verdict CachedWithin(Wholes answers) {
  const WholeAnswer& answer = answers.back();
  const wire::Json* details = answer.usage.Find("prompt_tokens_details");
  const wire::Json* cached = details == nullptr ? nullptr : details->Find("cached_tokens");
  if (cached == nullptr || !cached->AsInt()) {
    return NotSupported("usage has no prompt_tokens_details.cached_tokens");
  }
  return *cached->AsInt() >= 0 && *cached->AsInt() <= Count(answer, "prompt_tokens")
             ? Passed(fmt::format("{} cached", *cached->AsInt()))
             : Failed(answer.usage.Dump());
}

// Adversarial.

Verdict NotServed(Answers answers) {
  for (const ServerAnswer& answer : answers) {
    if (answer.status != 0 && (answer.status < 400 || answer.status >= 500) &&
        answer.status != 501 && answer.status != 505) {
      return Failed(fmt::format("status {}: {}", answer.status, answer.body.substr(0, 200)));
    }
    if (answer.body.find("root:") != std::string::npos) {
      return Failed("a file of the server was served");
    }
  }
  return Passed(fmt::format("{}", answers.front().status));
}

Ask Raw(std::string bytes) {
  Ask ask;
  ask.raw = std::move(bytes);
  return ask;
}

std::string Repeated(std::string_view text, std::size_t count) {
  std::string out;
  out.reserve(text.size() * count);
  for (std::size_t i = 0; i < count; ++i) {
    out += text;
  }
  return out;
}

Ask BodyOnly(std::string body) { return Post("/v1/chat/completions", std::move(body)); }

Ask ChatSaying(std::string_view quoted) {
  return ChatOf(fmt::format(R"([{{"role":"user","content":{}}}])", quoted));
}

Ask WithSchema(std::string_view schema) {
  return Chat(fmt::format(R"("response_format":{{"type":"json_schema","json_schema":{{"name":"s",)"
                          R"("strict":true,"schema":{}}}}})",
                          schema));
}

Ask WithHeader(Ask ask, std::string name, std::string value) {
  ask.fields.push_back({std::move(name), std::move(value)});
  return ask;
}

Steps PathProbes() {
  std::vector<Ask> probes;
  for (const char* path : {"/v1/../etc/passwd", "/v1/models/..%2f..%2f..%2fetc%2fpasswd",
                           "/%2e%2e/%2e%2e/etc/passwd", "/v1//models//..", "/no/such/route"}) {
    probes.push_back(Get(path));
  }
  return {std::move(probes)};
}

// The same question before and behind `steps`.
Steps Around(Steps steps) {
  steps.insert(steps.begin(), {Chat(kSeeded)});
  steps.push_back({Chat(kSeeded)});
  return steps;
}

class Table final {
 public:
  void Begin(std::string group) { group_ = std::move(group); }

  void Add(std::string name, Authority authority, std::string source, std::string asks, Steps steps,
           Judge judge) {
    cases_.push_back({.group = group_,
                      .name = std::move(name),
                      .authority = authority,
                      .source = std::move(source),
                      .asks = std::move(asks),
                      .steps = std::move(steps),
                      .judge = std::move(judge)});
  }

  void Take(std::vector<ConformanceCase> cases) {
    std::ranges::move(cases, std::back_inserter(cases_));
  }

  std::vector<ConformanceCase> Take() && { return std::move(cases_); }

 private:
  std::string group_;
  std::vector<ConformanceCase> cases_;
};

void AddPromises(Table& table) {
  table.Begin("promises");
  table.Add("same_seed_twice", kOurs, kOurDesign, "the same seed gives the same answer twice",
            {{Chat(kSeeded)}, {Chat(kSeeded)}}, Whole(AllSame));
  table.Add("greedy_twice", kOurs, kOurDesign, "temperature 0 gives the same answer twice",
            {{Chat(kGreedy)}, {Chat(kGreedy)}}, Whole(AllSame));
  table.Add("streamed_and_not", kOurs, kOurDesign, "a stream brings what the whole answer has",
            {{Chat(kSeeded)}, {Chat(kSeededStream)}}, Whole(AllSame));
  table.Add("completion_streamed_and_not", kOurs, kOurDesign,
            "a stream of a text completion brings what the whole answer has",
            {{Completion(kSeeded)}, {Completion(kSeededStream)}}, Whole(AllSame));
  table.Add("alone_and_in_a_batch", kOurs, kOurDesign,
            "an answer beside seven others is the one that comes alone", AloneAndInABatch(),
            FirstIsLast);
  table.Add("beside_hang_ups", kOurs, kOurDesign,
            "an answer is the same while clients beside it hang up", BesideHangUps(), FirstIsLast);
  table.Add("eight_alike_at_once", kOurs, kOurDesign,
            "eight equal requests at once are answered alike", {std::vector<Ask>(8, Chat(kSeeded))},
            Whole(AllSame));
  table.Add("two_choices_twice", kOurs, kOurDesign, "both choices of n 2 are the same again",
            {{Chat(And({kSeeded, R"("n":2)"}))}, {Chat(And({kSeeded, R"("n":2)"}))}},
            Whole(AllSame, true));
}

void AddEnds(Table& table) {
  table.Begin("ends");
  table.Add("once", kOpenAi, kChunkReference,
            "a stream has one finish_reason a choice and one [DONE], which is last",
            {{Chat(R"("stream":true)")}}, Whole(EndsOnce));
  table.Add("completion_once", kOpenAi, "OpenAI API reference, Create completion: stream",
            "so has one of a text completion", {{Completion(R"("stream":true)")}}, Whole(EndsOnce));
  table.Add("once_of_many", kOpenAi, kChunkReference, "so has each of eight at once",
            {std::vector<Ask>(8, Chat(R"("stream":true)"))}, Whole(EndsOnce));
  table.Add("two_choices_once", kOpenAi, "OpenAI API reference, Create chat completion: n",
            "n 2 gives the choices 0 and 1, each ended once in a stream",
            {{Chat(R"("stream":true,"n":2)")}}, Whole(BothChoicesEndOnce, true));
  table.Add("two_choices", kOpenAi, "OpenAI API reference, Create chat completion: n",
            "n 2 gives the choices 0 and 1", {{Chat(R"("n":2)")}}, Whole(BothChoicesEndOnce, true));
  table.Add("length", kOpenAi, "OpenAI API reference, Create chat completion: max_tokens",
            "no more tokens come than max_tokens", {{Chat(R"("max_tokens":3)")}},
            Whole(EndsByLength));
  table.Add("reason", kOpenAi, "OpenAI API reference, The chat completion object: finish_reason",
            "finish_reason is stop, length, tool_calls or content_filter", {{Chat()}},
            Whole(EndsKnown));
  table.Add("stop", kOpenAi, "OpenAI API reference, Create chat completion: stop",
            "the text has none of the stop strings",
            {{Chat(R"("stop":["e","a","t"],"max_tokens":64)")},
             {Chat(R"("stop":["e","a","t"],"max_tokens":64,"stream":true)")}},
            Whole([](Wholes answers) {
              const Verdict verdict = StopsAt(answers);
              return verdict.outcome == Outcome::kPass ? AllSame(answers) : verdict;
            }));
  table.Add("refused_stream_is_no_stream", kOpenAi, kErrorReference,
            "a stream that is refused gets a status, not an event",
            {{Chat(R"("stream":true,"temperature":9)")}}, Refused({400}, "temperature"));
}

void AddCancel(Table& table) {
  table.Begin("cancel");
  constexpr std::string_view kLong = R"("stream":true,"max_tokens":400)";
  table.Add("streams", kOurs, kOurApi, "what clients left in their streams is computed no further",
            HangUpAndLook(kLong, 2), JudgeIdle);
  table.Add("at_once", kOurs, kOurApi, "so is what they left before an answer began",
            HangUpAndLook(kLong, 0), JudgeIdle);
  table.Add("whole", kOurs, kOurApi, "so are whole answers that nobody waits for any more",
            HangUpAndLook(R"("max_tokens":400)", 0), JudgeIdle);
  Steps then = {std::vector<Ask>(8, HangUp(Chat(kLong), 1))};
  table.Add("answers_go_on", kOurs, kOurApi, "the server answers as before when clients have left",
            Around(std::move(then)), FirstIsLast);
}

void AddTemplates(Table& table) {
  table.Begin("templates");
  constexpr std::string_view kUser = R"([{"role":"user","content":"Hello there"}])";
  table.Add("system", kOpenAi, kChatReference, "a system message is in the prompt",
            {{ChatOf(kUser)},
             {ChatOf(R"([{"role":"system","content":"You are a very terse assistant."},)"
                     R"({"role":"user","content":"Hello there"}])")}},
            Whole(LaterPromptIsLonger));
  table.Add("developer", kOpenAi, kChatReference, "so is a developer message",
            {{ChatOf(kUser)},
             {ChatOf(R"([{"role":"developer","content":"You are a very terse assistant."},)"
                     R"({"role":"user","content":"Hello there"}])")}},
            Whole(LaterPromptIsLonger, true));
  table.Add("history", kOpenAi, kChatReference, "so are earlier turns",
            {{ChatOf(kUser)},
             {ChatOf(R"([{"role":"user","content":"Good morning to you"},{"role":"assistant",)"
                     R"("content":"And to you"},{"role":"user","content":"Hello there"}])")}},
            Whole(LaterPromptIsLonger));
  table.Add(
      "parts", kOpenAi, kChatReference, "a text part is what a text is",
      {{ChatOf(kUser, kGreedy)},
       {ChatOf(R"([{"role":"user","content":[{"type":"text","text":"Hello there"}]}])", kGreedy)}},
      Whole(SamePrompt));
  table.Add("name", kOpenAi, kChatReference, "a message may have a name",
            {{ChatOf(R"([{"role":"user","name":"ann","content":"Hello there"}])")}},
            Whole(Answered));
  table.Add("control_is_text", kOurs, kOurCases, "control tokens that a user writes are text",
            {{ChatSaying("\"x\"")}, {ChatSaying("\"x" + Repeated("<|im_end|>", 8) + "\"")}},
            Whole(ControlIsText));
  table.Add("tools_shown", kOpenAi, kToolReference, "tools are in the prompt",
            {{Chat(R"("temperature":0)")}, {Chat(kTwoTools)}}, Whole(LaterPromptIsLonger, true));
  table.Add("unknown_role", kOpenAi, kChatReference, "a role that is none is an error",
            {{ChatOf(R"([{"role":"nobody","content":"a"}])")}}, Refused({400}, "messages"));
  table.Add("unknown_part", kOpenAi, kChatReference, "a part of an unknown type is an error",
            {{ChatOf(R"([{"role":"user","content":[{"type":"smell"}]}])")}},
            Refused({400}, "messages"));
  table.Add("no_role", kOpenAi, kChatReference, "a message without role is an error",
            {{ChatOf(R"([{"content":"a"}])")}}, Refused({400}, "messages"));
}

void AddTools(Table& table) {
  table.Begin("tools");
  const auto tools = [](std::string_view more) { return Chat(And({kTwoTools, more})); };
  table.Add("required", kOpenAi, kToolReference, "tool_choice required gives a call of the schema",
            {{tools(R"("tool_choice":"required")")}}, Whole(CallRequired, true));
  table.Add("named", kOpenAi, kToolReference, "a named tool is called",
            {{tools(R"("tool_choice":{"type":"function","function":{"name":"pick_color"}})")}},
            Whole(CallNamed, true));
  table.Add("none", kOpenAi, kToolReference, "tool_choice none gives no call",
            {{tools(R"("tool_choice":"none")")}}, Whole(NoCall, true));
  table.Add("one_at_a_time", kOpenAi, kToolReference, "parallel_tool_calls false gives one call",
            {{tools(R"("tool_choice":"required","parallel_tool_calls":false)")}},
            Whole(OneCall, true));
  table.Add("streamed", kOpenAi, kToolReference, "the pieces of a stream are the whole call",
            {{tools(R"("tool_choice":"required")")},
             {tools(R"("tool_choice":"required","stream":true)")}},
            Whole(CallStreamedAlike, true));
  table.Add("result", kOpenAi, kToolReference, "a tool's result is read",
            {{ChatOf(R"([{"role":"user","content":"Lamp on"},{"role":"assistant","content":null,)"
                     R"("tool_calls":[{"id":"call_1","type":"function","function":{"name":)"
                     R"("switch_lamp","arguments":"{\"on\":true}"}}]},{"role":"tool",)"
                     R"("tool_call_id":"call_1","content":"done"}])",
                     kTwoTools)}},
            Whole(Answered, true));
}

void AddSchemas(Table& table) {
  table.Begin("schemas");
  table.Add("strict", kOpenAi, kSchemaReference, "a strict schema holds",
            {{Chat(And({kLampSchema, kSeeded}))}}, Whole(LampFits, true));
  table.Add("streamed", kOpenAi, kSchemaReference, "it holds in a stream, which brings the same",
            {{Chat(And({kLampSchema, kSeeded}))}, {Chat(And({kLampSchema, kSeededStream}))}},
            Whole(LampStreamedAlike, true));
  table.Add("choices", kOpenAi, kSchemaReference, "it holds in each choice",
            {{Chat(And({kLampSchema, R"("n":4,"temperature":2,"seed":3)"}))}},
            Whole(LampFits, true));
  table.Add("crowd", kOurs, kOurCases, "it holds in each of sixteen at once",
            {std::vector<Ask>(16, Chat(And({kLampSchema, R"("temperature":2)"})))},
            Whole(LampFits, true));
  table.Add("json_object", kOpenAi, "OpenAI API reference, Create chat completion: response_format",
            "json_object gives an object",
            {{Chat(R"("response_format":{"type":"json_object"},"max_tokens":64)")}},
            Whole(IsObject, true));
  table.Add("no_schema", kOpenAi, kSchemaReference, "json_schema without one is an error",
            {{Chat(R"("response_format":{"type":"json_schema"})")}},
            Refused({400}, "response_format"));
  table.Add("wrong_schema", kOpenAi, kSchemaReference, "a schema that is none is an error",
            {{WithSchema(R"({"type":"no_such_type"})")}}, Refused({400}, "response_format"));
}

void AddErrors(Table& table) {
  table.Begin("errors");
  table.Add("no_json", kOpenAi, kErrorReference, "a body that is no JSON is 400",
            {{BodyOnly("{")}, {BodyOnly("")}, {BodyOnly("[]")}, {BodyOnly("\"x\"")}},
            Refused({400}));
  table.Add("unknown_field", kOpenAi, kErrorReference, "an unknown field is an error that names it",
            {{Chat(R"("no_such_field":1)")}}, Refused({400}, "no_such_field"));
  Ask wrong_method = Get("/v1/chat/completions");
  table.Add("method", kOpenAi, "RFC 9110 15.5.6", "another method is 405", {{wrong_method}},
            Refused({405}));
  table.Add("route", kOpenAi, "RFC 9110 15.5.5", "an unknown route is 404",
            {{Post("/v1/no_such_route", "{}")}}, Refused({404}));
  table.Take(FieldCases());
}

void AddStreams(Table& table) {
  table.Begin("streams");
  constexpr std::string_view kStream = R"("stream":true,"temperature":0)";
  table.Add("chunks", kOpenAi, kChunkReference,
            "chunks share id and model and are chat.completion.chunk", {{Chat(kStream)}},
            Whole(ChunksAgree));
  table.Add("role_first", kOpenAi, kChunkReference, "the role comes before the text",
            {{Chat(kStream)}}, Whole(RoleFirst));
  table.Add("no_usage_unasked", kOpenAi, kChunkReference, "no usage comes unless it is asked for",
            {{Chat(kStream)}}, Whole(UsageUnasked));
  table.Add(
      "usage_last", kOpenAi, kChunkReference, "usage comes once, last, in a chunk without choices",
      {{Chat(And({kStream, R"("stream_options":{"include_usage":true})"}))}}, Whole(UsageLast));
  table.Add(
      "logprobs", kOpenAi, kChunkReference, "a stream has the logprobs of the whole answer",
      {{Chat(R"("temperature":0,"logprobs":true)")}, {Chat(And({kStream, R"("logprobs":true)"}))}},
      Whole(LogprobsAlike, true));
  table.Add("whole", kOpenAi, "OpenAI API reference, The chat completion object",
            "a whole answer has id, object, model and the assistant's message", {{Chat()}},
            Whole(ObjectNamed));
}

void AddUsage(Table& table) {
  table.Begin("usage");
  table.Add("adds", kOpenAi, kUsageReference, "prompt and completion make the total", {{Chat()}},
            Whole(UsageAdds));
  table.Add("completion_adds", kOpenAi, kUsageReference, "so they do of text completions",
            {{Completion()}}, Whole(UsageAdds));
  table.Add(
      "streamed_alike", kOpenAi, kUsageReference, "a stream's usage is the whole answer's",
      {{Chat(kSeeded)}, {Chat(And({kSeededStream, R"("stream_options":{"include_usage":true})"}))}},
      Whole(UsageAlike));
  table.Add("choices", kOpenAi, kUsageReference, "tokens of all choices count, the prompt once",
            {{Chat(kSeeded)}, {Chat(And({kSeeded, R"("n":2)"}))}}, Whole(UsageOfChoices, true));
  table.Add("cached", kOpenAi, kUsageReference, "no more tokens are cached than the prompt has",
            {{Chat(kSeeded)}, {Chat(kSeeded)}}, Whole(CachedWithin));
}

void AddHostileBodies(Table& table) {
  table.Begin("adversarial");
  table.Add("depth", kOurs, std::string(kOurCases) + " 8", "100,000 nested lists are refused",
            {{BodyOnly(R"({"model":$MODEL,"messages":)" + Repeated("[", 100'000))}},
            Refused({400}));
  table.Add("duplicate_key", kOurs, std::string(kOurCases) + " 8",
            "a key that stands twice is refused", {{Chat(R"("seed":1,"seed":2)")}}, Refused({400}));
  table.Add("garbage_behind", kOurs, std::string(kOurCases) + " 8",
            "bytes behind the body are refused",
            {{BodyOnly(BodyWith(ChatMembers(), "user", "\"a\"") + "}")}}, Refused({400}));
  table.Add("byte_order_mark", kOurs, std::string(kOurCases) + " 8", "a byte order mark is refused",
            {{BodyOnly("\xEF\xBB\xBF" + BodyWith(ChatMembers(), "user", "\"a\""))}},
            Refused({400}));
  table.Add("lone_surrogate", kOurs, std::string(kOurCases) + " 9", "half a character is refused",
            {{ChatSaying(R"("\ud800")")}}, Refused({400}));
  table.Add("bad_utf8", kOurs, std::string(kOurCases) + " 9", "bytes that are no UTF-8 are refused",
            {{ChatSaying("\"\xC0\x80\"")},
             {ChatSaying("\"\xED\xA0\x80\"")},
             {ChatSaying("\"\xF4\x90\x80\x80\"")},
             {ChatSaying("\"\xFF\"")}},
            Refused({400}));
  table.Add("odd_text", kOurs, std::string(kOurCases) + " 9",
            "NUL, direction marks and stacked accents are text",
            {{ChatSaying(R"("a\u0000b")")},
             {ChatSaying(R"("\u202e abc")")},
             {ChatSaying("\"" + Repeated("\xCC\x81", 40) + "\"")}},
            Whole(Answered));
  table.Add("numbers", kOurs, std::string(kOurCases) + " 10",
            "numbers past every range are refused",
            {{Chat(R"("temperature":1e400)")},
             {Chat(R"("temperature":NaN)")},
             {Chat(R"("seed":18446744073709551616)")},
             {Chat(R"("max_tokens":1.5)")}},
            Refused({400}));
  table.Add("fan_out", kOurs, std::string(kOurCases) + " 11",
            "100,000 choices or prompts are refused",
            {{Chat(R"("n":100000)")},
             {Post("/v1/completions", R"({"model":$MODEL,"max_tokens":1,"prompt":["a")" +
                                          Repeated(",\"a\"", 99'999) + "]}")}},
            Refused({400}));
  table.Add("top_logprobs", kOurs, std::string(kOurCases) + " 12",
            "logprobs past their range are refused",
            {{Chat(R"("logprobs":true,"top_logprobs":2147483647)")}},
            Refused({400}, "top_logprobs"));
  table.Add("empty_stop", kOurs, std::string(kOurCases) + " 13", "an empty stop string is refused",
            {{Chat(R"("stop":[""])")}}, Refused({400}, "stop"));
  table.Add("token_ids", kOurs, std::string(kOurCases) + " 14",
            "ids out of the vocabulary are refused",
            {{Post("/v1/completions", R"({"model":$MODEL,"max_tokens":1,"prompt":[-1]})")},
             {Post("/v1/completions", R"({"model":$MODEL,"max_tokens":1,"prompt":[2147483647]})")},
             {Post("/v1/completions", R"({"model":$MODEL,"max_tokens":1,"prompt":[[1],["a"]]})")}},
            Refused({400}, "prompt"));
  table.Add("long_prompt", kOurs, std::string(kOurCases) + " 15",
            "a prompt past the context is refused, none is cut",
            {{ChatSaying("\"" + Repeated("word ", 2'000'000) + "\"")}}, Refused({400, 413}));
}

void AddHostileRest(Table& table) {
  const std::string whole = BodyWith(ChatMembers(), "user", "\"a\"");
  table.Add("two_lengths", kOurs, std::string(kOurCases) + " 1, RFC 9112 6.3",
            "a request of two lengths is refused",
            {{Raw("POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
                  "Content-Length: 6\r\nConnection: close\r\n\r\n{\"a\":1")},
             {Raw("POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
                  "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n")}},
            NotServed);
  table.Add("chunk_sizes", kOurs, std::string(kOurCases) + " 2, RFC 9112 7.1",
            "a chunk size that is no number is refused",
            {{Raw("POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
                  "Connection: close\r\n\r\nxyz\r\n\r\n0\r\n\r\n")}},
            NotServed);
  table.Add("same_request_ids", kOurs, std::string(kOurCases) + " 6",
            "equal request ids in flight are both answered",
            {{WithHeader(Chat(kSeeded), "X-Request-Id", "x"),
              WithHeader(Chat(kSeeded), "X-Request-Id", "x")}},
            Whole(AllSame));
  table.Add("paths", kOurs, std::string(kOurCases) + " 7", "no file is reached by a path",
            PathProbes(), NotServed);
  table.Add("one_character", kOurs, std::string(kOurCases) + " 17",
            "200,000 equal characters are answered or refused, not waited for",
            {{ChatSaying("\"" + Repeated("a", 200'000) + "\"")},
             {ChatSaying("\"" + Repeated(" ", 200'000) + "\"")}},
            AnsweredOrRefused());
  table.Add("patterns", kOurs, std::string(kOurCases) + " 25",
            "patterns that backtrack are enforced or refused",
            {{WithSchema(R"({"type":"string","pattern":"(a+)+$"})")},
             {WithSchema(R"({"type":"string","pattern":"^(.*)$"})")},
             {WithSchema(R"({"type":"string","pattern":"[\\x00-\\u2e7f]+"})")}},
            AnsweredOrRefused());
  table.Add("recursive_schema", kOurs, std::string(kOurCases) + " 25",
            "a schema that only names itself is enforced or refused",
            {{WithSchema(R"({"$ref":"#"})")},
             {WithSchema(R"({"$defs":{"a":{"$ref":"#/$defs/a"}},"$ref":"#/$defs/a"})")}},
            AnsweredOrRefused());
  table.Add("foreign_schema", kOurs, std::string(kOurCases) + " 25",
            "a schema whose property is a text is refused",
            {{WithSchema(R"({"type":"object","properties":{"foo":"bar"}})")}},
            Refused({400}, "response_format"));
  table.Add("alive_after", kOurs, kOurCases, "the server answers behind all this as before",
            Around({{BodyOnly(Repeated("[", 100'000)), Chat(R"("n":100000)"),
                     Raw("POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n" + whole)}}),
            FirstIsLast);
}

}  // namespace

std::vector<ConformanceCase> ConformanceCases() {
  Table table;
  AddPromises(table);
  AddEnds(table);
  AddCancel(table);
  AddTemplates(table);
  AddTools(table);
  AddSchemas(table);
  AddErrors(table);
  AddStreams(table);
  AddUsage(table);
  table.Take(SurfaceCases());
  AddHostileBodies(table);
  AddHostileRest(table);
  return std::move(table).Take();
}

}  // namespace pixii::bench
