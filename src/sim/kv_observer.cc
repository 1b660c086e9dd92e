#include "sim/kv_observer.h"

#include <utility>

#include "base/assert.h"
#include "control/instance_codec.h"

namespace pixii::sim {

void KvObserver::Apply(const wire::KvEvent& event, std::set<std::uint64_t>& blocks) {
  switch (event.kind) {
    case wire::KvEvent::Kind::kStored:
      for (const wire::KvBlock& block : event.blocks) {
        blocks.insert(block.block_hash);
      }
      return;
    case wire::KvEvent::Kind::kRemoved:
      for (const std::uint64_t hash : event.removed) {
        blocks.erase(hash);
      }
      return;
    case wire::KvEvent::Kind::kCleared:
      blocks.clear();
      return;
  }
}

// However long it stood still, nobody sent it more than it gave credit for.
void KvObserver::CheckLine(const Watched& watched) {
  if (watched.link && watched.link->state() == control::RemoteLink::State::kAway &&
      watched.link->trouble().find("past its window") != std::string::npos) {
    on_violation_("the listener: " + watched.link->trouble());
  }
}

void KvObserver::Watch(control::InstanceId instance, const std::string& address,
                       const wire::ModelCard& card) {
  auto watched = std::make_unique<Watched>();
  control::MuxClientOptions client;
  client.mux = mux_;
  client.address = rt::ParseAddress(address).value();
  client.expected_peer = control::InstanceName(instance);
  watched->link = std::make_unique<control::RemoteLink>(
      loop_, net_, std::move(client), card, [this, one = watched.get()] { CheckLine(*one); });
  const Result<void> watches =
      watched->link->WatchKvEvents([blocks = &watched->blocks](const auto& events) {
        for (const wire::KvEvent& event : events) {
          Apply(event, *blocks);
        }
      });
  PX_ASSERT(watches);
  watched_[instance] = std::move(watched);
}

}  // namespace pixii::sim
