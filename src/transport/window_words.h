// The words of the windows that a read through a fabric has touched: fetched after the bytes, they
// say whether these may be believed.
//
// Thread: a value; the fetch writes into it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "transport/fetch.h"
#include "transport/link.h"

namespace pixii::transport {

class WindowWords final {
 public:
  /// `parts`: of the fetch of the bytes, one for each pair. `pairs` outlive it.
  WindowWords(std::span<const Pair> pairs, std::span<const Fetch::Part> parts);
  WindowWords(const WindowWords&) = delete;
  WindowWords& operator=(const WindowWords&) = delete;

  /// What is to be fetched: words that lie near each other at a time.
  std::vector<Fetch::Part> Parts();

  /// Of what was fetched, the first descriptor whose windows are not open for it; null: none.
  const Descriptor* FirstStale() const;

 private:
  struct Run {
    std::shared_ptr<const RemoteRegion> region;
    std::uint64_t first = 0;  // window
    std::uint64_t count = 0;
    std::size_t at = 0;  // in words_
  };

  std::span<const Pair> pairs_;
  std::vector<Run> runs_;  // by region and window
  std::vector<std::uint64_t> words_;
};

}  // namespace pixii::transport
