#include "router/service/remote_adviser.h"

#include <algorithm>
#include <utility>

#include "router/service/route_messages.h"
#include "router/service/route_service.h"
#include "wire/messages/codec.h"

namespace pixii::router {

using wire::RouteNews;

namespace {

constexpr std::size_t kPlacedMax = 256;  // of one message

}  // namespace

RemoteAdviser::RemoteAdviser(rt::Loop& loop, rt::Net& net, wire::PoolName pool,
                             RemoteAdviserOptions options)
    : loop_(loop),
      net_(net),
      pool_(std::move(pool)),
      options_(std::move(options)),
      alarm_(loop, [this] { OnTime(); }) {}

RemoteAdviser::~RemoteAdviser() { *alive_ = false; }

void RemoteAdviser::SetAddress(std::optional<rt::Address> address, std::string peer) {
  if (client_) {
    client_.reset();
    OnLost();
  }
  if (address) {
    control::MuxClientOptions client = options_.client;
    client.address = std::move(*address);
    client.expected_peer = std::move(peer);
    client_ = std::make_unique<control::MuxClient>(loop_, net_, std::move(client),
                                                   [this](bool connected) { OnState(connected); });
  }
}

bool RemoteAdviser::available() const { return call_ && loop_.Now() >= silent_until_; }

void RemoteAdviser::OnState(bool connected) {
  if (connected) {
    Open();
  } else {
    OnLost();
  }
}

// The router hears first of what runs already.
void RemoteAdviser::Open() {
  wire::RouteBatch first;
  first.pool = pool_;
  Result<control::MuxClient::CallKey> call =
      client_->Call(kRouteMethod, {}, wire::Encode(first),
                    {.on_message = [this](const std::string& message) { OnAnswers(message); },
                     .on_end =
                         [this](const std::optional<Error>&) {
                           OnLost();
                           Suspend();
                         }});
  if (!call) {
    Suspend();  // the router goes: later
    return;
  }
  call_ = *call;
  silent_until_ = {};
  batch_ = {};
  for (auto& [id, held] : held_) {
    held.told = held.sent.has_value();
    if (held.told) {
      batch_.placed.push_back(PlacedOf(held));
    }
    if (batch_.placed.size() == kPlacedMax) {
      Flush();
    }
  }
  FlushSoon();
}

wire::RoutePlaced RemoteAdviser::PlacedOf(const Held& held) {
  return {.ask = held.ask,
          .instance = Raw(held.sent->instance),
          .rank = held.sent->rank,
          .prefill_tokens = held.prefill_tokens};
}

bool RemoteAdviser::Ask(const RouteRequest& request, AdviceHandler on_advice) {
  Held& held = held_[request.id];
  held.ask = AskOf(request, pool_.block_tokens);
  if (!available()) {
    return false;
  }
  ++counters_.asked;
  held.on_advice = std::move(on_advice);
  held.told = true;
  batch_.asks.push_back(held.ask);
  asked_.emplace_back(loop_.Now() + options_.patience, request.id);
  if (client_->queued_bytes(*call_) > options_.queued_bytes_max) {
    FlushSoon();  // it gives up, and must not do so inside this call
  } else {
    Flush();  // at once: somebody waits for the answer
  }
  SetAlarm();
  return true;
}

void RemoteAdviser::OnSent(RequestId id, const Target& target, std::uint64_t prefill_tokens) {
  const auto found = held_.find(id);
  if (found == held_.end()) {
    return;
  }
  Held& held = found->second;
  held.sent = target;
  held.prefill_tokens = prefill_tokens;
  if (call_ && held.advised != target) {
    held.told = true;
    batch_.placed.push_back(PlacedOf(held));
    FlushSoon();
  }
}

void RemoteAdviser::OnFirstToken(RequestId id) {
  const auto found = held_.find(id);
  if (found == held_.end()) {
    return;
  }
  found->second.prefill_tokens = 0;
  if (call_ && found->second.told) {
    batch_.news.push_back({.id = Raw(id), .kind = RouteNews::Kind::kFirstToken, .count = 0});
    FlushLater();
  }
}

void RemoteAdviser::OnTokens(RequestId id, std::uint32_t count) {
  const auto found = held_.find(id);
  if (found == held_.end() || !call_ || !found->second.told) {
    return;
  }
  if (found->second.new_tokens == 0) {
    with_new_tokens_.push_back(id);
    if (news_at_ == rt::kNever) {
      news_at_ = loop_.Now() + options_.news_period;
      SetAlarm();
    }
  }
  found->second.new_tokens += count;
}

void RemoteAdviser::Withdraw(RequestId id) {
  const auto found = held_.find(id);
  if (found == held_.end()) {
    return;
  }
  if (call_ && found->second.told) {
    batch_.news.push_back({.id = Raw(id), .kind = RouteNews::Kind::kEnded, .count = 0});
    FlushLater();
  }
  held_.erase(found);
}

void RemoteAdviser::OnAnswers(const std::string& message) {
  Result<wire::RouteAnswers> answers = wire::Decode<wire::RouteAnswers>(message);
  if (!answers) {
    return;  // of a later version: what was asked goes without
  }
  const std::shared_ptr<bool> alive = alive_;
  for (wire::RouteAnswer& answer : answers->answers) {
    const auto found = held_.find(RequestId{answer.id});
    if (found == held_.end() || !found->second.on_advice) {
      continue;
    }
    Held& held = found->second;
    if (answer.waits) {
      held.waits = true;
      continue;
    }
    const AdviceHandler on_advice = std::exchange(held.on_advice, nullptr);
    if (!answer.error) {
      ++counters_.advised;
      held.advised = Target{InstanceId{answer.instance}, answer.rank};
      on_advice(Advice{*held.advised, answer.overlap_tokens});
    } else if (answer.error->code() == Code::kUnavailable) {
      on_advice(std::nullopt);  // it may know fewer workers than the caller
    } else {
      on_advice(Result<Advice>(Fail(*answer.error)));
    }
    if (!*alive) {
      return;
    }
  }
}

// The router is not there: nobody waits for it.
void RemoteAdviser::OnLost() {
  call_.reset();
  batch_ = {};
  with_new_tokens_.clear();
  for (auto& [id, held] : held_) {
    held.told = false;
    held.waits = false;
    held.advised.reset();
    held.new_tokens = 0;
  }
  GiveUp(true);
}

void RemoteAdviser::GiveUp(bool also_those_that_wait) {
  asked_.clear();
  std::vector<std::pair<RequestId, AdviceHandler>> handlers;
  for (auto& [id, held] : held_) {
    if (held.on_advice && (also_those_that_wait || !held.waits)) {
      handlers.emplace_back(id, std::exchange(held.on_advice, nullptr));
    }
  }
  std::ranges::sort(handlers, {}, [](const auto& one) { return Raw(one.first); });
  counters_.silent += handlers.size();
  const std::shared_ptr<bool> alive = alive_;
  for (const auto& [id, on_advice] : handlers) {
    on_advice(std::nullopt);
    if (!*alive) {
      return;
    }
  }
}

void RemoteAdviser::Suspend() {
  silent_until_ = loop_.Now() + options_.pause;
  SetAlarm();
}

void RemoteAdviser::OnTime() {
  const rt::Time now = loop_.Now();
  if (now >= news_at_) {
    news_at_ = rt::kNever;
    for (const RequestId id : std::exchange(with_new_tokens_, {})) {
      if (const auto found = held_.find(id); found != held_.end()) {
        batch_.news.push_back({.id = Raw(id),
                               .kind = RouteNews::Kind::kTokens,
                               .count = std::exchange(found->second.new_tokens, 0)});
        FlushSoon();
      }
    }
  }
  if (now >= flush_at_) {
    Flush();
  }
  if (!call_ && client_ && client_->connected() && now >= silent_until_) {
    Open();
  }
  while (!asked_.empty() && asked_.front().first <= now) {
    const auto found = held_.find(asked_.front().second);
    asked_.pop_front();
    if (found != held_.end() && found->second.on_advice && !found->second.waits) {
      Suspend();
      const std::weak_ptr<bool> alive(alive_);
      GiveUp(false);
      if (alive.expired()) {
        return;
      }
      break;
    }
  }
  SetAlarm();
}

void RemoteAdviser::SetAlarm() {
  rt::Time next = std::min(news_at_, flush_at_);
  if (!asked_.empty()) {
    next = std::min(next, asked_.front().first);
  }
  if (!call_ && silent_until_ > loop_.Now()) {
    next = std::min(next, silent_until_);
  }
  alarm_.Set(next);
}

// Once for all that is said in one turn of the loop.
void RemoteAdviser::FlushSoon() {
  if (std::exchange(flushing_, true)) {
    return;
  }
  loop_.Post([this, alive = std::weak_ptr<bool>(alive_)] {
    if (const auto here = alive.lock(); here && *here) {
      flushing_ = false;
      Flush();
    }
  });
}

void RemoteAdviser::FlushLater() {
  if (!flushing_ && flush_at_ == rt::kNever) {
    flush_at_ = loop_.Now() + options_.news_delay;
    SetAlarm();
  }
}

void RemoteAdviser::Flush() {
  flush_at_ = rt::kNever;
  wire::RouteBatch batch = std::exchange(batch_, {});
  if (!call_ || (batch.asks.empty() && batch.placed.empty() && batch.news.empty())) {
    return;
  }
  if (client_->queued_bytes(*call_) > options_.queued_bytes_max) {
    client_->Cancel(*call_);  // it does not read: the router forgets all of it
    Suspend();
    OnLost();
    return;
  }
  client_->Send(*call_, wire::Encode(batch));
}

}  // namespace pixii::router
