#include "base/digest.h"

#include <openssl/evp.h>

#include "base/assert.h"

namespace pixii {

struct Digest::State {
  struct Free {
    void operator()(EVP_MD_CTX* old) const { EVP_MD_CTX_free(old); }
  };

  std::unique_ptr<EVP_MD_CTX, Free> context{EVP_MD_CTX_new()};
};

Digest::Digest(Kind kind) : state_(std::make_unique<State>()) {
  // Fetched once: looking for it takes longer than the digest of a name.
  static const EVP_MD* const sha256 = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  static const EVP_MD* const sha1 = EVP_MD_fetch(nullptr, "SHA1", nullptr);
  const EVP_MD* algorithm = kind == Kind::kSha256 ? sha256 : sha1;
  PX_ASSERT(EVP_DigestInit_ex(state_->context.get(), algorithm, nullptr) == 1);
}

Digest::Digest(Digest&&) noexcept = default;
Digest& Digest::operator=(Digest&&) noexcept = default;
Digest::~Digest() = default;

void Digest::Update(std::string_view bytes) {
  PX_ASSERT(EVP_DigestUpdate(state_->context.get(), bytes.data(), bytes.size()) == 1);
}

std::string Digest::FinishBytes() {
  unsigned char raw[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  PX_ASSERT(EVP_DigestFinal_ex(state_->context.get(), raw, &size) == 1);
  return {reinterpret_cast<const char*>(raw), size};
}

std::string Digest::FinishHex() {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (const char byte : FinishBytes()) {
    const auto bits = static_cast<unsigned char>(byte);
    out += kHex[bits >> 4];
    out += kHex[bits & 15];
  }
  return out;
}

std::string Sha256Hex(std::string_view bytes) {
  Digest digest(Digest::Kind::kSha256);
  digest.Update(bytes);
  return digest.FinishHex();
}

}  // namespace pixii
