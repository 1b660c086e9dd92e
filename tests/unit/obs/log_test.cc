#include "obs/log.h"

#include <gtest/gtest.h>

#include <limits>
#include <set>
#include <string>
#include <vector>

#include "rt/thread.h"

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

TEST(Log, BytesThatAreNoUtf8AndNumbersThatAreNoneKeepTheLineJson) {
  Fixture json({.severity_min = Severity::kInfo, .format = LogFormat::kJson});
  Event(json.log, EventId::kServeReady)
      .kv("s", "\xC3\xA9 \xFF\xC3")
      .kv("x", std::numeric_limits<double>::infinity());
  EXPECT_NE(json.lines[0].find("\"s\":\"\xC3\xA9 \xEF\xBF\xBD\xEF\xBF\xBD\",\"x\":null}"),
            std::string::npos)
      << json.lines[0];
}

TEST(Log, LinesOfManyThreadsStayWhole) {
  Fixture f({.severity_min = Severity::kDebug, .format = LogFormat::kLogfmt});
  {
    std::vector<rt::Thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back("logs", [&f, t] {
        for (int i = 0; i < 200; ++i) {
          Event(f.log, EventId::kRequestEnded).kv("thread", t).kv("i", i);
        }
      });
    }
  }
  EXPECT_EQ(f.lines.size(), 800U);
  for (const std::string& line : f.lines) {
    EXPECT_TRUE(line.starts_with("time=") && line.ends_with("\n")) << line;
  }
}

TEST(Log, EveryEventHasADottedOrPlainNameOfItsOwn) {
  const std::string page = EventsReference();
  std::set<std::string> names;
  for (std::size_t at = page.find("| `"); at != std::string::npos; at = page.find("| `", at + 1)) {
    const std::string name = page.substr(at + 3, page.find('`', at + 3) - at - 3);
    EXPECT_TRUE(names.insert(name).second) << name;
    EXPECT_EQ(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz_."), std::string::npos) << name;
  }
  EXPECT_EQ(names.size(), kEventCount);
}

TEST(Log, TheErrorPageHasEveryCode) {
  const std::string page = ErrorsReference();
  EXPECT_NE(page.find("| InvalidArgument | 400 | no |"), std::string::npos);
  EXPECT_NE(page.find("| ResourceExhausted | 529 | yes |"), std::string::npos);
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

TEST(LogLevels, HoldForTheTargetsThatTheyName) {
  Result<LogOptions> options =
      ParseLogLevels("warn,router=debug,dynamo_llm::kv=trace,serve.ready=info");
  ASSERT_TRUE(options);
  Fixture some(*options);
  EXPECT_TRUE(some.log.enabled(EventId::kRouterDecision));
  EXPECT_FALSE(some.log.enabled(EventId::kRequestEnded));  // debug, of another target
  EXPECT_TRUE(some.log.enabled(EventId::kServeReady));
  EXPECT_FALSE(some.log.enabled(EventId::kServeStarting));
  Event(some.log, EventId::kServeStarting).kv("n", 1);
  Event(some.log, EventId::kRouterDecision).kv("n", 1);
  ASSERT_EQ(some.lines.size(), 1U);
  EXPECT_NE(some.lines[0].find("event=router.decision"), std::string::npos);
}

TEST(LogLevels, ThatNameNothingAreRefused) {
  for (const char* text :
       {"loud", "info,router=", "info,nothing=debug", "info,,warn", "rout=info"}) {
    const Result<LogOptions> options = ParseLogLevels(text);
    ASSERT_FALSE(options) << text;
    EXPECT_EQ(options.error().param(), "log-level");
  }
}

}  // namespace
}  // namespace pixii::obs
