#include "engine/adapter_store.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/assert.h"

namespace pixii::engine {

namespace {

// A name goes into URLs, logs and lists.
Result<void> CheckName(std::string_view name) {
  bool printable = std::ranges::all_of(
      name, [](char c) { return c > ' ' && static_cast<unsigned char>(c) < 0x7F; });
  if (name.empty() || name.size() > kAdapterNameBytesMax || !printable) {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("an adapter's name has 1 to {} printable ASCII characters, none a space",
                    kAdapterNameBytesMax),
        "lora_name");
  }
  return {};
}

}  // namespace

Result<void> AdapterStore::Load(std::string name, std::shared_ptr<const AdapterWeights> weights,
                                bool pinned) {
  if (options_.slot_count == 0) {
    return Fail(Code::kUnsupported, "this engine was started without adapters", "adapter");
  }
  PX_CHECK_OK(CheckName(name));
  auto found = loaded_.find(name);
  Adapter* before = found != loaded_.end() ? found->second.get() : nullptr;
  if (before != nullptr && before->weights->fingerprint() == weights->fingerprint()) {
    before->pinned = pinned;
    before->last_use = ++tick_;
    return {};
  }
  PX_CHECK_OK(MakeRoom(before, weights->size_bytes()));
  if (before != nullptr) {
    Drop(*before);
  }
  auto adapter = std::make_shared<Adapter>();
  adapter->name = name;
  adapter->identity = fmt::format("{}\n{}", name, weights->fingerprint());
  adapter->id = ++last_id_;
  adapter->weights = std::move(weights);
  adapter->pinned = pinned;
  adapter->last_use = ++tick_;
  loaded_.emplace(std::move(name), std::move(adapter));
  return {};
}

// `replaced` goes anyhow. Chosen first, dropped only if that is enough: a refusal changes nothing.
Result<void> AdapterStore::MakeRoom(const Adapter* replaced, std::uint64_t size_bytes) {
  std::uint64_t bytes = size_bytes;
  std::size_t count = 1;
  std::vector<Adapter*> idle;
  for (const auto& [name, adapter] : loaded_) {
    if (adapter.get() == replaced) {
      continue;
    }
    bytes += adapter->weights->size_bytes();
    ++count;
    if (!adapter->pinned && adapter.use_count() == 1) {
      idle.push_back(adapter.get());
    }
  }
  std::ranges::sort(idle, {}, &Adapter::last_use);
  std::size_t dropped = 0;
  while ((count > options_.adapters_max || bytes > options_.host_bytes_max) &&
         dropped < idle.size()) {
    bytes -= idle[dropped++]->weights->size_bytes();
    --count;
  }
  if (count > options_.adapters_max || bytes > options_.host_bytes_max) {
    return Fail(Code::kResourceExhausted,
                fmt::format("the loaded adapters are pinned or in use, and one more passes {} "
                            "adapters or {} bytes; unload one",
                            options_.adapters_max, options_.host_bytes_max),
                "lora_name");
  }
  for (std::size_t i = 0; i < dropped; ++i) {
    ++evictions_;
    Drop(*idle[i]);
  }
  return {};
}

void AdapterStore::Drop(Adapter& adapter) {
  adapter.loaded = false;
  if (adapter.sequences == 0) {
    Vacate(adapter);
  }
  loaded_.erase(loaded_.find(adapter.name));
}

void AdapterStore::Vacate(Adapter& adapter) {
  if (adapter.slot >= 0) {
    auto slot = static_cast<std::uint32_t>(adapter.slot);
    slots_[slot] = nullptr;
    adapter.slot = -1;
    Change(slot, nullptr);
  }
}

void AdapterStore::Change(std::uint32_t slot, std::shared_ptr<const AdapterWeights> weights) {
  auto found = std::ranges::find(changes_, slot, &AdapterChange::slot);
  if (found != changes_.end()) {
    found->weights = std::move(weights);
  } else {
    changes_.push_back({.slot = slot, .weights = std::move(weights)});
  }
}

Result<void> AdapterStore::Unload(std::string_view name) {
  auto found = loaded_.find(name);
  if (found == loaded_.end()) {
    return Fail(Code::kNotFound, fmt::format("no adapter \"{}\" is loaded", name.substr(0, 100)),
                "lora_name");
  }
  Drop(*found->second);
  return {};
}

