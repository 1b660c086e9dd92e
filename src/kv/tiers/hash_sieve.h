// Hashes that were put in and, by mistake, a few others: a set whose memory does not grow.
//
// Thread: one owner.
// Source: B. H. Bloom, "Space/time trade-offs in hash coding with allowable errors", 1970.
#pragma once

#include <cstdint>
#include <vector>

#include "base/hash.h"

namespace pixii::kv {

/// Nothing is ever forgotten. Of 100,000 put in one of a million others is taken for one of them,
/// of a million one of 40.
class HashSieve final {
 public:
  void Insert(const Hash128& hash) {
    words_.resize(kBits / 64);
    for (std::uint64_t probe = 0; probe < kProbes; ++probe) {
      const std::uint64_t bit = BitOf(hash, probe);
      words_[bit / 64] |= std::uint64_t{1} << (bit % 64);
    }
  }

  bool contains(const Hash128& hash) const {
    for (std::uint64_t probe = 0; probe < kProbes; ++probe) {
      const std::uint64_t bit = BitOf(hash, probe);
      if (words_.empty() || (words_[bit / 64] >> (bit % 64) & 1U) == 0) {
        return false;
      }
    }
    return true;
  }

 private:
  static constexpr std::uint64_t kBits = std::uint64_t{1} << 23;  // 1 MiB
  static constexpr std::uint64_t kProbes = 4;

  static std::uint64_t BitOf(const Hash128& hash, std::uint64_t probe) {
    return (hash.low + probe * (hash.high | 1U)) % kBits;
  }

  std::vector<std::uint64_t> words_;  // none until something is put in
};

}  // namespace pixii::kv
