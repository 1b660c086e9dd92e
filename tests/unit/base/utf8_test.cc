#include "base/utf8.h"

#include <gtest/gtest.h>

namespace pixii {
namespace {

// The oracle is arithmetic: every code point encodes to bytes that decode to it, and no other byte
// strings pass.
TEST(Utf8, EveryScalarValueRoundTrips) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) {
      continue;
    }
    std::string bytes;
    AppendUtf8(bytes, c);
    ASSERT_EQ(Utf8SequenceLength(bytes), bytes.size()) << static_cast<unsigned>(c);
    ASSERT_EQ(DecodeUtf8(bytes), c);
    for (std::size_t cut = 1; cut < bytes.size(); ++cut) {
      ASSERT_EQ(Utf8IncompleteTail(bytes.substr(0, cut)), cut);
      ASSERT_FALSE(IsValidUtf8(bytes.substr(0, cut)));
    }
    ASSERT_EQ(Utf8IncompleteTail(bytes), 0U);
  }
}

TEST(Utf8, RefusesSurrogatesOverlongFormsAndValuesPastTheLast) {
  for (const char* bad :
       {"\xED\xA0\x80", "\xED\xBF\xBF", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xF0\x8F\xBF\xBF",
        "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\x80", "\xFF", "a\xC3("}) {
    EXPECT_FALSE(IsValidUtf8(bad)) << bad;
  }
  EXPECT_EQ(Utf8IncompleteTail("\xED\xA0"), 0U);
  EXPECT_EQ(Utf8IncompleteTail("x\xF0\x9F\x98"), 3U);
}

}  // namespace
}  // namespace pixii
