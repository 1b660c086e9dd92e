// What a shell and man(1) know of the commands: made from the same tables as the flags.
//
// Thread: pure functions.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "config/parse.h"

namespace pixii::config {

enum class Shell : std::uint8_t { kBash, kZsh, kFish };

/// "bash", "zsh", "fish".
std::optional<Shell> ShellOf(std::string_view name);

/// A command of the program as its help lists it.
struct CommandLine {
  std::string name;     // one word: "serve"
  std::string summary;  // one line
};

struct Pages {
  std::string version;
  std::span<const CommandLine> lines;  // all, in the order of the help
  std::span<const Command> commands;   // those with a table; "bench engine" has two words
};

/// A script that the shell reads. Completes commands, flags, and the values of flags that take one
/// of some words; elsewhere file names.
std::string CompletionScript(Shell shell, const Pages& pages);

/// pixii.1, in the man macros. Pre: the targets of the options hold the defaults.
std::string ManPage(const Pages& pages);

}  // namespace pixii::config
