// Which adapters an engine has, and which of them lie in the device's slots: pure decisions.
// docs/subsystems/engine.md
//
// Thread: the engine thread. No clock and no I/O: use is counted in ticks of its own.
// An adapter is kept by its name while it is loaded, and by the requests that opened it after that.
// Host: at most adapters_max loaded ones and host_bytes_max bytes; a new one takes the place of the
// least recently used that is neither pinned nor opened. Device: a slot is held by the sequences
// that run with its adapter, and taken over from the least recently used one otherwise, pinned ones
// last. Nobody's slot is taken while a sequence runs with it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "wire/messages/adapters.h"

namespace pixii::engine {

/// An adapter's weights as an executor knows them.
class AdapterWeights {
 public:
  virtual ~AdapterWeights() = default;
  /// Which bytes they are: equal fingerprints, equal answers.
  virtual std::string_view fingerprint() const = 0;
  /// Where they were read from, for people; empty: nowhere.
  virtual std::string_view source() const = 0;
  virtual std::uint64_t size_bytes() const = 0;
};

struct AdapterOptions {
  std::uint32_t slot_count = 0;     // adapters on the device at a time; 0: none are taken
  std::uint32_t adapters_max = 64;  // loaded, 1 .. 65536
  std::uint64_t host_bytes_max = std::uint64_t{16} << 30;
};

/// One version of an adapter.
struct Adapter {
  std::string name;
  std::string identity;  // name and fingerprint: a part of every block's identity
  std::uint64_t id = 0;  // never used twice
  std::shared_ptr<const AdapterWeights> weights;
  bool pinned = false;
  bool loaded = true;           // requests may name it
  std::uint32_t sequences = 0;  // that run with it now
  std::int32_t slot = -1;       // on the device; -1: none
  std::uint64_t last_use = 0;   // tick
};

/// What is to be put into a slot before the next step.
struct AdapterChange {
  std::uint32_t slot = 0;
  std::shared_ptr<const AdapterWeights> weights;  // null: nothing stays there
};

class AdapterStore final {
 public:
  explicit AdapterStore(const AdapterOptions& options) : options_(options) {
    slots_.resize(options.slot_count);
  }

  /// Requests may name it from now on. An adapter of the same name and fingerprint stays, with this
  /// `pinned`; one of other bytes gives way as by Unload. Errors: kUnsupported (no slots),
  /// kInvalidArgument (name, size), kResourceExhausted naming the bound that all loaded ones fill.
  Result<void> Load(std::string name, std::shared_ptr<const AdapterWeights> weights, bool pinned);

  /// No request may name it any more; those that did go on with it, then it is gone. Errors:
  /// kNotFound.
  Result<void> Unload(std::string_view name);

  /// The adapter for a request, which keeps it; `version` is the fingerprint that it must have, if
  /// not empty. Errors: kNotFound; kUnavailable if it has another.
  Result<std::shared_ptr<Adapter>> Open(std::string_view name, std::string_view version = {});

  /// Whether a sequence with `adapter` can have a slot now; null needs none.
  bool HasSlotFor(const Adapter* adapter) const;

  /// Holds a slot for one more running sequence. Pre: HasSlotFor.
  void Acquire(Adapter& adapter);
  void Release(Adapter& adapter);

  /// What slots get before the next step, each slot once. To be called between steps.
  std::vector<AdapterChange> TakeChanges() { return std::exchange(changes_, {}); }

  bool has_changes() const { return !changes_.empty(); }

  /// A slot did not get what it should: nothing is there.
  void SlotFailed(std::uint32_t slot);

  /// The device forgot its slots: each gets again before the next step what it had.
  void RefillSlots();

  /// By name.
  std::vector<wire::AdapterCard> List() const;

  std::uint32_t loaded_count() const { return static_cast<std::uint32_t>(loaded_.size()); }

  /// Slots that hold an adapter.
  std::uint32_t resident_count() const;

  /// Loaded ones that gave way to others.
  std::uint64_t evictions() const { return evictions_; }

  /// Asserts that slots, holders and names agree.
  void CheckInvariants() const;

 private:
  struct ByName {
    using is_transparent = void;

    bool operator()(std::string_view a, std::string_view b) const { return a < b; }
  };

  Result<void> MakeRoom(const Adapter* replaced, std::uint64_t size_bytes);
  void Drop(Adapter& adapter);
  void Vacate(Adapter& adapter);
  void Change(std::uint32_t slot, std::shared_ptr<const AdapterWeights> weights);
  std::int32_t FindSlot() const;

  AdapterOptions options_;
  std::map<std::string, std::shared_ptr<Adapter>, ByName> loaded_;
  std::vector<Adapter*> slots_;         // [slot_count], null: free; whoever stands here lives
  std::vector<AdapterChange> changes_;  // at most one for each slot: its last
  std::uint64_t last_id_ = 0;
  std::uint64_t tick_ = 0;
  std::uint64_t evictions_ = 0;
};

/// Longest name of an adapter, in bytes.
inline constexpr std::size_t kAdapterNameBytesMax = 256;

}  // namespace pixii::engine
