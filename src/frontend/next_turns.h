// Turns of agents that are known to come: their prompts, as far as they are known, are computed
// before they are asked. docs/agents.md
//
// Thread: the frontend's loop. Source: spec/dynamo-core.md A.9, agent_hints.speculative_prefill.
// What is sent is the conversation with its answer, for one token, behind whatever clients wait
// for; its blocks stay in the worker's cache. It gives way as soon as the turn itself comes.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "frontend/local_exchange.h"
#include "frontend/request_trace.h"
#include "obs/metrics.h"
#include "rt/loop.h"

namespace pixii::frontend {

/// A body of /v1/chat/completions whose prompt the next turn of `body`'s conversation begins with:
/// reasoning is left out, as templates leave it out of earlier turns. Errors: kInvalidArgument for
/// what is no conversation, or was not answered.
Result<std::string> MakeNextTurn(std::string_view body, const TraceAnswer& answer);

class NextTurns final {
 public:
  static constexpr std::size_t kCountMax = 64;  // at a time; further ones are not begun

  struct Environment {
    rt::Loop& loop;
    obs::Registry& registry;
    /// Handles a request in the name of `owner`.
    std::function<void(Exchange& exchange, const std::string& owner)> run;
    /// Calls `work` anywhere, then `done` on the loop.
    std::function<void(std::function<void()> work, std::function<void()> done)> offload;
  };

  /// All outlive it.
  explicit NextTurns(Environment environment) : environment_(std::move(environment)) {}

  NextTurns(const NextTurns&) = delete;
  NextTurns& operator=(const NextTurns&) = delete;

  /// A turn that said that another follows has ended. Pre: `trace` has its payload.
  void OnEnded(const RequestTrace& trace);

  /// A turn of this session is here: what was begun for it ends.
  void Arrived(const std::string& owner, const std::string& session);

  bool empty() const { return turns_.empty(); }

  /// Ends all of them.
  void Stop();

 private:
  struct Turn {
    std::string owner;
    std::string session;  // empty: it has none
    std::string model;
    std::unique_ptr<LocalExchange> exchange;  // null: not sent yet
  };

  using Id = std::uint64_t;

  void Send(Id id, Result<std::string> body);
  void Settle(Id id);
  void End(Id id, std::string_view outcome);
  void Count(std::string_view model, std::string_view outcome);

  Environment environment_;
  std::map<Id, Turn> turns_;
  Id last_id_ = 0;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // posts hold it weakly
};

}  // namespace pixii::frontend
