// SHA-256 and SHA-1 of byte streams, by OpenSSL. SHA-1 only names files as git does; it proves
// nothing.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace pixii {

class Digest final {
 public:
  enum class Kind { kSha256, kSha1 };

  explicit Digest(Kind kind);
  Digest(Digest&&) noexcept;
  Digest& operator=(Digest&&) noexcept;
  ~Digest();

  void Update(std::string_view bytes);
  /// The digest of everything updated, as bytes. Pre: one of these is called, once, last.
  std::string FinishBytes();
  /// As lower-case hexadecimal digits.
  std::string FinishHex();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string Sha256Hex(std::string_view bytes);

}  // namespace pixii
