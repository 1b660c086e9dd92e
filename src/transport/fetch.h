// Bytes that are read from a peer's memory through a fabric, many pieces at a time under a bound:
// by whoever wants them, or by the owner of a window that a peer wants written.
//
// Thread: one loop.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "base/result.h"
#include "rt/function.h"
#include "transport/fabric.h"
#include "transport/window.h"

namespace pixii::transport {

/// Memory of a peer's that we have the key of.
struct RemoteRegion {
  RemoteRegion(const fabric_abi::Library& functions_in, RegionKey key_in)
      : functions(functions_in), key(key_in) {}

  ~RemoteRegion();
  RemoteRegion(const RemoteRegion&) = delete;
  RemoteRegion& operator=(const RemoteRegion&) = delete;

  const fabric_abi::Library& functions;
  const RegionKey key;
  fabric_abi::Key* memory = nullptr;
  fabric_abi::Key* words = nullptr;  // null: it has been given for a write of the peer's
  std::uint64_t base = 0;
  std::uint64_t size_bytes = 0;
  std::uint64_t window_bytes = 0;
  std::uint64_t words_base = 0;
  std::uint64_t words_count = 0;
};

struct Fetch {
  struct Part {
    std::byte* to = nullptr;
    std::uint64_t size_bytes = 0;
    std::uint64_t from = 0;  // the peer's address of it
    fabric_abi::Key* key = nullptr;
    std::shared_ptr<const RemoteRegion> region;  // keeps the key
    std::shared_ptr<const FabricMemory> memory;  // of `to`; null: the library has to see
    std::shared_ptr<const Region> window;        // that `to` lies in; null: memory of our own
    Descriptor descriptor;                       // of that window
  };

  std::vector<Part> parts;
  /// Of windows that a peer wants written: odd while something is under way.
  std::shared_ptr<WriteLane> lane;
  rt::Function<void(Result<void>)> ended;

  // Of the queue.
  std::size_t part = 0;
  std::uint64_t begun_bytes = 0;  // of that part
  std::uint64_t turn_bytes = 0;   // begun in the turn that it has now
  std::uint32_t running = 0;
  std::optional<Error> error;  // nothing more is begun
};

class FetchQueue final {
 public:
  explicit FetchQueue(Fabric& fabric) : fabric_(fabric) {}

  void Add(std::shared_ptr<Fetch> fetch);
  /// Nothing of it is begun any more; `ended` follows when nothing of it runs.
  void Stop(Fetch& fetch, Error error);
  /// Begins what may be begun and tells ends. Whether it did anything.
  bool Settle();

  std::uint32_t running() const { return running_; }

 private:
  struct Running {
    FetchQueue* queue = nullptr;
    std::shared_ptr<Fetch> fetch;
    std::uint64_t size_bytes = 0;
  };

  /// The next read of a fetch, and where it stands behind that.
  struct Gathered {
    std::array<fabric_abi::Piece, kPiecesMax> pieces;
    std::size_t count = 0;
    std::uint64_t size_bytes = 0;
    std::size_t part = 0;
    std::uint64_t begun_bytes = 0;      // of that part
    const Descriptor* stale = nullptr;  // this one's windows are not open: nothing is begun
  };

  Gathered Gather(const Fetch& fetch) const;
  static void Ended(void* self, bool succeeded);
  static void EnterLane(Fetch& fetch);
  static void LeaveLane(Fetch& fetch);
  /// False: its turn is over, nothing more can be begun now.
  bool BeginOne(const std::shared_ptr<Fetch>& fetch);

  Fabric& fabric_;
  std::deque<std::shared_ptr<Fetch>> turns_;
  std::vector<std::shared_ptr<Fetch>> over_;
  std::uint32_t running_ = 0;
  std::uint64_t running_bytes_ = 0;
};

}  // namespace pixii::transport
