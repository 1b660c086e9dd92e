// What a picture's mark in a rendered prompt becomes.
#include "frontend/model_text.h"

#include <gtest/gtest.h>

#include <string>

namespace pixii::frontend {
namespace {

using Ranges = std::vector<text::TextRange>;

TEST(PutForMark, ReplacesWhatTheTemplateWroteAndMovesWhatClientsWrote) {
  text::RenderedPrompt prompt{.text = "<I>user: ask<I>me <I><I> end", .untrusted = {{9, 17}}};
  ASSERT_EQ(prompt.text.substr(9, 8), "ask<I>me");
  prompt.untrusted.push_back({25, 28});
  PutForMark("<I>", "[[<I>]]", prompt);
  EXPECT_EQ(prompt.text, "[[<I>]]user: ask<I>me [[<I>]][[<I>]] end");
  ASSERT_EQ(prompt.untrusted, (Ranges{{13, 21}, {37, 40}}));
  EXPECT_EQ(prompt.text.substr(13, 8), "ask<I>me");
  EXPECT_EQ(prompt.text.substr(37, 3), "end");
}

TEST(PutForMark, AMarkThatIsHalfAClientsIsNone) {
  text::RenderedPrompt prompt{.text = "a<I>b", .untrusted = {{2, 3}}};
  PutForMark("<I>", "x", prompt);
  EXPECT_EQ(prompt.text, "a<I>b");
  EXPECT_EQ(prompt.untrusted, (Ranges{{2, 3}}));
}

TEST(PutForMark, ATextShorterThanTheMarkMovesBack) {
  text::RenderedPrompt prompt{.text = "<I>hello", .untrusted = {{3, 8}}};
  PutForMark("<I>", "", prompt);
  EXPECT_EQ(prompt.text, "hello");
  EXPECT_EQ(prompt.untrusted, (Ranges{{0, 5}}));
  PutForMark("", "x", prompt);
  EXPECT_EQ(prompt.text, "hello");
}

}  // namespace
}  // namespace pixii::frontend
