// Contents in the form of chat completions, and where the pictures in them were written.
#include "frontend/chat_content.h"

#include <gtest/gtest.h>

#include <vector>

namespace pixii::frontend {
namespace {

TEST(ChatContent, IsTextWithoutPicturesAndPartsWithThem) {
  std::vector<ShownPicture> shown;
  EXPECT_EQ(ChatContent().Take(0, shown).Dump(), R"("")");
  ChatContent text;
  text.AddText("a", "\n");
  text.AddText("b", "\n");
  EXPECT_FALSE(text.empty());
  EXPECT_EQ(text.Take(0, shown).Dump(), R"("a\nb")");
  EXPECT_TRUE(shown.empty());

  ChatContent both;
  both.AddText("a", "\n");
  both.AddImage("u", wire::Json("low"), {.part = "p", .url = "p.u", .detail = "p.d"});
  both.AddText("b", "\n");
  both.AddText("c");
  EXPECT_EQ(both.Take(4, shown).Dump(),
            R"([{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"u",)"
            R"("detail":"low"}},{"type":"text","text":"bc"}])");
  ASSERT_EQ(shown.size(), 1U);
  EXPECT_EQ(shown[0].message, 4U);
  EXPECT_EQ(shown[0].part, 1U);
}

TEST(PictureNames, KnowWhereEachPictureWasWritten) {
  const std::vector<ShownPicture> shown = {
      {.message = 1, .part = 0, .fields = {.part = "a", .url = "a.u", .detail = "a.d"}},
      {.message = 11, .part = 2, .fields = {.part = "b", .url = "b.u", .detail = "b.d"}}};
  const FieldNames names = PictureNames(FieldNames({{"messages", "input"}}), shown, 1);
  EXPECT_EQ(names.Of("messages[2].content[0].image_url.url"), "a.u");
  EXPECT_EQ(names.Of("messages[12].content[2].image_url.detail"), "b.d");
  EXPECT_EQ(names.Of("messages[12].content[2]"), "b");
  EXPECT_EQ(names.Of("messages[1].content[0].image_url.url"), "input[1].content[0].image_url.url");
}

}  // namespace
}  // namespace pixii::frontend
