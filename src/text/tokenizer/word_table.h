// Words by their bytes: which of them are one token.
//
// Thread: built by one thread, then immutable.
// Layout: words of up to 15 bytes stand in their slot, with their length in the last byte; longer
// ones in a table of hashes beside their text.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "text/tokenizer/vocabulary.h"

namespace pixii::text {

class WordTable final {
 public:
  static constexpr std::size_t kShortBytesMax = 15;  // of a word that stands in its slot

  WordTable() { Reserve(0); }

  /// Makes room for `words`; drops what is there.
  void Reserve(std::size_t words);
  /// Of equal words the first counts. Pre: room was reserved; `word` is not empty.
  void Add(std::string_view word, TokenId id);

  /// -1 if the word is not there. Pre: memory from `word` to `readable_end` may be read.
  TokenId Find(const char* word, std::size_t size, const char* readable_end) const {
    if (size > kShortBytesMax) {
      return size > longest_ ? -1 : FindLong({word, size});
    }
    const Key key = KeyOf(word, size, readable_end);
    for (std::uint64_t slot = Hash(key) >> shift_;; slot = (slot + 1) & mask_) {
      if (slots_[slot].key == key) {
        return slots_[slot].id;
      }
      if (slots_[slot].id < 0) {
        return -1;
      }
    }
  }

  template <class Test>
  bool HoldsAny(Test test) const {
    for (const Slot& slot : slots_) {
      if (slot.id >= 0 && test(slot.id)) {
        return true;
      }
    }
    for (TokenId id = 0; id < static_cast<TokenId>(long_ids_.size()); ++id) {
      if (test(long_ids_[static_cast<std::size_t>(id)])) {
        return true;
      }
    }
    return false;
  }

 private:
  // The bytes, zeros, and the length in the last byte.
  struct Key {
    std::uint64_t low = 0;
    std::uint64_t high = 0;

    friend bool operator==(const Key&, const Key&) = default;
  };

  struct Slot {
    Key key;
    TokenId id = -1;
  };

  static_assert(std::endian::native == std::endian::little);

  static std::uint64_t FirstBytes(std::uint64_t value, std::size_t count) {
    return value & ((std::uint64_t{1} << (8 * count)) - 1);
  }

  static Key KeyOf(const char* word, std::size_t size, const char* readable_end) {
    Key key;
    if (readable_end - word >= 16) {
      std::memcpy(&key.low, word, 8);
      std::memcpy(&key.high, word + 8, 8);
    } else {
      char bytes[16] = {};
      std::memcpy(bytes, word, size);
      std::memcpy(&key.low, bytes, 8);
      std::memcpy(&key.high, bytes + 8, 8);
    }
    if (size < 8) {
      key.low = FirstBytes(key.low, size);
      key.high = 0;
    } else {
      key.high = FirstBytes(key.high, size - 8);
    }
    key.high |= static_cast<std::uint64_t>(size) << 56;
    return key;
  }

  static std::uint64_t Hash(const Key& key) {
    std::uint64_t x = (key.low ^ (key.low >> 32)) * 0x9E3779B97F4A7C15;
    x ^= key.high * 0xD6E8FEB86659FD93;
    x ^= x >> 32;
    return x * 0x9E3779B97F4A7C15;
  }

  TokenId FindLong(std::string_view word) const;

  std::vector<Slot> slots_;  // a power of two, at most half full
  std::uint64_t mask_ = 0;
  unsigned shift_ = 63;
  std::size_t longest_ = 0;  // bytes of the longest word
  Vocabulary long_words_;    // index into long_ids_
  std::vector<TokenId> long_ids_;
};

}  // namespace pixii::text
