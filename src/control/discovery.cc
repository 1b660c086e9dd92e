#include "control/discovery.h"

#include <map>
#include <string>
#include <utility>

#include "control/instance_codec.h"

namespace pixii::control {

Registration::~Registration() {
  if (trouble_watch_) {
    store_.Unwatch(*trouble_watch_);
  }
  Withdraw();
}

void Registration::TellTrouble(obs::Log& log) {
  if (trouble_watch_) {
    return;
  }
  trouble_watch_ = store_.Watch(InstanceKey(instance_), [this, &log](const StoreView& view) {
    if (std::exchange(in_trouble_, view.trouble.has_value()) == in_trouble_) {
      return;
    }
    if (in_trouble_) {
      obs::Event(log, obs::EventId::kDiscoveryAway)
          .kv("instance", InstanceName(instance_.id))
          .kv("reason", view.trouble->detail());
    } else {
      obs::Event(log, obs::EventId::kDiscoveryBack).kv("instance", InstanceName(instance_.id));
    }
  });
}

Result<void> Registration::Publish(Instance instance) {
  PX_CHECK_OK(CheckInstance(instance));
  // The card first: an instance is complete as soon as it is seen.
  PX_CHECK_OK(store_.Put(CardKey(instance), EncodeCard(instance)));
  PX_CHECK_OK(store_.Put(InstanceKey(instance), EncodeInstance(instance)));
  instance_ = std::move(instance);
  registered_ = true;
  return {};
}

Result<void> Registration::Update(Instance instance) {
  if (!registered_ || InstanceKey(instance) != InstanceKey(instance_)) {
    return Fail(Code::kInvalidArgument, "it is another instance, or it was withdrawn");
  }
  instance.generation = instance_.generation + 1;
  return Publish(std::move(instance));
}

void Registration::Drain() {
  if (registered_ && !instance_.draining) {
    Instance last = instance_;
    last.draining = true;
    (void)Update(std::move(last));  // only a hint: without it the connection's end tells
  }
}

void Registration::Withdraw() {
  if (!registered_) {
    return;
  }
  Drain();
  registered_ = false;
  store_.Delete(InstanceKey(instance_));
  store_.Delete(CardKey(instance_));
}

InstanceWatch::InstanceWatch(rt::Loop& loop, LeaseStore& store, std::string_view ns,
                             const DiscoveryOptions& options, ChangeHandler on_changes)
    : loop_(loop),
      store_(store),
      log_(options.log),
      on_changes_(std::move(on_changes)),
      membership_(options.membership),
      alarm_(loop, [this] {
        membership_.OnTime(loop_.Now());
        Settle();
      }) {
  instance_watch_ = store.Watch(InstancePrefix(ns), [this](const StoreView& view) {
    OnView(instance_view_, view, instances_answered_);
  });
  card_watch_ = store.Watch(
      CardPrefix(ns), [this](const StoreView& view) { OnView(card_view_, view, cards_answered_); });
}

InstanceWatch::~InstanceWatch() {
  store_.Unwatch(instance_watch_);
  store_.Unwatch(card_watch_);
}

void InstanceWatch::OnView(StoreView& mine, const StoreView& view, bool& answered) {
  mine = view;
  answered = answered || !view.trouble;
  const bool was_away = trouble_.has_value();
  trouble_ = instance_view_.trouble ? instance_view_.trouble : card_view_.trouble;
  if (log_ != nullptr && trouble_ && !was_away) {
    obs::Event(*log_, obs::EventId::kDiscoveryAway).kv("reason", trouble_->detail());
  }
  if (trouble_) {
    membership_.OnTrouble();
  } else if (instances_answered_ && cards_answered_) {
    complete_ = true;
    std::map<std::string, std::string> unreadable;
    const auto seen = reader_.Read(instance_view_.values, card_view_.values,
                                   [&](const std::string& key, const Error& error) {
                                     unreadable.emplace(key, error.detail());
                                   });
    LogUnreadable(std::move(unreadable));
    membership_.OnView(seen, loop_.Now());
  }
  if (log_ != nullptr && !trouble_ && was_away) {  // once it is known what there is
    obs::Event(*log_, obs::EventId::kDiscoveryBack).kv("instances", membership_.instances().size());
  }
  Settle();
}

void InstanceWatch::LogUnreadable(std::map<std::string, std::string> unreadable) {
  for (const auto& [key, why] : unreadable) {
    const auto old = unreadable_.find(key);
    if (log_ != nullptr && (old == unreadable_.end() || old->second != why)) {
      obs::Event(*log_, obs::EventId::kInstanceUnreadable).kv("key", key).kv("reason", why);
    }
  }
  unreadable_ = std::move(unreadable);
}

void InstanceWatch::SetConnected(InstanceId id, bool connected) {
  membership_.OnConnection(id, connected, loop_.Now());
  alarm_.Set(membership_.next_deadline());
}

void InstanceWatch::SetGoingAway(InstanceId id) {
  membership_.OnGoingAway(id);
  alarm_.Set(membership_.next_deadline());
}

void InstanceWatch::Settle() {
  alarm_.Set(membership_.next_deadline());
  if (const std::vector<MembershipChange> changes = membership_.TakeChanges(); !changes.empty()) {
    on_changes_(changes);
  }
}

Discovery::Discovery(rt::Loop& loop, std::unique_ptr<LeaseStore> store, DiscoveryOptions options)
    : loop_(loop), store_(std::move(store)), options_(options) {}

InstanceId Discovery::NewInstanceId() {
  // Below 2^63, so that readers with signed integers have it, too; 1 is the smallest.
  return InstanceId{loop_.random().Below((std::uint64_t{1} << 63) - 1) + 1};
}

Result<std::unique_ptr<Registration>> Discovery::Register(Instance instance) {
  if (instance.id == InstanceId{}) {
    instance.id = NewInstanceId();
  }
  auto registration = std::make_unique<Registration>(*store_, instance);
  PX_CHECK_OK(registration->Publish(std::move(instance)));
  return registration;
}

std::unique_ptr<InstanceWatch> Discovery::Watch(std::string_view ns,
                                                InstanceWatch::ChangeHandler on_changes) {
  return std::make_unique<InstanceWatch>(loop_, *store_, ns, options_, std::move(on_changes));
}

}  // namespace pixii::control
