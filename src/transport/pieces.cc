#include "transport/pieces.h"

#include <algorithm>
#include <utility>

namespace pixii::transport {

void Pieces::AddOwn(std::byte* data, std::uint64_t size_bytes) {
  pieces_.push_back({.data = data, .size_bytes = size_bytes, .region = nullptr, .descriptor = {}});
  size_bytes_ += size_bytes;
}

void Pieces::AddWindow(std::shared_ptr<const Region> region, const Descriptor& descriptor) {
  std::byte* data = region->view().memory.data() + descriptor.offset;
  pieces_.push_back({.data = data,
                     .size_bytes = descriptor.size_bytes,
                     .region = std::move(region),
                     .descriptor = descriptor});
  size_bytes_ += descriptor.size_bytes;
}

std::uint64_t Pieces::Next(Cursor& cursor, std::uint64_t size, std::size_t parts_max,
                           std::vector<std::span<std::byte>>& out) const {
  std::uint64_t sum = 0;
  while (sum < size && parts_max > 0 && cursor.piece < pieces_.size()) {
    const Piece& piece = pieces_[cursor.piece];
    const std::uint64_t count = std::min(size - sum, piece.size_bytes - cursor.offset);
    out.emplace_back(piece.data + cursor.offset, count);
    --parts_max;
    sum += count;
    cursor.offset += count;
    if (cursor.offset == piece.size_bytes) {
      ++cursor.piece;
      cursor.offset = 0;
    }
  }
  return sum;
}

bool Pieces::Open(Cursor cursor, std::uint64_t size, Access access) const {
  while (size > 0 && cursor.piece < pieces_.size()) {
    const Piece& piece = pieces_[cursor.piece];
    const std::uint64_t count = std::min(size, piece.size_bytes - cursor.offset);
    if (piece.region != nullptr && !IsOpen(piece.region->view(),
                                           {.region = piece.descriptor.region,
                                            .offset = piece.descriptor.offset + cursor.offset,
                                            .size_bytes = count,
                                            .generation = piece.descriptor.generation},
                                           access)) {
      return false;
    }
    size -= count;
    ++cursor.piece;
    cursor.offset = 0;
  }
  return true;
}

}  // namespace pixii::transport
