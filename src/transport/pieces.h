// The memory of one side of a transfer, as one row of bytes that is read or written front to back.
//
// Thread: one loop. Memory that has windows is only touched under a lane and after a look at them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "transport/agent.h"
#include "transport/region_table.h"

namespace pixii::transport {

class Pieces final {
 public:
  struct Cursor {
    std::size_t piece = 0;
    std::uint64_t offset = 0;  // bytes of it
  };

  /// Memory that its owner keeps for the transfer.
  void AddOwn(std::byte* data, std::uint64_t size_bytes);
  /// Memory that may be closed at any time. Pre: the descriptor lies in the region.
  void AddWindow(std::shared_ptr<const Region> region, const Descriptor& descriptor);

  std::uint64_t size_bytes() const { return size_bytes_; }

  /// Appends the next bytes at `cursor` to `out`, at most `size` of them in `parts_max` parts, and
  /// moves it behind them. Returns how many.
  std::uint64_t Next(Cursor& cursor, std::uint64_t size, std::size_t parts_max,
                     std::vector<std::span<std::byte>>& out) const;

  /// Whether all windows of `size` bytes at `cursor` are open.
  bool Open(Cursor cursor, std::uint64_t size, Access access) const;

 private:
  struct Piece {
    std::byte* data = nullptr;
    std::uint64_t size_bytes = 0;
    std::shared_ptr<const Region> region;  // null: own
    Descriptor descriptor;
  };

  std::vector<Piece> pieces_;
  std::uint64_t size_bytes_ = 0;
};

}  // namespace pixii::transport
