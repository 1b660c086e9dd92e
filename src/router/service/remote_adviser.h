// A router of another process as an adviser.
//
// Thread: one loop. docs/subsystems/router.md, "The service"
// Whatever happens to that process, each request gets its answer soon: when the connection breaks
// or an answer does not come in time there is no advice, and the caller decides itself. When the
// router is back it hears of all that runs.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "control/mux_client.h"
#include "router/route_adviser.h"
#include "rt/alarm.h"
#include "rt/loop.h"
#include "rt/net.h"
#include "wire/messages/route.h"

namespace pixii::router {

struct RemoteAdviserOptions {
  control::MuxClientOptions client = {};                   // but for the address
  rt::Duration patience = std::chrono::milliseconds(250);  // for an answer
  rt::Duration pause = std::chrono::seconds(1);  // without questions, after one that had none
  rt::Duration news_period = std::chrono::milliseconds(100);  // of counts of tokens
  /// Of first tokens and ends, if no question goes before: each message wakes the router.
  rt::Duration news_delay = std::chrono::milliseconds(1);
  std::size_t queued_bytes_max = 8U << 20U;  // that the router does not read; then it is left alone
};

struct RemoteAdviserCounters {
  std::uint64_t asked = 0;
  std::uint64_t advised = 0;
  std::uint64_t silent = 0;  // no answer, or none in time
};

class RemoteAdviser final : public RouteAdviser {
 public:
  /// `pool`: whose workers are meant. All outlive it.
  RemoteAdviser(rt::Loop& loop, rt::Net& net, wire::PoolName pool, RemoteAdviserOptions options);

  RemoteAdviser(const RemoteAdviser&) = delete;
  RemoteAdviser& operator=(const RemoteAdviser&) = delete;
  /// No handler is called any more.
  ~RemoteAdviser() override;

  /// Where the router is, from now on; nothing: nowhere. `peer`: the name it must have; empty: any.
  void SetAddress(std::optional<rt::Address> address, std::string peer);

  bool Ask(const RouteRequest& request, AdviceHandler on_advice) override;
  void OnSent(RequestId id, const Target& target, std::uint64_t prefill_tokens) override;
  void OnFirstToken(RequestId id) override;
  void OnTokens(RequestId id, std::uint32_t count) override;
  void Withdraw(RequestId id) override;

  /// Questions are asked now.
  bool available() const;

  const RemoteAdviserCounters& counters() const { return counters_; }

 private:
  struct Held {
    wire::RouteAsk ask;
    AdviceHandler on_advice;  // while an answer is awaited
    bool waits = false;       // in the router's queue
    bool told = false;        // the router counts it
    std::optional<Target> advised = {};
    std::optional<Target> sent = {};
    std::uint64_t prefill_tokens = 0;
    std::uint32_t new_tokens = 0;
  };

  void OnState(bool connected);
  void Open();
  void OnAnswers(const std::string& message);
  void OnLost();
  void GiveUp(bool also_those_that_wait);
  void Suspend();
  void OnTime();
  void SetAlarm();
  void FlushSoon();
  void FlushLater();
  void Flush();
  static wire::RoutePlaced PlacedOf(const Held& held);

  rt::Loop& loop_;
  rt::Net& net_;
  wire::PoolName pool_;
  RemoteAdviserOptions options_;
  std::unordered_map<RequestId, Held> held_;
  std::deque<std::pair<rt::Time, RequestId>> asked_;  // when an answer is missed
  std::vector<RequestId> with_new_tokens_;
  wire::RouteBatch batch_;  // to be sent
  std::optional<control::MuxClient::CallKey> call_;
  rt::Time silent_until_{};
  rt::Time news_at_ = rt::kNever;
  rt::Time flush_at_ = rt::kNever;
  bool flushing_ = false;
  rt::Alarm alarm_;
  RemoteAdviserCounters counters_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // on the loop alone
  std::unique_ptr<control::MuxClient> client_;  // last: its handlers use what stands above
};

}  // namespace pixii::router
