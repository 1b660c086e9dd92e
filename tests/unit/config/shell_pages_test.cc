#include "config/shell_pages.h"

#include <gtest/gtest.h>

namespace pixii::config {
namespace {

struct Fixture {
  std::string mode = "kv";
  bool offline = false;
  std::string file;
  std::vector<Command> commands{2};
  std::vector<CommandLine> lines = {{"serve", "answers"}, {"bench", "it's measured"}};

  Fixture() {
    commands[0].name = "serve";
    commands[0].summary = "Answers.";
    commands[0].options.resize(3);
    commands[0].options[0].name = "router-mode";
    commands[0].options[0].field = WordField{&mode, {{"kv", "random"}}};
    commands[0].options[0].help = "who [it] is: one";
    commands[0].options[1].name = "offline";
    commands[0].options[1].field = BoolField{&offline};
    commands[0].options[1].help = ".never 'asks'";
    commands[0].options[2].name = "file";
    commands[0].options[2].field = TextField{&file, {}};
    commands[0].options[2].help = "a\\b";
    commands[1].name = "bench serve";
    commands[1].summary = "Drives.";
  }

  Pages pages() const { return {.version = "1.2", .lines = lines, .commands = commands}; }
};

TEST(ShellPages, BashOffersCommandsSecondWordsFlagsAndTheWordsOfAFlag) {
  const Fixture f;
  const std::string script = CompletionScript(Shell::kBash, f.pages());
  EXPECT_NE(script.find("compgen -W 'serve bench' "), std::string::npos) << script;
  EXPECT_NE(script.find("'serve --router-mode') values='kv random' ;;"), std::string::npos);
  EXPECT_NE(script.find("'serve') flags+=' --router-mode --offline --file' ;;"), std::string::npos);
  EXPECT_NE(script.find("command=\"$command ${COMP_WORDS[2]}\""), std::string::npos);
}

TEST(ShellPages, ZshQuotesWhatWouldEndAnArgument) {
  const Fixture f;
  const std::string script = CompletionScript(Shell::kZsh, f.pages());
  EXPECT_NE(script.find(R"('--router-mode[who \[it\] is\: one]:value:(kv random)')"),
            std::string::npos)
      << script;
  EXPECT_NE(script.find(R"('--offline[.never '\''asks'\'']')"), std::string::npos);
  EXPECT_NE(script.find("'bench:it'\\''s measured'"), std::string::npos);
}

TEST(ShellPages, FishAsksForAValueOfWhatIsNoSwitch) {
  const Fixture f;
  const std::string script = CompletionScript(Shell::kFish, f.pages());
  EXPECT_NE(script.find("-l router-mode -r -f -a 'kv random' -d "), std::string::npos) << script;
  EXPECT_NE(script.find("-l offline -d '.never \\'asks\\''"), std::string::npos);
  EXPECT_NE(script.find("-n '__pixii_is bench' -f -a serve"), std::string::npos);
}

TEST(ShellPages, TheManPageHasNoRequestOfATextAndKeepsHyphens) {
  const Fixture f;
  const std::string page = ManPage(f.pages());
  EXPECT_NE(page.find(".B \\-\\-router\\-mode\nwho [it] is: one (kv, random; default: kv)\n"),
            std::string::npos)
      << page;
  EXPECT_NE(page.find("\n\\&.never 'asks' ("), std::string::npos);
  EXPECT_NE(page.find("a\\eb"), std::string::npos);
}

TEST(ShellPages, AShellIsNamedInOneWay) {
  EXPECT_EQ(ShellOf("zsh"), Shell::kZsh);
  EXPECT_EQ(ShellOf("csh"), std::nullopt);
}

}  // namespace
}  // namespace pixii::config
