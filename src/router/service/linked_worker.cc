#include "router/service/linked_worker.h"

#include <string>
#include <utility>
#include <vector>

#include "control/instance_codec.h"

namespace pixii::router {

using control::RemoteLink;

namespace {

// What the router reads of a card.
bool SameForRouter(const wire::ModelCard& a, const wire::ModelCard& b) {
  return a.block_count == b.block_count && a.batch_tokens_max == b.batch_tokens_max &&
         a.block_tokens == b.block_tokens;
}

struct Departure {
  obs::EventId event = obs::EventId::kWorkerLeft;
  std::string why;
};

// Of one that the router has no more.
Departure DepartureOf(const RemoteLink& link, const control::Instance& instance) {
  using obs::EventId;
  if (link.state() != RemoteLink::State::kHere) {
    return link.goes_away() ? Departure{.why = "its process ends"}
                            : Departure{EventId::kWorkerLost, link.trouble()};
  }
  switch (link.load().state) {
    case wire::WorkerState::kUnhealthy:
      return {EventId::kWorkerLost, "its engine does not answer"};
    case wire::WorkerState::kDead:
      return {EventId::kWorkerLost, "every data-parallel rank of it failed"};
    case wire::WorkerState::kAsleep:
      return {.why = "it sleeps"};
    case wire::WorkerState::kDraining:
      return {.why = instance.draining || link.goes_away() ? "it ends" : "it is about to sleep"};
    case wire::WorkerState::kAwake:
      break;
  }
  return {.why = instance.draining ? "it ends" : "discovery shows it no more"};
}

}  // namespace

Result<std::unique_ptr<RemoteLink>> LinkedWorker::SetInstance(const control::Instance& instance) {
  PX_TRY(rt::Address address, rt::ParseAddress(instance.address));
  const bool same = link_ && instance_.address == instance.address;
  std::unique_ptr<RemoteLink> old;
  if (!same) {
    control::MuxClientOptions client = parts_.client;
    client.address = std::move(address);
    client.expected_peer = control::InstanceName(instance.id);
    old = std::exchange(link_,
                        std::make_unique<RemoteLink>(
                            parts_.loop, parts_.net, std::move(client), instance.card,
                            [on_change = parts_.on_change, id = instance.id] { on_change(id); }));
    if (parts_.plane != nullptr) {
      link_->UsePlane(*parts_.plane, control::InstanceName(instance.id));
    }
    card_number_ = 0;
    goes_away_ = false;
  }
  instance_ = instance;
  changed_ = true;
  return old;
}

LinkedWorker::Change LinkedWorker::Update(bool wanted) {
  Change out;
  const bool here = link_->state() == RemoteLink::State::kHere;
  if (std::exchange(connected_, here) != here && parts_.on_connection) {
    parts_.on_connection(instance_.id, here);
  }
  if (link_->goes_away() && !std::exchange(goes_away_, true) && parts_.on_going_away) {
    parts_.on_going_away(instance_.id);
  }
  if (here && wanted) {
    out.came = !std::exchange(routed_, true);
    out.card = card_number_ != link_->card_number();
    card_number_ = link_->card_number();
    changed_ = changed_ || out.came;
    if (changed_ || out.card) {
      TellWhatItIs();
    }
    TellLoads();
    if (out.came) {
      ListenToCache();
    }
  } else if (std::exchange(routed_, false)) {
    out.left = true;
    parts_.router.RemoveWorker(instance_.id);
  }
  LogChange();
  return out;
}

// A router goes on to have a worker that sleeps or ends: it says how busy that is.
void LinkedWorker::LogChange() {
  const bool takes =
      routed_ && !instance_.draining && link_->load().state == wire::WorkerState::kAwake;
  if (std::exchange(takes_, takes) == takes || parts_.log == nullptr) {
    return;
  }
  const Departure departure = takes ? Departure{} : DepartureOf(*link_, instance_);
  obs::Event event(*parts_.log, takes ? obs::EventId::kWorkerCame : departure.event);
  event.kv("instance", control::InstanceName(instance_.id))
      .kv("address", instance_.address)
      .kv("model", instance_.card.name);
  if (!takes) {
    event.kv("why", departure.why);
  }
}

void LinkedWorker::TellWhatItIs() {
  const bool is_new = std::exchange(changed_, false);
  if (is_new || !SameForRouter(link_->card(), instance_.card)) {
    instance_.card = link_->card();
    parts_.router.SetWorker(instance_);
  }
}

void LinkedWorker::TellLoads() {
  std::uint32_t rank = instance_.rank_first;
  for (const control::WorkerLoad& load : link_->rank_loads()) {
    parts_.router.OnLoad(instance_.id, rank++, load, parts_.loop.Now());
  }
  if (parts_.router.index() != nullptr && link_->kv_unsupported() && parts_.log != nullptr &&
      !std::exchange(no_events_said_, true)) {
    obs::Event(*parts_.log, obs::EventId::kRouterNoEvents)
        .kv("worker", Raw(instance_.id))
        .kv("address", instance_.address);
  }
}

// Anew each time that the router gets the worker: it knows nothing of it then.
void LinkedWorker::ListenToCache() {
  if (parts_.router.index() != nullptr) {
    // A remote link takes every handler; a worker without events never calls it. The link may
    // outlive this.
    (void)link_->WatchKvEvents([&loop = parts_.loop, &router = parts_.router,
                                id = instance_.id](const std::vector<wire::KvEvent>& events) {
      router.OnKvEvents(id, events, loop.Now());
    });
  }
}

}  // namespace pixii::router
