// A small key-value store that processes share: what a process puts there goes when the process
// does, or soon after.
//
// Thread: one loop; handlers run on it, from the loop and never inside the call that gave them.
// A store keeps its promises by itself: when it was away, wiped, set back to an old state, or when
// the lease ran out, it takes a new lease and puts everything there again. Nothing here is an error
// for its user except a key or value that no store can have.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "base/result.h"
#include "rt/time.h"

namespace pixii::control {

inline constexpr std::size_t kStoreKeyBytesMax = 240;
inline constexpr std::size_t kStoreValueBytesMax = 1 << 20;

struct LeaseOptions {
  /// A holder that is not heard of for so long has lost its keys; 1 s .. 1 h for a store in use.
  rt::Duration ttl = std::chrono::seconds(10);
};

/// Everything under a prefix.
struct StoreView {
  std::map<std::string, std::string> values;  // by key
  /// Why the store cannot be asked now; then `values` are what it said last.
  std::optional<Error> trouble;

  friend bool operator==(const StoreView& a, const StoreView& b) {
    return a.values == b.values && a.trouble.has_value() == b.trouble.has_value();
  }
};

enum class WatchId : std::uint64_t {};

class LeaseStore {
 public:
  using WatchHandler = std::function<void(const StoreView&)>;

  /// Gives the lease back without waiting, as far as that is possible.
  virtual ~LeaseStore() = default;

  /// From now on `key` has `value` whenever the store is there, until Delete or Close. Errors:
  /// kInvalidArgument (a key that is empty, too long, or has bytes outside of printable ASCII),
  /// kTooLarge (a value of more than kStoreValueBytesMax).
  virtual Result<void> Put(const std::string& key, std::string value) = 0;

  /// Takes back what Put did; no effect on keys of others.
  virtual void Delete(const std::string& key) = 0;

  /// Calls `on_view` with the first answer, then whenever something under `prefix` or the trouble
  /// changed; several changes may come as one.
  virtual WatchId Watch(std::string prefix, WatchHandler on_view) = 0;
  virtual void Unwatch(WatchId watch) = 0;

  /// Gives the lease back, so that all keys of this holder are gone; `on_closed` is called once
  /// that is done or has failed within a few seconds. Nothing else may be called then. Handlers of
  /// watches are called no more.
  virtual void Close(std::function<void()> on_closed) = 0;
};

/// The errors of LeaseStore::Put.
Result<void> CheckStoreEntry(const std::string& key, const std::string& value);

}  // namespace pixii::control
