#include "control/graph.h"

#include <gtest/gtest.h>

namespace pixii::control {
namespace {

using namespace std::chrono_literals;

const GraphRules kRules = {
    .commands = {"frontend", "worker"},
    .model_commands = {"worker"},
    .check_flag = [](const std::string& command, const std::string& flag,
                     const std::string& value) -> Result<void> {
      if (flag == "port" && command == "frontend") {
        return value == "x" ? Result<void>(Fail(Code::kInvalidArgument, "x is no port"))
                            : Result<void>();
      }
      return flag == "lora" && command == "worker"
                 ? Result<void>()
                 : Result<void>(Fail(Code::kInvalidArgument, "there is no flag --" + flag));
    },
    .takes_many = [](const std::string&, const std::string& flag) { return flag == "lora"; }};

Result<Graph> Read(const std::string& text) { return ReadGraph(text, "g.yaml", kRules); }

std::string Trouble(const std::string& text) {
  const Result<Graph> read = Read(text);
  return read ? "none" : read.error().detail();
}

TEST(GraphTest, ReadsComponentsInOrderOfTheirNeeds) {
  const Result<Graph> read = Read(R"(
namespace: demo
environment: {A: 1, B: "two words"}
components:
  http:
    command: frontend
    needs: [small, large]
    flags: {port: 8000}
    stop-grace: 1m
  small:
    model: tiny-chat
  large:
    model: org/large
    replicas: 3
    settle: 500ms
    flags: {lora: [a=/a, b=/b]}
    environment:
      A: 2
    needs: small
)");
  ASSERT_TRUE(read) << read.error().ToString();
  EXPECT_EQ(read->ns, "demo");
  EXPECT_EQ(read->environment, (GraphValues{{"A", "1"}, {"B", "two words"}}));
  ASSERT_EQ(read->components.size(), 3U);
  EXPECT_EQ(read->components[0].name, "small");
  EXPECT_EQ(read->components[0].command, "worker");
  EXPECT_EQ(read->components[0].replicas, 1);
  const GraphComponent& large = read->components[1];
  EXPECT_EQ(large.name, "large");
  EXPECT_EQ(large.model, "org/large");
  EXPECT_EQ(large.replicas, 3);
  EXPECT_EQ(large.settle, 500ms);
  EXPECT_EQ(large.flags, (GraphValues{{"lora", "a=/a"}, {"lora", "b=/b"}}));
  EXPECT_EQ(large.environment, (GraphValues{{"A", "2"}}));
  EXPECT_EQ(read->components[2].command, "frontend");
  EXPECT_EQ(*read->components[2].Flag("port"), "8000");
  EXPECT_EQ(read->components[2].Flag("host"), nullptr);
  EXPECT_EQ(read->components[2].stop_grace, 60s);
}

TEST(GraphTest, ErrorsNameLineAndKey) {
  const struct {
    const char* text;
    const char* error;
  } cases[] = {
      {"components: {}", "g.yaml: components: there are none"},
      {"components:\n  a:\n    modle: x",
       "g.yaml:3: components.a.modle: there is no key \"modle\""},
      {"component:\n  a: 1", "g.yaml:2: component.a: there is no key \"component\""},
      {"components:\n  a:\n    command: serve",
       "g.yaml:3: components.a.command: \"serve\" is none"},
      {"components:\n  a:\n    replicas: -1", "g.yaml:3: components.a.replicas: "},
      {"components:\n  a:\n    settle: soon", "g.yaml:3: components.a.settle: "},
      {"components:\n  a:\n    flags:\n      prot: 1",
       "g.yaml:4: components.a.flags.prot: there is no flag --prot"},
      {"components:\n  a:\n    flags: {port: x}\n    command: frontend",
       "g.yaml:3: components.a.flags.port: x is no port"},
      {"components:\n  a:\n    flags: {discovery: mem}",
       "g.yaml:3: components.a.flags.discovery: is set"},
      {"components:\n  a:\n    flags: 7", "g.yaml:3: components.a.flags: must be a mapping"},
      {"components:\n  a:\n    command: frontend\n    model: x",
       "components.a.model: pixii frontend takes no"},
      {"components:\n  a:\n    needs: [b]",
       "g.yaml:3: components.a.needs: there is no component \"b\""},
      {"components:\n  a:\n    needs: [b]\n  b:\n    needs: [a]", "needs: leads back to itself"},
      {"components:\n  a:\n    needs: [a]", "g.yaml:3: components.a.needs: leads back to itself"},
      {"components:\n  a: 1", "g.yaml:2: components.a: must be a mapping"},
      {"environment: [a]\ncomponents: {a: {}}", "g.yaml:1: environment: must be a mapping"},
      {"namespace: [a]\ncomponents: {a: {}}", "g.yaml:1: namespace: must be one value"},
      {"components:\n  a: {\n", "g.yaml"},
      {"namespace: a b\ncomponents: {a: {}}", "g.yaml:1: namespace: "},
      {"discovery: foo\ncomponents: {a: {}}", "g.yaml:1: discovery: "},
      {"discovery: mem\ncomponents: {a: {}}", "g.yaml:1: discovery: mem is of one process"},
      {"environment: {\"A=B\": 1}\ncomponents: {a: {}}", "g.yaml:1: environment.A=B: "},
      {"components:\n  a:\n    command: frontend\n    flags: {port: [1, 2]}",
       "g.yaml:4: components.a.flags.port: takes one value"},
  };

  for (const auto& one : cases) {
    EXPECT_NE(Trouble(one.text).find(one.error), std::string::npos)
        << one.text << "\nsaid: " << Trouble(one.text) << "\nnot: " << one.error;
  }
}

TEST(GraphTest, AComponentMayBeEmpty) {
  const Result<Graph> read = Read("components:\n  a:\n  b: {}\n");
  ASSERT_TRUE(read) << read.error().ToString();
  EXPECT_EQ(read->components.size(), 2U);
}

}  // namespace
}  // namespace pixii::control
