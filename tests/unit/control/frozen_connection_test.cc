// The bytes of a whole connection of a released version are read by every later build:
// tests/wire/vN/. docs/formats/mux.md
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "control/mux.h"
#include "support/golden.h"

namespace pixii::control {
namespace {

struct Bytes {
  std::string to_answerer;
  std::string to_caller;
};

// Every kind of frame, messages of one part and of many.
Bytes RunConnection() {
  rt::Time now{};
  Bytes bytes;
  Mux caller({.name = "caller"}, Mux::Side::kConnected, now);
  Mux answerer({.name = "answerer"}, Mux::Side::kAccepted, now);
  const auto carry = [&] {
    while (caller.has_output() || answerer.has_output()) {
      std::string out;
      caller.TakeOutput(out, 1 << 20);
      answerer.Receive(out, now);
      bytes.to_answerer += out;
      out.clear();
      answerer.TakeOutput(out, 1 << 20);
      caller.Receive(out, now);
      bytes.to_caller += out;
    }
  };
  const StreamId sum = caller.Call("sum", std::chrono::milliseconds(1500), "1 + 2").value();
  const StreamId long_one = caller.Call("take", {}, std::string(40'000, 'l')).value();
  const StreamId given_up = caller.Call("wait", {}, "").value();
  carry();
  answerer.Consumed(long_one, 200'000);
  EXPECT_TRUE(answerer.Send(sum, "3"));
  EXPECT_TRUE(answerer.Send(long_one, std::string(150'000, 'L')));
  carry();
  caller.Consumed(long_one, 150'000);
  caller.Cancel(given_up);
  answerer.End(sum, std::nullopt);
  answerer.End(long_one, Error(Code::kNotFound, "nothing there", "what"));
  carry();
  now += std::chrono::seconds(2);
  caller.Tick(now);
  carry();
  answerer.GoAway();
  carry();
  return bytes;
}

std::vector<std::string> Events(Mux::Side side, const std::string& bytes) {
  rt::Time now{};
  Mux mux({.name = "later"}, side, now);
  std::string ignored;
  for (int i = 0; side == Mux::Side::kConnected && i < 3; ++i) {
    EXPECT_TRUE(mux.Call("m", {}, ""));
  }
  mux.TakeOutput(ignored, 1 << 20);
  mux.Receive(bytes, now);
  std::vector<std::string> out;
  for (const MuxEvent& event : mux.TakeEvents()) {
    if (event.kind != MuxEvent::Kind::kDrained) {
      out.push_back(fmt::format(
          "{} {} {}{}{}", static_cast<int>(event.kind), static_cast<std::uint64_t>(event.stream),
          event.text.size() > 20 ? fmt::format("{} bytes", event.text.size()) : event.text,
          event.deadline_left.count() > 0 ? fmt::format(" {} ns", event.deadline_left.count()) : "",
          event.error ? " " + event.error->ToString() : ""));
    }
  }
  return out;
}

std::string PathOf(const std::string& name) {
  return testing::SourceDir() + "/tests/wire/v1/" + name;
}

TEST(FrozenConnection, OfVersion1IsStillRead) {
  EXPECT_EQ(Events(Mux::Side::kAccepted, testing::ReadFileOrFail(PathOf("to_answerer.mux"))),
            (std::vector<std::string>{"0 0 caller", "1 1 sum 1500000000 ns", "1 3 take", "1 5 wait",
                                      "2 5 ", "2 1 1 + 2", "2 3 40000 bytes", "4 5 "}));
  const std::vector<std::string> at_caller =
      Events(Mux::Side::kConnected, testing::ReadFileOrFail(PathOf("to_caller.mux")));
  ASSERT_EQ(at_caller.size(), 6U);
  EXPECT_EQ(at_caller[0], "0 0 answerer");
  EXPECT_EQ(at_caller[1], "2 1 3");
  EXPECT_EQ(at_caller[2], "2 3 150000 bytes");
  EXPECT_EQ(at_caller[3], "3 1 ");
  EXPECT_NE(at_caller[4].find("nothing there"), std::string::npos);
  EXPECT_EQ(at_caller[5], "6 0 ");
}

// For the files of a new version; those that exist stay as they are.
TEST(FrozenConnection, DISABLED_IsWrittenOnce) {
  const Bytes bytes = RunConnection();
  for (const auto& [name, content] :
       {std::pair("to_answerer.mux", bytes.to_answerer), {"to_caller.mux", bytes.to_caller}}) {
    if (!std::filesystem::exists(PathOf(name))) {
      std::ofstream(PathOf(name), std::ios::binary) << content;
    }
  }
}

}  // namespace
}  // namespace pixii::control
