#include "control/event_plane.h"

#include <algorithm>
#include <iterator>
#include <span>
#include <utility>
#include <vector>

#include "base/hash.h"

namespace pixii::control {

namespace {

constexpr std::size_t kSealSize = 8;  // bytes

std::string SealOf(std::string_view message) {
  std::uint64_t sum = Hash64(std::as_bytes(std::span<const char>(message.data(), message.size())));
  std::string out(kSealSize, '\0');
  for (char& byte : out) {
    byte = static_cast<char>(sum & 0xFFU);
    sum >>= 8U;
  }
  return out;
}

}  // namespace

std::string EventPlane::Seal(std::string message) {
  const std::string seal = SealOf(message);
  return std::move(message) + seal;
}

std::optional<std::string_view> EventPlane::Unseal(std::string_view sealed) {
  if (sealed.size() < kSealSize) {
    return std::nullopt;
  }
  const std::string_view message = sealed.substr(0, sealed.size() - kSealSize);
  return SealOf(message) == sealed.substr(message.size()) ? std::optional(message) : std::nullopt;
}

void EventPlane::Listen(std::string worker, Listener& listener) {
  listeners_.emplace(std::move(worker), &listener);
}

void EventPlane::Forget(std::string_view worker, Listener& listener) {
  const auto [begin, end] = listeners_.equal_range(worker);
  const auto found =
      std::find_if(begin, end, [&](const auto& one) { return one.second == &listener; });
  if (found != end) {
    listeners_.erase(found);
  }
}

bool EventPlane::IsListening(std::string_view worker, const Listener& listener) const {
  const auto [begin, end] = listeners_.equal_range(worker);
  return std::any_of(begin, end, [&](const auto& one) { return one.second == &listener; });
}

void EventPlane::Deliver(std::string_view worker, Kind kind, std::string_view sealed) {
  const auto [begin, end] = listeners_.equal_range(worker);
  std::vector<Listener*> told;
  std::transform(begin, end, std::back_inserter(told), [](const auto& one) { return one.second; });
  if (told.empty()) {
    ++counters_.unknown;
    return;
  }
  ++counters_.heard;
  const std::optional<std::string_view> message = Unseal(sealed);
  if (!message) {
    CountMalformed();
    return;
  }
  for (Listener* const listener : told) {
    if (IsListening(worker, *listener)) {
      listener->OnPlane(kind, *message);
    }
  }
}

}  // namespace pixii::control
