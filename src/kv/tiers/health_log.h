// Says in the log when something that keeps KV blocks begins to fail, and when it works again.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "obs/log.h"

namespace pixii::kv {

/// Of reads, writes or loads. Thread: one owner.
class HealthLog final {
 public:
  /// Once when it begins to fail, however often it rests until it works again. No effect without a
  /// `log`. `tier`, `rank`, `what`: the event's fields; `why`: what the last failure said.
  void Update(obs::Log* log, std::string_view tier, std::uint32_t rank, std::string_view what,
              bool failing, const std::string& why) {
    if (std::exchange(told_, failing) == failing || log == nullptr) {
      return;
    }
    obs::Event event(*log, failing ? obs::EventId::kKvTierResting : obs::EventId::kKvTierResumed);
    event.kv("tier", tier).kv("rank", rank).kv("what", what);
    if (failing) {
      event.kv("why", why);
    }
  }

 private:
  bool told_ = false;
};

}  // namespace pixii::kv
