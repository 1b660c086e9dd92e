#include "unit/rt/test_certificates.h"

#include <gtest/gtest.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

namespace pixii::rt {

struct TestAuthority::Parts {
  EVP_PKEY* key = nullptr;
  X509* certificate = nullptr;

  ~Parts() {
    EVP_PKEY_free(key);
    X509_free(certificate);
  }
};

namespace {

void AddExtension(X509* certificate, X509* issuer, int id, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, id, value.c_str());
  EXPECT_NE(extension, nullptr) << value;
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

X509* MakeCertificate(const std::string& name, long serial, EVP_PKEY* key, X509* issuer,
                      EVP_PKEY* issuer_key) {
  X509* out = X509_new();
  X509_set_version(out, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(out), serial);
  X509_gmtime_adj(X509_getm_notBefore(out), -3600);
  X509_gmtime_adj(X509_getm_notAfter(out), 3600);
  X509_set_pubkey(out, key);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(out), "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  X509* signer = issuer != nullptr ? issuer : out;
  X509_set_issuer_name(out, X509_get_subject_name(signer));
  if (issuer == nullptr) {
    AddExtension(out, signer, NID_basic_constraints, "critical,CA:TRUE");
  } else {
    const bool numeric = name.find_first_not_of("0123456789.:") == std::string::npos;
    AddExtension(out, signer, NID_subject_alt_name, (numeric ? "IP:" : "DNS:") + name);
  }
  X509_sign(out, issuer_key, EVP_sha256());
  return out;
}

template <class Writer>
std::string ToPem(Writer&& write) {
  BIO* bio = BIO_new(BIO_s_mem());
  write(bio);
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  std::string out(data, static_cast<std::size_t>(size));
  BIO_free(bio);
  return out;
}

}  // namespace

TestAuthority::TestAuthority(const std::string& common_name) : parts_(std::make_unique<Parts>()) {
  std::string name = (std::filesystem::temp_directory_path() / "pixii-tls-XXXXXX").string();
  EXPECT_NE(::mkdtemp(name.data()), nullptr);
  folder_ = name;
  parts_->key = EVP_EC_gen("P-256");
  parts_->certificate = MakeCertificate(common_name, 1, parts_->key, nullptr, parts_->key);
  file_ = Write("authority.pem",
                ToPem([&](BIO* bio) { PEM_write_bio_X509(bio, parts_->certificate); }));
}

TestAuthority::~TestAuthority() { std::filesystem::remove_all(folder_); }

std::string TestAuthority::Write(const std::string& name, const std::string& pem) const {
  std::string path = folder_ + "/" + name;
  std::ofstream(path) << pem;
  return path;
}

TlsFiles TestAuthority::Sign(const std::string& name) {
  const int number = ++signed_count_;
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* certificate = MakeCertificate(name, 1 + number, key, parts_->certificate, parts_->key);
  TlsFiles out;
  out.certificate = Write(std::to_string(number) + ".pem",
                          ToPem([&](BIO* bio) { PEM_write_bio_X509(bio, certificate); }));
  out.key = Write(std::to_string(number) + ".key", ToPem([&](BIO* bio) {
                    PEM_write_bio_PrivateKey(bio, key, nullptr, nullptr, 0, nullptr, nullptr);
                  }));
  X509_free(certificate);
  EVP_PKEY_free(key);
  return out;
}

}  // namespace pixii::rt
