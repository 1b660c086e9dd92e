#include "router/service/route_service.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "router/service/route_messages.h"
#include "wire/messages/codec.h"

namespace pixii::router {

RouteService::RouteService(rt::Loop& loop, rt::Net& net, PoolBook* pools, ReplicaMesh* mesh,
                           RouteServiceOptions options)
    : loop_(loop),
      pools_(pools),
      mesh_(mesh),
      options_(std::move(options)),
      server_(loop, net, options_.mux, *this) {
  tasks_.Start(AliveLoop());
}

RouteService::~RouteService() {
  tasks_.Clear();
  *alive_ = false;
  collecting_ = true;  // nobody is told
  for (auto& [id, caller] : callers_) {
    Forget(caller);
  }
}

void RouteService::OnCall(control::CallId id, std::string_view method, rt::Duration) {
  if (method == kRouteMethod && pools_ != nullptr) {
    callers_[id];
  } else if (method == kReplicaMethod && mesh_ != nullptr) {
    replicas_[id] = true;
  } else {
    server_.End(id, Error(Code::kUnsupported, fmt::format("this router knows no call {}", method)));
  }
}

void RouteService::OnMessage(control::CallId id, std::string message) {
  if (replicas_.contains(id)) {
    if (!message.empty()) {  // the first one opens the call
      mesh_->OnMessage(message);
    }
    return;
  }
  const auto found = callers_.find(id);
  if (found == callers_.end()) {
    return;
  }
  Result<wire::RouteBatch> batch = wire::Decode<wire::RouteBatch>(message);
  Result<void> taken =
      batch ? TakeBatch(id, found->second, std::move(*batch)) : Result<void>(Fail(batch.error()));
  if (!taken) {
    End(id, taken.error());
  }
}

void RouteService::OnGone(control::CallId id) {
  replicas_.erase(id);
  if (const auto found = callers_.find(id); found != callers_.end()) {
    Caller caller = std::move(found->second);
    callers_.erase(found);
    Forget(caller);
  }
}

void RouteService::End(control::CallId id, Error error) {
  server_.End(id, std::move(error));
  OnGone(id);
}

void RouteService::Forget(Caller& caller) {
  if (Pool* const pool = PoolOf(caller)) {
    for (const auto& [ask, request] : std::exchange(caller.requests, {})) {
      pool->Withdraw(request);
    }
  }
}

Pool* RouteService::PoolOf(const Caller& caller) const { return pools_->Find(caller.pool); }

Result<void> RouteService::TakeBatch(control::CallId id, Caller& caller, wire::RouteBatch batch) {
  if (batch.pool && !std::exchange(caller.named, true)) {
    caller.pool = std::move(*batch.pool);
  }
  if (!caller.named) {
    return Fail(Code::kInvalidArgument, "the first message names no pool", "pool");
  }
  if (caller.requests.size() + batch.asks.size() + batch.placed.size() > options_.requests_max) {
    return Fail(Code::kResourceExhausted,
                fmt::format("one caller may have {} requests", options_.requests_max));
  }
  Pool* const pool = PoolOf(caller);
  collecting_ = true;
  if (pool != nullptr) {
    for (wire::RoutePlaced& placed : batch.placed) {
      TakePlaced(*pool, caller, std::move(placed));
    }
  }
  // What has ended counts no more for those who ask; what began in this batch may end in it too.
  std::vector<wire::RouteNews> of_this_batch;
  for (const wire::RouteNews& news : batch.news) {
    if (!caller.requests.contains(news.id)) {
      of_this_batch.push_back(news);
    } else if (pool != nullptr) {
      TakeNews(*pool, caller, news);
    }
  }
  for (wire::RouteAsk& ask : batch.asks) {
    TakeAsk(id, pool, caller, std::move(ask));
  }
  for (const wire::RouteNews& news : of_this_batch) {
    if (pool != nullptr) {
      TakeNews(*pool, caller, news);
    }
  }
  collecting_ = false;
  Flush();
  return {};
}

void RouteService::TakePlaced(Pool& pool, Caller& caller, wire::RoutePlaced placed) {
  if (const auto known = caller.requests.extract(placed.ask.id)) {
    pool.Withdraw(known.mapped());  // it went elsewhere than it was told
  }
  const std::uint64_t id = placed.ask.id;
  const Placement placement{
      .target = {InstanceId{placed.instance}, placed.rank},
      .prompt = {std::move(placed.ask.block_hashes), placed.ask.prompt_tokens},
      .prefill_tokens = std::min(placed.prefill_tokens, placed.ask.prompt_tokens),
      .expected_output_tokens = placed.ask.expected_output_tokens,
      .session = std::move(placed.ask.session)};
  if (const std::optional<RequestId> request = pool.Place(placement)) {
    caller.requests.emplace(id, *request);
  }
}

void RouteService::TakeAsk(control::CallId id, Pool* pool, Caller& caller, wire::RouteAsk ask) {
  const std::uint64_t own = ask.id;
  if (pool == nullptr) {
    wire::RouteAnswer answer;
    answer.id = own;
    answer.error = Error(Code::kUnavailable, "this router knows no worker of that model");
    Answer(id, std::move(answer));
    return;
  }
  if (const auto known = caller.requests.extract(own)) {
    pool->Withdraw(known.mapped());
  }
  const RequestId request = pool->Submit(
      RequestOf(std::move(ask)), [this, id, own](const Dispatch& dispatch, const Placement*) {
        OnDispatch(id, own, dispatch);
      });
  caller.requests.emplace(own, request);  // a refused one too, until the caller gives it up
  if (pool->Waits(request)) {
    wire::RouteAnswer answer;
    answer.id = own;
    answer.waits = true;
    Answer(id, std::move(answer));
  }
}

void RouteService::TakeNews(Pool& pool, Caller& caller, const wire::RouteNews& news) {
  const auto known = caller.requests.find(news.id);
  if (known == caller.requests.end()) {
    return;
  }
  const RequestId request = known->second;
  switch (news.kind) {
    case wire::RouteNews::Kind::kFirstToken:
      pool.OnFirstToken(request);
      break;
    case wire::RouteNews::Kind::kTokens:
      pool.OnTokens(request, news.count);
      break;
    case wire::RouteNews::Kind::kEnded:
      caller.requests.erase(known);
      pool.Withdraw(request);
      break;
  }
}

void RouteService::OnDispatch(control::CallId id, std::uint64_t ask, const Dispatch& dispatch) {
  wire::RouteAnswer answer;
  answer.id = ask;
  if (dispatch.target) {
    answer.instance = Raw(dispatch.target->instance);
    answer.rank = dispatch.target->rank;
    answer.overlap_tokens = dispatch.overlap_tokens;
  } else {
    answer.error = dispatch.target.error();
  }
  Answer(id, std::move(answer));
}

void RouteService::Answer(control::CallId id, wire::RouteAnswer answer) {
  answers_[id].answers.push_back(std::move(answer));
  if (!collecting_) {
    Flush();
  }
}

void RouteService::Flush() {
  for (const auto& [caller, answers] : std::exchange(answers_, {})) {
    const control::CallId id = caller;
    const Result<void> sent = server_.Send(id, wire::Encode(answers));
    if (!sent || server_.queued_bytes(id) > options_.unread_bytes_max) {
      // Later: whoever is told here may be in the middle of something.
      loop_.Post([this, id, alive = std::weak_ptr<bool>(alive_)] {
        if (const auto here = alive.lock(); here && *here && callers_.contains(id)) {
          End(id, Error(Code::kResourceExhausted, "too many answers wait to be read"));
        }
      });
    }
  }
}

rt::Task<void> RouteService::AliveLoop() {
  while (true) {
    auto pause = loop_.SleepFor(options_.alive_period);
    co_await std::move(pause);
    for (auto& [id, caller] : callers_) {
      if (Pool* const pool = PoolOf(caller)) {
        for (const auto& [ask, request] : caller.requests) {
          pool->OnTokens(request, 0);
        }
      }
    }
  }
}

}  // namespace pixii::router
