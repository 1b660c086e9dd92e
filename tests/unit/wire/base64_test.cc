#include "wire/base64.h"

#include <gtest/gtest.h>

#include <string>

namespace pixii::wire {
namespace {

TEST(Base64Test, TheVectorsOfTheStandard) {
  const std::pair<const char*, const char*> vectors[] = {{"", ""},
                                                         {"f", "Zg=="},
                                                         {"fo", "Zm8="},
                                                         {"foo", "Zm9v"},
                                                         {"foob", "Zm9vYg=="},
                                                         {"fooba", "Zm9vYmE="},
                                                         {"foobar", "Zm9vYmFy"}};
  for (const auto& [bytes, text] : vectors) {
    EXPECT_EQ(EncodeBase64(bytes), text);
    EXPECT_EQ(DecodeBase64(text), bytes);
  }
}

TEST(Base64Test, EveryByteComesBack) {
  std::string bytes;
  for (int i = 0; i < 256; ++i) {
    bytes += static_cast<char>(i);
    EXPECT_EQ(DecodeBase64(EncodeBase64(bytes)), bytes);
  }
}

TEST(Base64Test, PaddingMayBeMissingAndOtherAlphabetsAreRefused) {
  EXPECT_EQ(DecodeBase64("Zg"), "f");
  EXPECT_FALSE(DecodeBase64("a-b_"));
  EXPECT_FALSE(DecodeBase64("Zm 9"));
}

}  // namespace
}  // namespace pixii::wire
