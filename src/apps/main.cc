// pixii: one program, many commands. Wiring only; what each command does is in its own file.
#include <fmt/format.h>

#include <cstdio>
#include <span>

#include "apps/build_facts.h"
#include "apps/command.h"
#include "apps/command_lines.h"
#include "apps/config_command.h"
#include "apps/media_command.h"
#include "apps/version.h"
#include "media/decoder_child.h"
#include "rt/process.h"

namespace pixii::apps {
namespace {

struct Row {
  const char* name;
  const char* summary;
  int (*run)(const Arguments& arguments);
};

constexpr Row kCommands[] = {
    {"serve", "answers the OpenAI API with a model", RunServe},
    {"worker", "runs a model for frontends of other processes", RunWorker},
    {"frontend", "answers the OpenAI API with workers of other processes", RunFrontend},
    {"router", "decides where requests go, for frontends and others", RunRouter},
    {"planner", "decides how many workers a fleet has, and has that changed", RunPlanner},
    {"scale", "waits for a planner's decisions and says when they are done", RunScale},
    {"profile", "measures an engine on this host and recommends a fleet", RunProfile},
    {"epp", "tells a Gateway API gateway which worker gets a request (ext-proc)", RunEpp},
    {"up", "runs a fleet on this host as a file says", RunUp},
    {"operator", "keeps fleets in a Kubernetes namespace as graphs there say", RunOperator},
    {"chat", "answers words in the terminal", RunChat},
    {"tokenize", "JSON strings to lists of token ids, a line each", RunTokenize},
    {"detokenize", "lists of token ids to JSON strings, a line each", RunDetokenize},
    {"render", "renders a chat template, a JSON context a line", RunRender},
    {"grammar", "says whether texts follow a schema, pattern or grammar", RunGrammar},
    {"check", "compares model folders with the golden files in them", RunCheck},
    {"video", "makes a video from a text", RunVideo},
    {"image", "makes a picture from a text", RunImage},
    {"inspect", "says what a checkpoint is and what it needs", RunInspect},
    {"kv", "looks at the file of a KV disk tier and mends it", RunKv},
    {"media", "decodes an image file in a sandbox, resizes it and writes its RGB bytes", RunMedia},
    {"quantize", "writes a model in int8 or int4", RunQuantize},
    {"replay", "repeats recorded requests and compares them bit for bit", RunReplay},
    {"bench",
     "measures: bench engine, router, cluster, frontend, kv, transfer, grammar, tokenizer or serve",
     RunBench},
    {"config", "says what the settings of another deployment become here", RunConfig},
    {"conformance", "asks any OpenAI-compatible server what it should do, and says what it does",
     RunConformance},
    {"simulate", "runs the whole server under virtual time, by seed", RunSimulate},
    {"trace", "prints the timeline of one ended request", RunTrace},
    {"top", "shows models, workers and what they do, live", RunTop},
    {"doctor", "says whether this machine can run pixii, and how well", RunDoctor},
    {"reference", "prints a page of docs/reference, the man page or a shell's completion",
     RunReference},
};

}  // namespace

std::vector<config::CommandLine> CommandLines() {
  std::vector<config::CommandLine> out;
  for (const Row& row : kCommands) {
    out.push_back({.name = row.name, .summary = row.summary});
  }
  return out;
}

namespace {

void PrintHelp() {
  Say("pixii {}: serves language models\n\n", kVersion);
  for (const Row& row : kCommands) {
    Say("  pixii {:<12} {}\n", row.name, row.summary);
  }
  Say("\npixii COMMAND --help lists what a command takes.\n");
}

int PrintVersion(bool json) {
  if (!json) {
    Say("pixii {} ({})\n", kVersion, kCommit);
    return kExitDone;
  }
  Say("{}\n", BuildFacts().Dump());
  return kExitDone;
}

int Main(std::span<char*> words) {
  rt::IgnoreBrokenPipes();
  Arguments arguments(words.begin() + 1, words.end());
  if (arguments.empty() || arguments[0] == "--help" || arguments[0] == "-h" ||
      arguments[0] == "help") {
    PrintHelp();
    return arguments.empty() ? kExitFailed : kExitDone;
  }
  std::string name = arguments[0];
  arguments.erase(arguments.begin());
  if (name == "--version") {
    if (!arguments.empty() && arguments != Arguments{"--json"}) {
      return Complain(
          Error(Code::kInvalidArgument, "pixii --version takes --json and nothing else"));
    }
    return PrintVersion(!arguments.empty());
  }
  if (name == media::kDecoderCommand) {
    return media::RunDecoderChild(arguments);  // started by ourselves alone, so in no help
  }
  std::vector<std::string> known;
  for (const Row& row : kCommands) {
    if (name == row.name) {
      return row.run(arguments);
    }
    known.emplace_back(row.name);
  }
  std::optional<std::string> nearest = config::Nearest(name, known);
  SayError("pixii: unknown command \"{}\"{}; pixii --help lists them\n", name,
           nearest ? fmt::format("; did you mean {}?", *nearest) : "");
  return kExitFailed;
}

}  // namespace
}  // namespace pixii::apps

int main(int count, char** words) {
  int exit = pixii::apps::Main({words, static_cast<std::size_t>(count)});
  // What was said and did not arrive was not said.
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    std::fputs("pixii: standard output could not be written\n", stderr);
    return exit == pixii::apps::kExitDone ? pixii::apps::kExitFailed : exit;
  }
  return exit;
}
