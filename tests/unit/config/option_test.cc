#include "config/option.h"

#include <gtest/gtest.h>

namespace pixii::config {
namespace {

struct Case {
  const char* text;
  std::int64_t value;  // -1: refused
};

TEST(Option, SizesTakeSuffixesAndKeepTheirBounds) {
  std::int64_t target = 0;
  Option option{.name = "kv-memory",
                .field = SizeField{&target, {0, std::int64_t{1} << 40}},
                .unit = "",
                .help = "",
                .environment_aliases = {},
                .flag_aliases = {}};
  for (const Case& c :
       {Case{"0", 0}, Case{"24MiB", 24 << 20}, Case{"2GB", 2'000'000'000}, Case{"17", 17},
        Case{"1TiB", std::int64_t{1} << 40}, Case{"2TiB", -1}, Case{"-1", -1}, Case{"MiB", -1},
        Case{"", -1}, Case{"1.5GiB", -1}, Case{"9223372036854775807KiB", -1}}) {
    Result<void> done = Assign(option, c.text);
    EXPECT_EQ(done.has_value(), c.value >= 0) << c.text;
    if (c.value >= 0) {
      EXPECT_EQ(target, c.value) << c.text;
      EXPECT_TRUE(Assign(option, ValueText(option)))
          << "what is printed can be read: " << ValueText(option);
      EXPECT_EQ(target, c.value) << c.text;
    } else {
      EXPECT_NE(done.error().detail().find("kv-memory"), std::string::npos);
      EXPECT_NE(done.error().detail().find("1TiB"), std::string::npos) << done.error().detail();
    }
  }
}

TEST(Option, DurationsTakeUnitsAndAPlainNumberIsSeconds) {
  std::int64_t target = 0;
  Option option{.name = "drain-timeout",
                .field = DurationField{&target, {0, 3'600'000'000'000}},
                .unit = "",
                .help = "",
                .environment_aliases = {},
                .flag_aliases = {}};
  ASSERT_TRUE(Assign(option, "500ms"));
  EXPECT_EQ(target, 500'000'000);
  ASSERT_TRUE(Assign(option, "30"));
  EXPECT_EQ(ValueText(option), "30s");
  EXPECT_FALSE(Assign(option, "2h"));
}

TEST(Option, WordsAreAClosedSet) {
  std::string target = "auto";
  Option option{.name = "dtype",
                .field = WordField{&target, {{"auto", "bf16"}}},
                .unit = "",
                .help = "",
                .environment_aliases = {},
                .flag_aliases = {}};
  EXPECT_TRUE(Assign(option, "bf16"));
  Result<void> bad = Assign(option, "fp8");
  ASSERT_FALSE(bad);
  EXPECT_EQ(target, "bf16");
  EXPECT_EQ(bad.error().detail(), "dtype: \"fp8\" is not allowed; allowed: auto, bf16");
  EXPECT_EQ(Assign(option, "bf61").error().detail(),
            "dtype: \"bf61\" is not allowed; allowed: auto, bf16; did you mean bf16?");
}

}  // namespace
}  // namespace pixii::config
