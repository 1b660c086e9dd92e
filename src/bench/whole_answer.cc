#include "bench/whole_answer.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>

namespace pixii::bench {

namespace {

std::string TextOf(const wire::Json& json, std::string_view key) {
  const wire::Json* value = json.Find(key);
  return value != nullptr && value->is_string() ? value->string() : std::string();
}

WholeChoice& ChoiceOf(WholeAnswer& whole, std::int64_t index) {
  for (WholeChoice& choice : whole.choices) {
    if (choice.index == index) {
      return choice;
    }
  }
  WholeChoice& choice = whole.choices.emplace_back();
  choice.index = index;
  return choice;
}

Result<void> TakeCalls(const wire::Json& calls, bool streamed, WholeChoice& choice) {
  if (!calls.is_array()) {
    return Fail(Code::kDataCorrupt, "tool_calls is no list");
  }
  for (const wire::Json& part : calls.array()) {
    std::size_t at = choice.calls.size();
    if (streamed) {
      const wire::Json* index = part.Find("index");
      if (index == nullptr || !index->AsInt() || *index->AsInt() < 0 ||
          static_cast<std::size_t>(*index->AsInt()) > at) {
        return Fail(Code::kDataCorrupt, "a piece of a tool call has no index that follows");
      }
      at = static_cast<std::size_t>(*index->AsInt());
    }
    choice.calls.resize(std::max(choice.calls.size(), at + 1));
    WholeCall& call = choice.calls[at];
    call.id += TextOf(part, "id");
    if (call.type.empty()) {
      call.type = TextOf(part, "type");
    }
    if (const wire::Json* function = part.Find("function")) {
      call.name += TextOf(*function, "name");
      call.arguments += TextOf(*function, "arguments");
    }
  }
  return {};
}

void TakeLogprobs(const wire::Json& logprobs, WholeChoice& choice) {
  if (const wire::Json* content = logprobs.Find("content"); content && content->is_array()) {
    for (const wire::Json& token : content->array()) {
      choice.logprob_tokens.push_back(TextOf(token, "token"));
    }
  }
  if (const wire::Json* tokens = logprobs.Find("tokens"); tokens && tokens->is_array()) {
    for (const wire::Json& token : tokens->array()) {
      choice.logprob_tokens.push_back(token.is_string() ? token.string() : std::string());
    }
  }
}

Result<void> TakeChoice(const wire::Json& json, bool streamed, WholeAnswer& whole) {
  const wire::Json* index = json.Find("index");
  if (index == nullptr || !index->AsInt()) {
    return Fail(Code::kDataCorrupt, "a choice has no index");
  }
  WholeChoice& choice = ChoiceOf(whole, *index->AsInt());
  const wire::Json* message = json.Find(streamed ? "delta" : "message");
  const std::string had = choice.text + choice.reasoning;
  const std::size_t calls_before = choice.calls.size();
  std::string text = TextOf(json, "text");
  if (message != nullptr) {
    text = TextOf(*message, "content");
    if (const std::string role = TextOf(*message, "role"); !role.empty()) {
      choice.role = role;
    }
    for (const char* key : {"reasoning_content", "reasoning"}) {
      choice.reasoning += TextOf(*message, key);
    }
    const wire::Json* calls = message->Find("tool_calls");
    if (calls != nullptr && !calls->is_null()) {
      PX_CHECK_OK(TakeCalls(*calls, streamed, choice));
    }
    choice.role_late += choice.role.empty() && !text.empty() ? 1 : 0;
  }
  choice.text += text;
  const bool brought = had.size() != choice.text.size() + choice.reasoning.size() ||
                       calls_before != choice.calls.size();
  choice.after_finish += choice.finish_count > 0 && brought ? 1 : 0;
  if (const wire::Json* logprobs = json.Find("logprobs"); logprobs && logprobs->is_object()) {
    TakeLogprobs(*logprobs, choice);
  }
  if (const std::string finish = TextOf(json, "finish_reason"); !finish.empty()) {
    choice.finish = finish;
    ++choice.finish_count;
  }
  return {};
}

Result<void> TakeObject(const wire::Json& json, bool streamed, WholeAnswer& whole, bool first) {
  if (const wire::Json* error = json.Find("error"); error != nullptr && !error->is_null()) {
    return Fail(Code::kUnavailable, fmt::format("an error came: {}", error->Dump()));
  }
  for (auto [key, place] : {std::pair{"id", &whole.id}, std::pair{"object", &whole.object},
                            std::pair{"model", &whole.model}}) {
    const std::string value = TextOf(json, key);
    whole.ids_differ = whole.ids_differ || (!first && value != *place);
    *place = value;
  }
  const wire::Json* choices = json.Find("choices");
  if (choices == nullptr || !choices->is_array()) {
    return Fail(Code::kDataCorrupt, "there are no choices");
  }
  for (const wire::Json& choice : choices->array()) {
    PX_CHECK_OK(TakeChoice(choice, streamed, whole));
  }
  const wire::Json* usage = json.Find("usage");
  whole.usage_last = usage != nullptr && usage->is_object();
  if (whole.usage_last) {
    whole.usage = *usage;
    ++whole.usage_count;
    whole.usage_with_choices = whole.usage_with_choices || !choices->array().empty();
  }
  return {};
}

Result<void> TakeStream(std::string_view body, WholeAnswer& whole) {
  bool first = true;
  while (!body.empty()) {
    const std::size_t end = body.find('\n');
    std::string_view line = body.substr(0, end);
    body.remove_prefix(end == body.npos ? body.size() : end + 1);
    if (line.ends_with('\r')) {
      line.remove_suffix(1);
    }
    if (!line.starts_with("data:")) {
      continue;  // comments, event names, the empty line between events
    }
    line.remove_prefix(line.starts_with("data: ") ? 6 : 5);
    whole.after_done += whole.done_count > 0 ? 1 : 0;
    if (line == "[DONE]") {
      ++whole.done_count;
      continue;
    }
    const Result<wire::Json> json = wire::ParseJson(line);
    if (!json) {
      return Fail(Code::kDataCorrupt, "an event is no JSON: " + json.error().detail());
    }
    PX_CHECK_OK(TakeObject(*json, true, whole, first));
    first = false;
  }
  return {};
}

}  // namespace

const WholeChoice* WholeAnswer::choice(std::int64_t index) const {
  const auto at = std::ranges::find(choices, index, &WholeChoice::index);
  return at == choices.end() ? nullptr : &*at;
}

Result<WholeAnswer> ReadWhole(const ServerAnswer& answer) {
  if (!answer.failure.empty()) {
    return Fail(Code::kUnavailable, answer.failure);
  }
  if (answer.status != 200) {
    return Fail(Code::kUnavailable,
                fmt::format("status {}: {}", answer.status, answer.body.substr(0, 200)));
  }
  WholeAnswer whole;
  whole.streamed = answer.Field("content-type").starts_with("text/event-stream");
  if (whole.streamed) {
    PX_CHECK_OK(TakeStream(answer.body, whole));
  } else {
    const Result<wire::Json> json = wire::ParseJson(answer.body);
    if (!json) {
      return Fail(Code::kDataCorrupt, "the answer is no JSON: " + json.error().detail());
    }
    PX_CHECK_OK(TakeObject(*json, false, whole, true));
  }
  std::ranges::sort(whole.choices, {}, &WholeChoice::index);
  return whole;
}

}  // namespace pixii::bench
