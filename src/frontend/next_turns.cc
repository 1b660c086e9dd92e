#include "frontend/next_turns.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "wire/http.h"
#include "wire/json.h"

namespace pixii::frontend {

namespace {

using wire::Json;

constexpr std::size_t kStreamBytesMax = 1 << 20;  // it streams nothing
constexpr wire::JsonLimits kBodyLimits{.depth_max = 128, .values_max = 2'000'000};

// What says how the answer shall be, not what the prompt is.
constexpr std::array<std::string_view, 24> kOfTheAnswer = {"stream",
                                                           "stream_options",
                                                           "max_tokens",
                                                           "max_completion_tokens",
                                                           "min_tokens",
                                                           "n",
                                                           "best_of",
                                                           "use_beam_search",
                                                           "stop",
                                                           "stop_token_ids",
                                                           "response_format",
                                                           "structured_outputs",
                                                           "guided_json",
                                                           "guided_regex",
                                                           "guided_choice",
                                                           "guided_grammar",
                                                           "logprobs",
                                                           "top_logprobs",
                                                           "prompt_logprobs",
                                                           "logits_processors",
                                                           "return_token_ids",
                                                           "receipt",
                                                           "continue_final_message",
                                                           "add_generation_prompt"};

bool IsOfTheAnswer(const wire::JsonMember& member) {
  return std::ranges::find(kOfTheAnswer, member.first) != kOfTheAnswer.end() ||
         // A call that must come is one of this turn alone; without any a template shows no tools.
         (member.first == "tool_choice" && member.second != Json("none"));
}

bool IsOfTheNvextAnswer(const wire::JsonMember& member) {
  return member.first == "agent_hints" || member.first == "annotations" ||
         member.first == "extra_fields";
}

Json AnswerMessage(const TraceAnswer& answer) {
  Json out(Json::Object{});
  out.Set("role", "assistant");
  out.Set("content", answer.text.empty() ? Json() : Json(answer.text));
  Json::Array calls;
  for (const TraceAnswer::Call& call : answer.calls) {
    Json function(Json::Object{});
    function.Set("name", call.name);
    function.Set("arguments", call.arguments);
    Json one(Json::Object{});
    one.Set("id", call.id);
    one.Set("type", "function");
    one.Set("function", std::move(function));
    calls.push_back(std::move(one));
  }
  if (!calls.empty()) {
    out.Set("tool_calls", std::move(calls));
  }
  return out;
}

}  // namespace

Result<std::string> MakeNextTurn(std::string_view body, const TraceAnswer& answer) {
  if (answer.text.empty() && answer.calls.empty()) {
    return Fail(Code::kInvalidArgument, "the turn has no answer");
  }
  PX_TRY(Json next, wire::ParseJson(body, kBodyLimits));
  if (!next.is_object() || next.Find("messages") == nullptr || !next.Find("messages")->is_array()) {
    return Fail(Code::kInvalidArgument, "messages: there are none", "messages");
  }
  Json::Object& members = next.object();
  std::erase_if(members, IsOfTheAnswer);
  for (auto& [name, value] : members) {
    if (name == "messages") {
      value.array().push_back(AnswerMessage(answer));
    } else if (name == "nvext" && value.is_object()) {
      std::erase_if(value.object(), IsOfTheNvextAnswer);
    }
  }
  next.Set("max_tokens", 1);
  return next.Dump();
}

void NextTurns::OnEnded(const RequestTrace& trace) {
  const bool ended_well = !trace.error && trace.payload->answers.size() == 1 &&
                          trace.payload->answers.front().finish != "length";
  if (!ended_well || turns_.size() >= kCountMax) {
    Count(trace.model, "skipped");
    return;
  }
  const Id id = ++last_id_;
  turns_.emplace(id, Turn{.owner = trace.next_turn_of,
                          .session = trace.session.id,
                          .model = trace.model,
                          .exchange = nullptr});
  auto made = std::make_shared<Result<std::string>>(std::string());
  auto payload = std::make_shared<std::pair<std::string, TraceAnswer>>(
      trace.payload->body, trace.payload->answers.front());
  // Posted: the turn itself is not over while its trace ends.
  environment_.loop.Post([this, id, made, payload, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired()) {
      return;
    }
    environment_.offload([made, payload] { *made = MakeNextTurn(payload->first, payload->second); },
                         [this, id, made, alive] {
                           if (!alive.expired()) {
                             Send(id, std::move(*made));
                           }
                         });
  });
}

void NextTurns::Send(Id id, Result<std::string> body) {
  const auto found = turns_.find(id);
  if (found == turns_.end()) {
    return;  // the turn itself was faster
  }
  if (!body) {
    End(id, "failed");
    return;
  }
  Turn& turn = found->second;
  wire::HttpRequest request;
  request.method = "POST";
  request.path = "/v1/chat/completions";
  request.fields.push_back({"content-type", "application/json"});
  if (!turn.session.empty()) {
    request.fields.push_back({"x-dynamo-session-id", turn.session});
  }
  request.body = std::move(*body);
  turn.exchange = std::make_unique<LocalExchange>(
      std::move(request),
      [this, id, alive = std::weak_ptr<bool>(alive_)] {
        environment_.loop.Post([this, id, alive] {
          if (!alive.expired()) {
            Settle(id);
          }
        });
      },
      kStreamBytesMax);
  environment_.run(*turn.exchange, turn.owner);
}

void NextTurns::Settle(Id id) {
  const auto found = turns_.find(id);
  if (found == turns_.end() || !found->second.exchange->ended()) {
    return;
  }
  const std::optional<Response>& response = found->second.exchange->response();
  End(id, response && response->status == 200 ? "done" : "failed");
}

void NextTurns::Arrived(const std::string& owner, const std::string& session) {
  std::vector<Id> ids;
  for (const auto& [id, turn] : turns_) {
    if (turn.session == session && turn.owner == owner) {
      ids.push_back(id);
    }
  }
  for (const Id id : ids) {
    End(id, "cancelled");
  }
}

void NextTurns::Stop() {
  while (!turns_.empty()) {
    End(turns_.begin()->first, "cancelled");
  }
}

void NextTurns::End(Id id, std::string_view outcome) {
  const auto found = turns_.find(id);
  const std::unique_ptr<LocalExchange> exchange = std::move(found->second.exchange);
  Count(found->second.model,
        exchange && exchange->ended() && outcome == "cancelled" ? "done" : outcome);
  turns_.erase(found);
  if (exchange) {
    exchange->HangUp();  // no effect on what has ended
  }
}

void NextTurns::Count(std::string_view model, std::string_view outcome) {
  environment_.registry.GetCounter(obs::MetricId::kSpeculativePrefillsTotal, {model, outcome})
      .Add();
}

}  // namespace pixii::frontend
