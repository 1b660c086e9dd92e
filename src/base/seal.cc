#include "base/seal.h"

#include <openssl/evp.h>

#include <memory>
#include <string>

#include "base/assert.h"
#include "base/mac.h"

namespace pixii {

namespace {

struct CipherFree {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};

using Cipher = std::unique_ptr<EVP_CIPHER_CTX, CipherFree>;

unsigned char* Raw(std::span<std::byte> bytes) {
  return reinterpret_cast<unsigned char*>(bytes.data());
}

const unsigned char* Raw(std::span<const std::byte> bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}

}  // namespace

// One block of output is enough: extract, then expand once.
SealKey::SealKey(std::string_view secret, std::string_view purpose) {
  const Mac extracted =
      HmacSha256(std::as_bytes(std::span(std::string_view("pixii seal"))), secret);
  key_ = HmacSha256(extracted, std::string(purpose) + '\1');
}

SealTag SealKey::Seal(const SealNonce& nonce, std::span<const std::byte> context,
                      std::span<std::byte> bytes) const {
  const Cipher cipher(EVP_CIPHER_CTX_new());
  int size = 0;
  SealTag tag;
  bool good = EVP_EncryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr,
                                 Raw(std::span<const std::byte>(key_)),
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
  return EVP_DecryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr,
                            Raw(std::span<const std::byte>(key_)),
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
