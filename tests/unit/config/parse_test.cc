#include "config/parse.h"

#include <gtest/gtest.h>

#include <map>

namespace pixii::config {
namespace {

struct Fixture {
  std::int64_t max_batch = 8;
  std::int64_t port = 8000;
  bool offline = false;
  Command command;
  std::map<std::string, std::string> environment;
  std::vector<std::string> environment_names;
  std::vector<std::string> known_sections;
  std::map<std::string, std::string> files;

  Fixture() {
    command.name = "serve";
    command.options = {
        {.name = "max-batch",
         .field = IntegerField{&max_batch, {1, 64}},
         .unit = "sequences",
         .help = "",
         .environment_aliases = {},
         .flag_aliases = {}},
        {.name = "port",
         .field = IntegerField{&port, {0, 65535}},
         .unit = "",
         .help = "",
         .environment_aliases = {"DYN_HTTP_PORT"},
         .flag_aliases = {"http-port"}},
        {.name = "offline",
         .field = BoolField{&offline},
         .unit = "",
         .help = "",
         .environment_aliases = {},
         .flag_aliases = {}},
    };
    command.positionals = {{.name = "MODEL", .help = "", .required = false, .repeated = false}};
  }

  Result<Parsed> Run(std::vector<std::string> arguments) {
    return Parse(command,
                 {.arguments = std::move(arguments),
                  .environment = [this](const std::string& name) -> std::optional<std::string> {
                    auto found = environment.find(name);
                    return found == environment.end() ? std::nullopt : std::optional(found->second);
                  },
                  .environment_names = environment_names,
                  .known_sections = known_sections,
                  .read_file = [this](const std::string& path) -> Result<std::string> {
                    if (!files.contains(path)) {
                      return Fail(Code::kNotFound, "no " + path);
                    }
                    return files[path];
                  }});
  }
};

TEST(Parse, FlagBeatsEnvironmentBeatsFileBeatsDefault) {
  Fixture f;
  f.files["c.yaml"] = "max_batch: 2\nport: 2\n";
  f.environment = {
      {"PIXII_SERVE_MAX_BATCH", "3"}, {"DYN_HTTP_PORT", "3"}, {"PIXII_SERVE_PORT", "33"}};
  auto parsed = f.Run({"m", "--config", "c.yaml", "--max-batch", "4"});
  ASSERT_TRUE(parsed) << parsed.error().ToString();
  EXPECT_EQ(f.max_batch, 4);
  EXPECT_EQ(f.port, 33);
  EXPECT_EQ(parsed->positionals, std::vector<std::string>{"m"});
  EXPECT_EQ(parsed->values[0].source, Source::kFlag);
  EXPECT_EQ(parsed->values[1].where, "PIXII_SERVE_PORT");
  EXPECT_EQ(parsed->values[2].source, Source::kDefault);
}

TEST(Parse, EveryWrongNameOrValueStopsAndIsNamedWithItsSource) {
  struct Case {
    std::vector<std::string> arguments;
    std::vector<std::string> words;
  };

  Fixture f;
  f.files["bad.yaml"] = "\nmax_bach: 2\n";
  for (const Case& c :
       {Case{{"--max-bach", "3"}, {"--max-bach", "--max-batch"}},
        Case{{"--max-batch", "65"}, {"65", "1 .. 64", "flag"}},
        Case{{"--max-batch"}, {"needs a value"}}, Case{{"a", "b"}, {"\"b\""}}, Case{{"-x"}, {"-x"}},
        Case{{"--config", "bad.yaml"}, {"bad.yaml:2", "max_bach", "max-batch"}},
        Case{{"--config", "no.yaml"}, {"no.yaml"}}, Case{{"--no-port"}, {"--no-port"}}}) {
    auto parsed = f.Run(c.arguments);
    ASSERT_FALSE(parsed) << c.arguments[0];
    for (const std::string& word : c.words) {
      EXPECT_NE(parsed.error().detail().find(word), std::string::npos) << parsed.error().detail();
    }
  }
  EXPECT_EQ(f.max_batch, 8) << "a refused value must not be stored";
}

TEST(Parse, AMisspeltVariableOfThisCommandStopsTheStart) {
  Fixture f;
  f.environment_names = {"HOME", "PIXII_OTHER_THING", "PIXII_SERVE_PORT", "PIXII_SERVE_MAX_BACH"};
  auto parsed = f.Run({});
  ASSERT_FALSE(parsed);
  EXPECT_EQ(parsed.error().param(), "PIXII_SERVE_MAX_BACH");
  EXPECT_NE(parsed.error().detail().find("PIXII_SERVE_MAX_BATCH"), std::string::npos);
  f.environment_names.pop_back();
  EXPECT_TRUE(f.Run({}));
}

TEST(Parse, AnUnknownSectionOfTheFileStopsTheStart) {
  Fixture f;
  f.known_sections = {"chat"};
  f.files["c.yaml"] = "chat:\n  anything: 1\nserve:\n  port: 5\n";
  ASSERT_TRUE(f.Run({"--config", "c.yaml"}));
  EXPECT_EQ(f.port, 5);
  f.files["c.yaml"] = "sevre:\n  port: 6\n";
  auto parsed = f.Run({"--config", "c.yaml"});
  ASSERT_FALSE(parsed);
  EXPECT_NE(parsed.error().detail().find("c.yaml:1: sevre"), std::string::npos)
      << parsed.error().detail();
}

TEST(Parse, PrintsEveryValueWithItsSourceAndHelpAndReferenceNameEveryOption) {
  Fixture f;
  f.environment = {{"PIXII_SERVE_PORT", "9"}};
  const std::string help = HelpText(f.command);
  const std::string page = ReferencePage(f.command);
  auto parsed = f.Run({"--print-config", "--max-batch=2"});
  ASSERT_TRUE(parsed);
  EXPECT_TRUE(parsed->print_config);
  const std::string text = ConfigText(*parsed);
  for (const char* word : {"flag --max-batch", "environment PIXII_SERVE_PORT", "default"}) {
    EXPECT_NE(text.find(word), std::string::npos) << text;
  }
  for (const Option& option : f.command.options) {
    EXPECT_NE(help.find("--" + option.name), std::string::npos);
    EXPECT_NE(page.find("`--" + option.name + "`"), std::string::npos);
    EXPECT_NE(text.find(option.name), std::string::npos);
  }
  EXPECT_NE(page.find("DYN_HTTP_PORT"), std::string::npos);
}

TEST(Parse, NearestNamesOnlyWhatMayBeMeant) {
  EXPECT_EQ(Nearest("max-bach", {"max-batch", "port"}), "max-batch");
  EXPECT_EQ(Nearest("xyzzy", {"max-batch", "port"}), std::nullopt);
}

TEST(Parse, BooleansAliasesAndEqualsSigns) {
  Fixture f;
  ASSERT_TRUE(f.Run({"--offline", "--http-port=7"}));
  EXPECT_TRUE(f.offline);
  EXPECT_EQ(f.port, 7);
  ASSERT_TRUE(f.Run({"--no-offline"}));
  EXPECT_FALSE(f.offline);
  ASSERT_TRUE(f.Run({"--offline=true", "--", "--odd-name"}));
  EXPECT_TRUE(f.offline);
}

TEST(Parse, AListGrowsWithEachFlagAndIsOneALineElsewhere) {
  Fixture fixture;
  std::vector<std::string> processors;
  fixture.command.options.push_back({.name = "processor",
                                     .field = ListField{&processors, {.size_max = 20}},
                                     .unit = "",
                                     .help = "",
                                     .environment_aliases = {},
                                     .flag_aliases = {}});
  ASSERT_TRUE(fixture.Run({"--processor", "a", "--processor={\"x\": 1, \"y\": 2}"}));
  EXPECT_EQ(processors, (std::vector<std::string>{"a", "{\"x\": 1, \"y\": 2}"}));
  fixture.environment["PIXII_SERVE_PROCESSOR"] = "b\n\nc\n";
  ASSERT_TRUE(fixture.Run({}));
  EXPECT_EQ(processors, (std::vector<std::string>{"b", "c"}));
  ASSERT_TRUE(fixture.Run({"--processor", "d"}));
  EXPECT_EQ(processors, std::vector<std::string>{"d"});
  EXPECT_FALSE(fixture.Run({"--processor", std::string(21, 'x')}));
}

TEST(Parse, AnOldNameHoldsAndIsSaidOnce) {
  Fixture f;
  f.command.options[0].old_names = {"batch-size"};
  auto parsed = f.Run({"--batch-size", "3", "--batch-size", "4"});
  ASSERT_TRUE(parsed) << parsed.error().ToString();
  EXPECT_EQ(f.max_batch, 4);
  EXPECT_EQ(parsed->notices,
            std::vector<std::string>{"--batch-size is an old name of --max-batch"});
  EXPECT_TRUE(f.Run({"--max-batch", "3"})->notices.empty());
}

TEST(Parse, WhatValuesMeanTogetherIsSettledBeforeTheyAreSaid) {
  Fixture f;
  f.command.settle = [&](Parsed& parsed) -> Result<void> {
    if (f.offline) {
      return Fail(Code::kInvalidArgument, "offline: not here", "offline");
    }
    f.max_batch *= 2;
    parsed.positionals = {"settled"};
    return {};
  };
  auto parsed = f.Run({"--max-batch", "3", "--check-config"});
  ASSERT_TRUE(parsed) << parsed.error().ToString();
  EXPECT_TRUE(parsed->check_config);
  EXPECT_EQ(parsed->positionals, std::vector<std::string>{"settled"});
  EXPECT_EQ(parsed->values[0].value, "6");
  auto refused = f.Run({"--offline"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().param(), "offline");
}

TEST(Parse, ADumpIsAskedForByFlagOrVariableAndTheFlagWins) {
  Fixture f;
  EXPECT_FALSE(f.Run({})->dump_config_to);
  f.environment = {{"DYN_DUMP_CONFIG_TO", "there"}};
  EXPECT_EQ(f.Run({})->dump_config_to, "there");
  EXPECT_EQ(f.Run({"--dump-config-to", "here"})->dump_config_to, "here");
  EXPECT_EQ(f.Run({"--dump-config-to="})->dump_config_to, "");
}

}  // namespace
}  // namespace pixii::config
