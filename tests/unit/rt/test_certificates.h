// Keys and certificates made for one test, in a folder that goes with it.
#pragma once

#include <memory>
#include <string>

#include "rt/tls.h"

namespace pixii::rt {

/// An authority of the test's own, and what it signs.
class TestAuthority final {
 public:
  explicit TestAuthority(const std::string& name = "test authority");
  ~TestAuthority();

  /// PEM file with the authority's certificate.
  const std::string& file() const { return file_; }

  /// A certificate for the host `name` (or numeric address) and its key, as files.
  TlsFiles Sign(const std::string& name);

 private:
  struct Parts;

  std::string Write(const std::string& name, const std::string& pem) const;

  std::unique_ptr<Parts> parts_;
  std::string folder_;
  std::string file_;
  int signed_count_ = 0;
};

}  // namespace pixii::rt
