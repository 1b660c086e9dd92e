#include "base/seal.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <memory>
#include <string>

#include "base/assert.h"

namespace pixii {

namespace {

struct CipherFree {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};

using Cipher = std::unique_ptr<EVP_CIPHER_CTX, CipherFree>;

std::array<unsigned char, 32> Hmac(std::string_view key, std::string_view text) {
  std::array<unsigned char, 32> out{};
  unsigned size = 0;
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
       reinterpret_cast<const unsigned char*>(text.data()), text.size(), out.data(), &size);
  PX_ASSERT(size == out.size());
  return out;
}

unsigned char* Raw(std::span<std::byte> bytes) {
  return reinterpret_cast<unsigned char*>(bytes.data());
}

const unsigned char* Raw(std::span<const std::byte> bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}

}  // namespace

// One block of output is enough: extract, then expand once.
SealKey::SealKey(std::string_view secret, std::string_view purpose) {
  const auto extracted = Hmac(std::string_view("pixii seal"), secret);
  key_ = Hmac({reinterpret_cast<const char*>(extracted.data()), extracted.size()},
              std::string(purpose) + '\1');
}

SealTag SealKey::Seal(const SealNonce& nonce, std::span<const std::byte> context,
                      std::span<std::byte> bytes) const {
  const Cipher cipher(EVP_CIPHER_CTX_new());
  int size = 0;
  SealTag tag;
  bool good = EVP_EncryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, key_.data(),
                                 Raw(std::span<const std::byte>(nonce))) == 1;
  good = good && EVP_EncryptUpdate(cipher.get(), nullptr, &size, Raw(context),
                                   static_cast<int>(context.size())) == 1;
  good = good && EVP_EncryptUpdate(cipher.get(), Raw(bytes), &size, Raw(bytes),
                                   static_cast<int>(bytes.size())) == 1;
  good = good && EVP_EncryptFinal_ex(cipher.get(), Raw(bytes) + size, &size) == 1;
  good = good && EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_GET_TAG,
                                     static_cast<int>(tag.size()), tag.data()) == 1;
  PX_ASSERT(good);
  return tag;
}

bool SealKey::Open(const SealNonce& nonce, std::span<const std::byte> context, const SealTag& tag,
                   std::span<std::byte> bytes) const {
  const Cipher cipher(EVP_CIPHER_CTX_new());
  int size = 0;
  SealTag wanted = tag;
  return EVP_DecryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, key_.data(),
                            Raw(std::span<const std::byte>(nonce))) == 1 &&
         EVP_DecryptUpdate(cipher.get(), nullptr, &size, Raw(context),
                           static_cast<int>(context.size())) == 1 &&
         EVP_DecryptUpdate(cipher.get(), Raw(bytes), &size, Raw(bytes),
                           static_cast<int>(bytes.size())) == 1 &&
         EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_SET_TAG, static_cast<int>(wanted.size()),
                             wanted.data()) == 1 &&
         EVP_DecryptFinal_ex(cipher.get(), Raw(bytes) + size, &size) == 1;
}

}  // namespace pixii
