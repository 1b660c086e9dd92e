#include "obs/log.h"

#include <gtest/gtest.h>

#include <vector>

namespace pixii::obs {
namespace {

struct Fixture {
  rt::WallTime now{.unix_seconds = 1'700'000'000, .nanoseconds = 5000};
  std::vector<std::string> lines;
  Log log;

  explicit Fixture(LogOptions options)
      : log(
            options, [this] { return now; },
            [this](Severity, std::string_view line) { lines.emplace_back(line); }) {}
};

TEST(Log, WritesLogfmtAndJson) {
  Fixture text({.severity_min = Severity::kInfo, .format = LogFormat::kLogfmt});
  Event(text.log, EventId::kServeReady)
      .kv("port", 8000)
      .kv("what", "two words")
      .kv("ok", true)
      .kv("share", 0.5);
  ASSERT_EQ(text.lines.size(), 1U);
  EXPECT_EQ(text.lines[0],
            "time=2023-11-14T22:13:20.000005Z severity=info event=serve.ready port=8000 what=\"two "
            "words\" ok=true share=0.5\n");
  Fixture json({.severity_min = Severity::kInfo, .format = LogFormat::kJson});
  Event(json.log, EventId::kServeReady).kv("s", "a\"\n\x01");
  EXPECT_EQ(json.lines[0],
            "{\"time\":\"2023-11-14T22:13:20.000005Z\",\"severity\":\"info\",\"event\":\"serve."
            "ready\",\"s\":\"a\\\"\\n\\u0001\"}\n");
}

TEST(Log, DropsPastTheLimitAndSaysHowManyInTheNextSecond) {
  Fixture f({.severity_min = Severity::kInfo, .format = LogFormat::kLogfmt});
  for (int i = 0; i < 25; ++i) {
    Event(f.log, EventId::kRequestFailed).kv("i", i);
  }
  EXPECT_EQ(f.lines.size(), 10U);
  f.now.unix_seconds += 1;
  Event(f.log, EventId::kRequestFailed).kv("i", 99);
  EXPECT_NE(f.lines.back().find("dropped_before=15"), std::string::npos) << f.lines.back();
}

TEST(Log, CountsErrorsEvenWhenSilent) {
  Fixture f({.severity_min = Severity::kOff, .format = LogFormat::kLogfmt});
  Event(f.log, EventId::kBug).kv("x", 1);
  Event(f.log, EventId::kRequestFailed).kv("x", 1);
  EXPECT_TRUE(f.lines.empty());
  EXPECT_EQ(f.log.error_count(), 1U);
}

}  // namespace
}  // namespace pixii::obs
