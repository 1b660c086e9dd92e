// Which of the workers that encode looks at a picture. Pure.
//
// Thread: pure functions. docs/multimodal.md
// Each picture has an order of workers of its own, drawn from its digest: the first one's cache is
// where it is looked for, by every frontend alike, and a worker that comes or goes moves only the
// pictures that become or were its own. Who has much more to do than the others is passed over.
//
// Source: highest random weight (Thaler, Ravishankar 1998) with bounded loads (Mirrokni, Thorup,
// Zadimoghaddam 2016).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "control/instance.h"

namespace pixii::frontend {

struct EncodeCandidate {
  control::InstanceId instance{};
  std::uint32_t load = 0;  // pictures that it has to look at
};

/// So many times the mean load may a worker have and still be given its own pictures.
inline constexpr double kEncodeSpread = 1.25;

/// Nothing: there is no candidate.
std::optional<control::InstanceId> PlacePicture(std::string_view digest,
                                                std::span<const EncodeCandidate> candidates);

}  // namespace pixii::frontend
