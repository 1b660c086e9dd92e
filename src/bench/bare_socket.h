// What a TCP connection of this host carries if nothing is added: the floor that transfers are
// measured beside, so the system is called directly here.
//
// Thread: one, and one of its own while it measures.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"

namespace pixii::bench {

class BareSocket final {
 public:
  /// A connection to ourselves over loopback.
  static Result<BareSocket> Connect();

  BareSocket(BareSocket&&) noexcept;
  BareSocket& operator=(BareSocket&&) noexcept;
  ~BareSocket();

  /// Seconds that `count` messages take from the one buffer to the other, of their size.
  Result<double> Stream(std::span<const std::byte> from, std::span<std::byte> to,
                        std::uint64_t count);

 private:
  struct Ends;

  explicit BareSocket(std::unique_ptr<Ends> ends);

  std::unique_ptr<Ends> ends_;
};

}  // namespace pixii::bench
