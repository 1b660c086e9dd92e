// What workers tell all who listen at once, beside the connection to each: KV events and load.
//
// Thread: one loop. docs/subsystems/control.md
// Messages may be lost, repeated and late, and nobody vouches for who sent them: who listens has
// the worker itself to ask (KvEventReader). Losing the plane loses nothing. Each message carries a
// checksum: what was damaged or is another format's counts as malformed and is dropped.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace pixii::control {

class EventPlane {
 public:
  enum class Kind : std::uint8_t {
    kKvEvents,  // wire::KvEventBatch; without events it says how far they are
    kLoad,      // wire::WorkerReport without a card
  };

  class Listener {
   public:
    virtual void OnPlane(Kind kind, std::string_view message) = 0;

   protected:
    ~Listener() = default;
  };

  struct Counters {
    std::uint64_t heard = 0;      // messages of workers that are listened to
    std::uint64_t unknown = 0;    // of others
    std::uint64_t malformed = 0;  // of those heard: they cannot be read, or say what cannot be
    std::uint64_t kv_events = 0;  // that were taken of it
    std::uint64_t gaps = 0;       // for which a worker was asked
    std::uint64_t published = 0;  // that are kept for those who listen
    std::uint64_t lost = 0;       // that are not
    std::uint64_t breaks = 0;     // times that listening began anew
  };

  EventPlane() = default;
  EventPlane(const EventPlane&) = delete;
  EventPlane& operator=(const EventPlane&) = delete;
  virtual ~EventPlane() = default;

  /// Of the worker of this name: control::InstanceName. Does not wait.
  virtual void Publish(std::string_view worker, Kind kind, std::string message) = 0;

  virtual Counters counters() const { return counters_; }

  /// `listener` hears of `worker` until Forget.
  void Listen(std::string worker, Listener& listener);
  void Forget(std::string_view worker, Listener& listener);

  /// A message was of no use.
  void CountMalformed() { ++counters_.malformed; }

  void CountKvEvents(std::uint64_t taken, std::uint64_t gaps) {
    counters_.kv_events += taken;
    counters_.gaps += gaps;
  }

  /// `message` with its checksum behind it: 8 bytes, XXH3-64, little-endian.
  static std::string Seal(std::string message);

 protected:
  /// `sealed`: as it came. Listeners may come and go meanwhile.
  void Deliver(std::string_view worker, Kind kind, std::string_view sealed);

 private:
  static std::optional<std::string_view> Unseal(std::string_view sealed);
  bool IsListening(std::string_view worker, const Listener& listener) const;

  std::multimap<std::string, Listener*, std::less<>> listeners_;
  Counters counters_;
};

}  // namespace pixii::control
