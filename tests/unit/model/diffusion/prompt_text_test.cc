#include "model/diffusion/prompt_text.h"

#include <gtest/gtest.h>

namespace pixii::model {
namespace {

TEST(CleanPrompt, MakesWhiteSpaceSingleBlanks) {
  EXPECT_EQ(CleanPrompt("  a red\t\n circle \u00A0moves\u3000left  "), "a red circle moves left");
  EXPECT_EQ(CleanPrompt(""), "");
  EXPECT_EQ(CleanPrompt(" \n "), "");
}

TEST(CleanPrompt, ReplacesCharacterReferencesTwice) {
  EXPECT_EQ(CleanPrompt("a &lt; b &amp;&#38; c"), "a < b && c");
  EXPECT_EQ(CleanPrompt("&amp;lt;"), "<");
  EXPECT_EQ(CleanPrompt("&amp;amp;lt;"), "&lt;");  // but not three times
  EXPECT_EQ(CleanPrompt("&#xE9;&#233;&quot;&apos;"), "\u00E9\u00E9\"'");
}

TEST(CleanPrompt, LeavesWhatIsNoReference) {
  EXPECT_EQ(CleanPrompt("salt & pepper; &unknown; &#; &#x; &"),
            "salt & pepper; &unknown; &#; &#x; &");
  EXPECT_EQ(CleanPrompt("&#xD800;&#0;&#x110000;"), "\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(CleanPrompt("\xFF\xC3"), "\xFF\xC3");
}

}  // namespace
}  // namespace pixii::model
