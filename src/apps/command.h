// What every subcommand has: a row of the dispatch table, its options, and one way to fail.
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "config/parse.h"

namespace pixii::apps {

/// Exit statuses: 0 done, 1 the thing asked about is not so (check, doctor), 2 it could not be
/// done.
inline constexpr int kExitDone = 0;
inline constexpr int kExitNotSo = 1;
inline constexpr int kExitFailed = 2;

using Arguments = std::vector<std::string>;

int RunServe(const Arguments& arguments);
int RunWorker(const Arguments& arguments);
int RunUp(const Arguments& arguments);
int RunOperator(const Arguments& arguments);
int RunFrontend(const Arguments& arguments);
int RunEpp(const Arguments& arguments);
int RunRouter(const Arguments& arguments);
int RunPlanner(const Arguments& arguments);
int RunScale(const Arguments& arguments);
int RunProfile(const Arguments& arguments);
int RunVideo(const Arguments& arguments);
int RunImage(const Arguments& arguments);
int RunChat(const Arguments& arguments);
int RunTokenize(const Arguments& arguments);
int RunDetokenize(const Arguments& arguments);
int RunRender(const Arguments& arguments);
int RunCheck(const Arguments& arguments);
int RunInspect(const Arguments& arguments);
int RunKv(const Arguments& arguments);
int RunQuantize(const Arguments& arguments);
int RunReplay(const Arguments& arguments);
int RunGrammar(const Arguments& arguments);
int RunBenchGrammar(const Arguments& arguments);
int RunBench(const Arguments& arguments);
int RunConformance(const Arguments& arguments);
int RunDoctor(const Arguments& arguments);
int RunSimulate(const Arguments& arguments);
int RunTrace(const Arguments& arguments);
int RunTop(const Arguments& arguments);
int RunReference(const Arguments& arguments);

/// Formatted text on stdout and stderr. They never fail here: main looks at stdout before it ends.
template <class... Values>
void Say(fmt::format_string<Values...> form, Values&&... values) {
  std::string text = fmt::format(form, std::forward<Values>(values)...);
  std::fwrite(text.data(), 1, text.size(), stdout);
}

template <class... Values>
void SayError(fmt::format_string<Values...> form, Values&&... values) {
  std::string text = fmt::format(form, std::forward<Values>(values)...);
  std::fwrite(text.data(), 1, text.size(), stderr);
}

/// "pixii: message" on stderr; returns kExitFailed.
int Complain(const Error& error);

/// Parses with the process's environment and files. An exit status if the command is over already:
/// --help,
/// --print-config or an error, which was printed.
std::pair<config::Parsed, int> ParseOrExit(const config::Command& command,
                                           const Arguments& arguments);
inline constexpr int kGoOn = -1;

struct CommandTitle {
  std::string name;     // "serve"
  std::string summary;  // one line
};

/// A command without words whose options are the rows of `flags`: `run` gets these, and all that
/// was parsed. The exit status.
template <class Flags, class Run>
int RunCommand(CommandTitle title, Flags flags, const Arguments& arguments, const Run& run) {
  config::Command command;
  command.name = std::move(title.name);
  command.summary = std::move(title.summary);
  command.options = RowsOf(flags);
  auto [parsed, exit] = ParseOrExit(command, arguments);
  if (exit != kGoOn) {
    return exit;
  }
  Result<int> done = run(std::move(flags), parsed);
  return done ? *done : Complain(done.error());
}

}  // namespace pixii::apps
