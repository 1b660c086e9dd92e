// XXH3-64 of bytes that lie in pieces: the same value as Hash64 of all of them in a row.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace pixii {

class StreamHash64 final {
 public:
  StreamHash64();
  ~StreamHash64();
  StreamHash64(const StreamHash64&) = delete;
  StreamHash64& operator=(const StreamHash64&) = delete;

  void Reset(std::uint64_t seed);
  void Update(std::span<const std::byte> bytes);
  /// Of everything since Reset; more may follow.
  std::uint64_t Value() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pixii
