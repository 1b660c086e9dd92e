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

TEST(YamlTree, ListsOfMappingsAreOneLeafOrEachItsOwn) {
  const std::string text = "a:\n  - {x: 1, y: [2, 3]}\n  - {}\n  - {z: {w: 4}}\nb: [5, {c: 6}]\n";
  const auto whole = ReadYamlTree(text, "f.yaml");
  ASSERT_TRUE(whole) << whole.error().detail();
  ASSERT_EQ(whole->size(), 2U);
  EXPECT_EQ((*whole)[0].items, (std::vector<std::string>{"{}", "{}", "{}"}));
  const auto entries = ReadYamlTree(text, "f.yaml", YamlLists::kEntries);
  ASSERT_TRUE(entries) << entries.error().detail();
  std::vector<std::string> paths;
  for (const YamlLeaf& leaf : *entries) {
    paths.push_back(leaf.path);
  }
  EXPECT_EQ(paths, (std::vector<std::string>{"a.0.x", "a.0.y", "a.1", "a.2.z.w", "b"}));
  EXPECT_EQ((*entries)[3].line, 4U);
  std::string deep = "a: 1";
  for (int i = 0; i < 5; ++i) {
    deep = "a: [{" + deep + "}]";
  }
  EXPECT_FALSE(ReadYamlTree(deep, "f.yaml", YamlLists::kEntries)) << "nested too deep";
}

TEST(YamlDocuments, KeysMayBeAnyTextAndLinesAreKept) {
  const auto read = ReadYamlDocuments(
      "a: {nvidia.com/gpu: \"1\"}\n---\nb:\n  - x\n  - {c: [1, 2]}\nd:\n", "f.yaml");
  ASSERT_TRUE(read) << read.error().detail();
  ASSERT_EQ(read->size(), 2U);
  EXPECT_EQ((*read)[0].Find("a")->Find("nvidia.com/gpu")->value, "1");
  const YamlNode* b = (*read)[1].Find("b");
  ASSERT_EQ(b->items.size(), 2U);
  EXPECT_EQ(b->items[0].line, 4U);
  EXPECT_EQ(b->items[1].Find("c")->items[1].value, "2");
  EXPECT_EQ((*read)[1].Find("d")->kind, YamlKind::kNull);
  EXPECT_EQ((*read)[1].Find("e"), nullptr);
}

TEST(YamlDocuments, KeysThatStandTwiceAndDepthAreRefused) {
  EXPECT_FALSE(ReadYamlDocuments("a: 1\na: 2\n", "f.yaml"));
  EXPECT_FALSE(ReadYamlDocuments("a: [\n", "f.yaml"));
  EXPECT_FALSE(ReadYamlDocuments(std::string(40, '[') + std::string(40, ']'), "f.yaml"));
}

}  // namespace
}  // namespace pixii::config
