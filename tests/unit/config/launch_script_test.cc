#include "config/launch_script.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

namespace pixii::config {
namespace {

std::vector<LaunchCommand> Read(const std::string& text,
                                const std::map<std::string, std::string>& given = {}) {
  Result<std::vector<LaunchCommand>> read = ReadLaunchScript(text, "s.sh", given);
  EXPECT_TRUE(read) << read.error().detail();
  return read ? *read : std::vector<LaunchCommand>{};
}

std::vector<std::string> Words(const LaunchCommand& command) {
  std::vector<std::string> out;
  for (const LaunchWord& word : command.words) {
    out.push_back(word.unknown.empty() ? word.text : "?" + word.unknown);
  }
  return out;
}

using Texts = std::vector<std::string>;

TEST(LaunchScriptTest, QuotesLinesAndCommentsAreThoseOfAShell) {
  const auto commands =
      Read("#!/bin/bash\n# no\nrun 'a b' \"c $X\" d\\ e \\\n  --f=\"g\"h # no\necho x; run y & z\n",
           {{"X", "1"}});
  ASSERT_EQ(commands.size(), 4U);
  EXPECT_EQ(Words(commands[0]), (Texts{"run", "a b", "c 1", "d e", "--f=gh"}));
  EXPECT_EQ(commands[0].line, 3U);
  EXPECT_EQ(commands[0].words[4].line, 4U);
  EXPECT_EQ(Words(commands[3]), Texts{"z"});
}

TEST(LaunchScriptTest, VariablesHaveTheirDefaultsAndThoseThatAreGivenWin) {
  const std::string text =
      "export HOME_DIR=${HOME_DIR:-\"/workspace\"}\n"
      "export ARGS=${ARGS:-\"$HOME_DIR/x.yaml\"}\n"
      "P=\"${PORT:-80${SUFFIX-}}\"\n"
      "run \"$ARGS\" $P ${NONE}\n";
  EXPECT_EQ(Words(Read(text)[0]), (Texts{"run", "/workspace/x.yaml", "80", "?NONE"}));
  EXPECT_EQ(Words(Read(text, {{"HOME_DIR", "/h"}, {"SUFFIX", "8"}, {"NONE", "n"}})[0]),
            (Texts{"run", "/h/x.yaml", "808", "n"}));
}

TEST(LaunchScriptTest, ListsBecomeWordsAndEmptyOnesNone) {
  const auto commands = Read(
      "A=()\nB=(--x \"1 2\")\nB+=(\n  --y # one more\n)\nC='p q'\n"
      "run \"${A[@]}\" \"${B[@]}\" $C \"$C\" \"$@\" \"\"\n");
  ASSERT_EQ(commands.size(), 1U);
  EXPECT_EQ(Words(commands[0]), (Texts{"run", "--x", "1 2", "--y", "p", "q", "p q", ""}));
}

TEST(LaunchScriptTest, WhatStandsBeforeACommandIsItsOwn) {
  const auto commands = Read("export E=1\nE=2 F=3 run $F\nrun $E $F\n");
  ASSERT_EQ(commands.size(), 2U);
  ASSERT_EQ(commands[0].environment.size(), 2U);
  EXPECT_EQ(commands[0].environment[0].value.text, "2");
  EXPECT_EQ(commands[0].environment[1].name, "F");
  ASSERT_EQ(commands[1].environment.size(), 1U);
  EXPECT_EQ(commands[1].environment[0].value.text, "1");
  EXPECT_EQ(Words(commands[1]), (Texts{"run", "1", "?F"}));
}

TEST(LaunchScriptTest, WhatMayRunOrNotIsSaidAndSetsNothing) {
  const auto commands = Read(
      "cleanup() {\n  A=1\n  kill $PID\n}\n"
      "while [[ $# -gt 0 ]]; do\n  case $1 in\n    -h|--help) A=2; echo a ;;\n    *) exit 1;;\n"
      "  esac\ndone\n"
      "if [ \"$A\" = 1 ]; then\n  export A=3\n  run inner\nfi\n"
      "for x in a b; do run $x; done\n( run deep )\nrun outer $A\n");
  std::map<std::string, std::string> within;
  for (const LaunchCommand& command : commands) {
    if (command.words.size() > 1) {
      within[command.words[1].text] = command.within;
    }
  }
  EXPECT_EQ(within["inner"], "if");
  EXPECT_EQ(within["deep"], "a subshell");
  EXPECT_EQ(within["outer"], "");
  EXPECT_EQ(Words(commands.back()), (Texts{"run", "outer", "?A"}));
  EXPECT_EQ(Words(commands.front()), (Texts{"kill", "?PID"}));
  EXPECT_EQ(commands.front().within, "a function");
}

TEST(LaunchScriptTest, CommandsForTextRedirectionsAndDocumentsAreNoWords) {
  const auto commands = Read(
      "D=\"$(dirname \"$(readlink -f \"$0\")\")\"\ncat <<EOF > x\nrun no\nEOF\n"
      "run $D `date` 2>&1 >/dev/null $!\n");
  ASSERT_EQ(commands.size(), 2U);
  EXPECT_EQ(Words(commands[0]), Texts{"cat"});
  EXPECT_EQ(Words(commands[1]),
            (Texts{"run", "?what a command says", "?what a command says", "?$!"}));
}

TEST(LaunchScriptTest, WhatHasNoEndIsAnErrorWithItsLine) {
  for (const char* text : {"a\nb 'c\n", "a\nb \"c\n", "a\nb ${c\n", "a\nb $(c\n", "a\nB=(c\n"}) {
    const auto read = ReadLaunchScript(text, "s.sh", {});
    ASSERT_FALSE(read) << text;
    EXPECT_TRUE(read.error().detail().starts_with("s.sh:")) << read.error().detail();
  }
}

}  // namespace
}  // namespace pixii::config
