#include "frontend/fleet/adapter_places.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "base/hash.h"

namespace pixii::frontend {

namespace {

const wire::AdapterCard* Find(const AdapterWorker& worker, std::string_view adapter) {
  const auto found = std::ranges::find(*worker.adapters, adapter, &wire::AdapterCard::name);
  return found != worker.adapters->end() ? &*found : nullptr;
}

std::uint64_t Weight(std::string_view adapter, control::InstanceId instance) {
  return Hash64(std::as_bytes(std::span<const char>(adapter.data(), adapter.size())),
                static_cast<std::uint64_t>(instance));
}

}  // namespace

std::vector<control::InstanceId> NotForAdapter(std::string_view adapter,
                                               std::span<const AdapterWorker> workers) {
  bool loaded = false;
  const AdapterWorker* place = nullptr;  // of those that could load it
  for (const AdapterWorker& worker : workers) {
    const wire::AdapterCard* card = Find(worker, adapter);
    if (card == nullptr) {
      continue;
    }
    loaded = loaded || card->is_loaded();
    if (place == nullptr || Weight(adapter, worker.instance) > Weight(adapter, place->instance)) {
      place = &worker;
    }
  }
  std::vector<control::InstanceId> out;
  for (const AdapterWorker& worker : workers) {
    const wire::AdapterCard* card = Find(worker, adapter);
    const bool fits = loaded ? card != nullptr && card->is_loaded() : &worker == place;
    if (place != nullptr && !fits) {
      out.push_back(worker.instance);
    }
  }
  return out;
}

std::vector<wire::AdapterCard> JoinAdapters(std::span<const AdapterWorker> workers) {
  std::map<std::string, wire::AdapterCard> joined;
  for (const AdapterWorker& worker : workers) {
    for (const wire::AdapterCard& card : *worker.adapters) {
      const auto [found, is_new] = joined.try_emplace(card.name, card);
      if (!is_new && !found->second.is_loaded() && card.is_loaded()) {
        found->second = card;
      }
    }
  }
  std::vector<wire::AdapterCard> out;
  for (auto& [name, card] : joined) {
    out.push_back(std::move(card));
  }
  return out;
}

}  // namespace pixii::frontend
