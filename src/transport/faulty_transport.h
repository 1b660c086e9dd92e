// Any transport, with faults that a seed draws: what users of transfers must live with.
//
// Thread: as transport/link.h.
#pragma once

#include <cstdint>

#include "rt/time.h"
#include "transport/link.h"

namespace pixii::transport {

/// Probabilities are of one transfer each, or of one notification where that can be.
struct FaultOptions {
  std::uint64_t seed = 1;
  double drop = 0;       // it never ends by itself; a notification is lost
  double delay = 0;      // it begins up to delay_max later
  double duplicate = 0;  // a write is made a second time, up to delay_max after it ended
  double corrupt = 0;    // a bit of what is moved is another one, and nothing is said
  double cut = 0;        // the link breaks
  rt::Duration delay_max = std::chrono::milliseconds(20);
  std::uint64_t bytes_per_s_max = 0;  // a transfer takes at least as long as that; 0: no limit
};

/// `inner` with these faults. Everything else is as it is there.
TransportFactory WithFaults(TransportFactory inner, FaultOptions options);

}  // namespace pixii::transport