Result<std::shared_ptr<Adapter>> AdapterStore::Open(std::string_view name,
                                                    std::string_view version) {
  auto found = loaded_.find(name);
  if (found == loaded_.end()) {
    return Fail(Code::kNotFound, fmt::format("no adapter \"{}\" is loaded", name.substr(0, 100)),
                "model");
  }
  if (!version.empty() && found->second->weights->fingerprint() != version) {
    return Fail(
        Code::kUnavailable,
        fmt::format("the adapter \"{}\" was replaced meanwhile; ask again", name.substr(0, 100)),
        "model");
  }
  found->second->last_use = ++tick_;
  return found->second;
}

bool AdapterStore::HasSlotFor(const Adapter* adapter) const {
  return adapter == nullptr || adapter->slot >= 0 || FindSlot() >= 0;
}

// A free one, or the one of the least recently used adapter that nobody runs with.
std::int32_t AdapterStore::FindSlot() const {
  std::int32_t best = -1;
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    const Adapter* holder = slots_[i];
    if (holder == nullptr) {
      return static_cast<std::int32_t>(i);
    }
    if (holder->sequences > 0) {
      continue;
    }
    const Adapter* other = best < 0 ? nullptr : slots_[static_cast<std::size_t>(best)];
    if (other == nullptr ||
        std::pair(holder->pinned, holder->last_use) < std::pair(other->pinned, other->last_use)) {
      best = static_cast<std::int32_t>(i);
    }
  }
  return best;
}

void AdapterStore::Acquire(Adapter& adapter) {
  adapter.last_use = ++tick_;
  ++adapter.sequences;
  if (adapter.slot >= 0) {
    return;
  }
  std::int32_t slot = FindSlot();
  PX_ASSERT(slot >= 0);
  auto index = static_cast<std::size_t>(slot);
  if (slots_[index] != nullptr) {
    slots_[index]->slot = -1;
  }
  slots_[index] = &adapter;
  adapter.slot = slot;
  Change(static_cast<std::uint32_t>(slot), adapter.weights);
}

void AdapterStore::Release(Adapter& adapter) {
  PX_ASSERT(adapter.sequences > 0);
  if (--adapter.sequences == 0 && !adapter.loaded) {
    Vacate(adapter);
  }
}

void AdapterStore::SlotFailed(std::uint32_t slot) {
  if (slots_[slot] != nullptr) {
    slots_[slot]->slot = -1;
    slots_[slot] = nullptr;
  }
}

void AdapterStore::RefillSlots() {
  for (std::uint32_t slot = 0; slot < slots_.size(); ++slot) {
    if (slots_[slot] != nullptr) {
      Change(slot, slots_[slot]->weights);
    }
  }
}

std::vector<wire::AdapterCard> AdapterStore::List() const {
  std::vector<wire::AdapterCard> out;
  for (const auto& [name, adapter] : loaded_) {
    out.push_back({.name = name,
                   .source = std::string(adapter->weights->source()),
                   .version = std::string(adapter->weights->fingerprint()),
                   .id = adapter->id,
                   .size_bytes = adapter->weights->size_bytes(),
                   .pinned = adapter->pinned});
  }
  return out;
}

std::uint32_t AdapterStore::resident_count() const {
  return static_cast<std::uint32_t>(slots_.size()) -
         static_cast<std::uint32_t>(std::ranges::count(slots_, nullptr));
}

void AdapterStore::CheckInvariants() const {
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    PX_ASSERT(slots_[i] == nullptr || slots_[i]->slot == static_cast<std::int32_t>(i));
    PX_ASSERT(slots_[i] == nullptr || slots_[i]->loaded || slots_[i]->sequences > 0);
  }
  PX_ASSERT(loaded_.size() <= options_.adapters_max);
  for (const auto& [name, adapter] : loaded_) {
    PX_ASSERT(adapter->loaded && adapter->name == name);
    PX_ASSERT(adapter->slot < 0 ||
              slots_[static_cast<std::size_t>(adapter->slot)] == adapter.get());
  }
}

}  // namespace pixii::engine
