// How the engine gives its memory back and takes it again: nothing runs in between, and the prefix
// cache forgets what it held.
#include "engine/engine.h"
#include "engine/request_state.h"

namespace pixii::engine {

namespace {

MemoryParts Both(const MemoryParts& a, const MemoryParts& b) {
  return {.kv_cache = a.kv_cache && b.kv_cache, .weights = a.weights && b.weights};
}

MemoryParts Without(const MemoryParts& a, const MemoryParts& b) {
  return {.kv_cache = a.kv_cache && !b.kv_cache, .weights = a.weights && !b.weights};
}

}  // namespace

Result<void> Engine::Release(const MemoryParts& parts) {
  if (busy()) {
    return Fail(Code::kUnavailable,
                "requests run or KV blocks move; memory is given back when they have ended");
  }
  MemoryParts rest = Without(parts, released_);
  if (!rest.any()) {
    return {};
  }
  if (rest.kv_cache) {
    sessions_.Clear();
    cache_->Clear();  // first: whatever comes of the rest, its bytes are not believed any more
  }
  PX_CHECK_OK(executor_->Release(rest));
  released_.kv_cache = released_.kv_cache || rest.kv_cache;
  released_.weights = released_.weights || rest.weights;
  if (drafter_) {
    PX_CHECK_OK(drafter_->Release(rest));
  }
  ended_.clear();
  logits_.reset();
  logits_size_ = 0;
  return {};
}

Result<void> Engine::Restore(const MemoryParts& parts) {
  MemoryParts back = Both(parts, released_);
  if (!back.any()) {
    return {};
  }
  PX_CHECK_OK(executor_->Restore(back));
  if (drafter_) {
    PX_CHECK_OK(drafter_->Restore(back));
  }
  released_ = Without(released_, back);
  if (back.weights) {
    adapters_.RefillSlots();
    ApplyAdapters(nullptr);
  }
  return {};
}

}  // namespace pixii::engine
