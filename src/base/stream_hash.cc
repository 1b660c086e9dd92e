#include "base/stream_hash.h"

// The state type is behind this switch in xxHash 0.8; it is stable there.
#define XXH_STATIC_LINKING_ONLY
#if defined(__x86_64__)
#include <xxh_x86dispatch.h>
#endif
#include <xxhash.h>

namespace pixii {

struct StreamHash64::State {
  XXH3_state_t state;
};

StreamHash64::StreamHash64() : state_(std::make_unique<State>()) {
  XXH3_INITSTATE(&state_->state);
  Reset(0);
}

StreamHash64::~StreamHash64() = default;

void StreamHash64::Reset(std::uint64_t seed) { XXH3_64bits_reset_withSeed(&state_->state, seed); }

void StreamHash64::Update(std::span<const std::byte> bytes) {
  XXH3_64bits_update(&state_->state, bytes.data(), bytes.size());
}

std::uint64_t StreamHash64::Value() const { return XXH3_64bits_digest(&state_->state); }

}  // namespace pixii
