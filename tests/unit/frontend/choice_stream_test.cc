// Case 20 of the field report, and what else a choice must get right on its way to
// text.
#include "frontend/choice_stream.h"

#include <gtest/gtest.h>

#include "unit/frontend/fake_text.h"

namespace pixii::frontend {
namespace {

using testing::FakeText;

ChoiceOptions Options(std::vector<std::string> stops = {}) {
  ChoiceOptions out;
  out.stops = std::move(stops);
  if (!out.stops.empty()) {
    auto matcher = text::StopMatcher::Create(out.stops);
    EXPECT_TRUE(matcher);
    out.matcher = std::move(*matcher);
  }
  return out;
}

wire::TokenFrame Frame(std::string_view bytes) {
  wire::TokenFrame out;
  for (char c : bytes) {
    out.tokens.push_back(static_cast<unsigned char>(c));
  }
  return out;
}

wire::TokenFrame End(wire::FinishReason reason) {
  wire::TokenFrame out;
  out.finish = reason;
  return out;
}

struct Seen {
  std::vector<std::string> pieces;
  std::string text;
  std::vector<TokenId> tokens;
  std::optional<ChoiceFinish> finish;
  bool cancelled = false;
  std::uint32_t generated = 0;
};

Seen Decode(const ChoiceOptions& options, std::vector<wire::TokenFrame> frames) {
  FakeText text;
  ChoiceStream stream(options, &text, {});
  ChoiceDelta delta;
  Seen out;
  for (wire::TokenFrame& frame : frames) {
    delta.Clear();
    EXPECT_FALSE(stream.Push(frame, delta));
    if (!delta.text.empty()) {
      out.pieces.push_back(delta.text);
    }
    out.text += delta.text;
    out.tokens.insert(out.tokens.end(), delta.tokens.begin(), delta.tokens.end());
    out.cancelled = out.cancelled || delta.cancel_upstream;
    if (delta.finish) {
      EXPECT_FALSE(out.finish) << "ended twice";
      out.finish = delta.finish;
    }
  }
  out.generated = stream.generated();
  return out;
}

std::vector<wire::TokenFrame> Each(std::string_view bytes) {
  std::vector<wire::TokenFrame> out;
  for (char c : bytes) {
    out.push_back(Frame({&c, 1}));
  }
  return out;
}

std::vector<wire::TokenFrame> Closed(std::vector<wire::TokenFrame> frames) {
  frames.push_back(End(wire::FinishReason::kLength));
  return frames;
}

TEST(ChoiceStream, Case20GivesWholeCharactersOnly) {
  for (std::string_view text :
       {"\uC0BC\uACB9\uC0B4", "\U0001F600", "\U0001F468\u200D\U0001F469\u200D\U0001F467"}) {
    Seen seen = Decode(Options(), Closed(Each(text)));
    EXPECT_EQ(seen.text, text);
    for (const std::string& piece : seen.pieces) {
      EXPECT_TRUE(IsValidUtf8(piece));
      EXPECT_EQ(piece.find("\uFFFD"), std::string::npos);
    }
  }
}

TEST(ChoiceStream, Case20ShowsABrokenEndOnce) {
  EXPECT_EQ(Decode(Options(), Closed(Each("a\xF0\x9F\x98"))).text.substr(0, 1), "a");
  EXPECT_TRUE(IsValidUtf8(Decode(Options(), Closed(Each("a\xF0\x9F\x98"))).text));
  EXPECT_EQ(Decode(Options(), Closed(Each("a\x80z"))).text, "a\uFFFDz");
}

TEST(ChoiceStream, Case20FindsStopStringsAcrossTokens) {
  std::vector<wire::TokenFrame> split;
  split.push_back(Frame("one E"));
  split.push_back(Frame("ND two"));
  Seen seen = Decode(Options({"END"}), std::move(split));
  EXPECT_EQ(seen.text, "one ");
  ASSERT_TRUE(seen.finish);
  EXPECT_EQ(seen.finish->kind, FinishKind::kStop);
  EXPECT_EQ(std::get<std::string>(seen.finish->stop_reason), "END");
  EXPECT_TRUE(seen.cancelled);

  std::vector<wire::TokenFrame> inside;
  inside.push_back(Frame("xEN"));
  inside.push_back(Frame("Dy"));
  EXPECT_EQ(Decode(Options({"END"}), std::move(inside)).text, "x");
}

TEST(ChoiceStream, Case20FlushesHeldTextAtTheEnd) {
  Seen seen = Decode(Options({"END"}), Closed(Each("all EN")));
  EXPECT_EQ(seen.text, "all EN");
  ASSERT_TRUE(seen.finish);
  EXPECT_EQ(seen.finish->kind, FinishKind::kLength);
  EXPECT_FALSE(seen.cancelled);
}

TEST(ChoiceStream, CountsWhatWasGeneratedUpToTheStopAndNothingBehindIt) {
  auto frames = Each("abEND");
  frames.push_back(Frame("more"));
  frames.push_back(End(wire::FinishReason::kCancelled));
  Seen seen = Decode(Options({"END"}), std::move(frames));
  EXPECT_EQ(seen.text, "ab");
  EXPECT_EQ(seen.generated, 5U);
}

TEST(ChoiceStream, KeepsTheStopStringIfAsked) {
  ChoiceOptions options = Options();
  options.stops = {"END"};
  options.include_stop = true;
  options.matcher = *text::StopMatcher::Create({"END"}, true);
  EXPECT_EQ(Decode(options, Each("abENDcd")).text, "abEND");
}

TEST(ChoiceStream, StopStringsWaitForMinTokens) {
  ChoiceOptions options = Options({"b"});
  options.min_tokens = 3;
  EXPECT_EQ(Decode(options, Each("abcabc")).text, "abca");
}

TEST(ChoiceStream, ReleasesTokensWithTheirText) {
  ChoiceOptions options = Options({"END"});
  options.wants_tokens = true;
  std::vector<wire::TokenFrame> frames;
  for (std::string_view piece : {"a", "E", "N", "x", "E", "N", "D"}) {
    frames.push_back(Frame(piece));
    frames.back().logprobs.push_back({-1.5F, {}});
  }
  FakeText text;
  ChoiceStream stream(options, &text, {});
  std::vector<std::size_t> released;
  for (wire::TokenFrame& frame : frames) {
    ChoiceDelta delta;
    ASSERT_FALSE(stream.Push(frame, delta));
    EXPECT_EQ(delta.tokens.size(), delta.logprobs.size());
    released.push_back(delta.tokens.size());
  }
  // "E" and "N" wait until "x" shows that they are no stop string; the stop string's own tokens
  // never come out.
  EXPECT_EQ(released, (std::vector<std::size_t>{1, 0, 0, 3, 0, 0, 0}));
}

TEST(ChoiceStream, NamesTheStopTokenOfTheClientButNotTheEndOfSequence) {
  ChoiceOptions options = Options();
  options.stop_token_ids = {65};
  wire::TokenFrame end = End(wire::FinishReason::kStop);
  end.stop_token = 65;
  Seen client = Decode(options, {end});
  EXPECT_EQ(std::get<TokenId>(client.finish->stop_reason), 65);
  end.stop_token = testing::kEos;
  Seen model = Decode(options, {end});
  EXPECT_TRUE(std::holds_alternative<std::monostate>(model.finish->stop_reason));
}

TEST(ChoiceStream, WithoutATokenizerGivesIdsOnly) {
  ChoiceOptions options = Options();
  options.wants_tokens = true;
  ChoiceStream stream(options, nullptr, {});
  ChoiceDelta delta;
  wire::TokenFrame frame = Frame("ab");
  ASSERT_FALSE(stream.Push(frame, delta));
  EXPECT_EQ(delta.tokens, (std::vector<TokenId>{'a', 'b'}));
  EXPECT_EQ(delta.text, "");
}

TEST(ChoiceStream, GivesTheErrorThatEndedIt) {
  FakeText text;
  ChoiceOptions options = Options();
  ChoiceStream stream(options, &text, {});
  wire::TokenFrame frame = End(wire::FinishReason::kError);
  frame.error = Error(Code::kModelFault, "the model threw");
  ChoiceDelta delta;
  auto error = stream.Push(frame, delta);
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), Code::kModelFault);
  EXPECT_TRUE(stream.ended());
}

}  // namespace
}  // namespace pixii::frontend
