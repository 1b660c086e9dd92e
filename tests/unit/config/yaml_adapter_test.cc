#include "config/yaml_adapter.h"

#include <gtest/gtest.h>

namespace pixii::config {
namespace {

TEST(Yaml, ReadsTheTopLevelAndItsOwnSection) {
  auto entries =
      ReadYaml("port: 9\nserve:\n  host: ::1\nworker:\n  host: other\n", "f.yaml", "serve");
  ASSERT_TRUE(entries) << entries.error().ToString();
  ASSERT_EQ(entries->size(), 2U);
  EXPECT_EQ((*entries)[1].key, "host");
  EXPECT_EQ((*entries)[1].value, "::1");
  EXPECT_EQ((*entries)[1].line, 3U);
}

TEST(Yaml, RefusesWhatIsNoFlatMappingAndNamesTheLine) {
  for (const char* text :
       {"- a\n- b\n", "port: [1, 2]\n", "port: 1\nport: 2\n", "a: b: c\n", "? [a]\n: 1\n"}) {
    auto entries = ReadYaml(text, "f.yaml", "serve");
    ASSERT_FALSE(entries) << text;
    EXPECT_NE(entries.error().detail().find("f.yaml"), std::string::npos)
        << entries.error().detail();
  }
}

}  // namespace
}  // namespace pixii::config
