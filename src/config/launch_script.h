// The commands of a shell script that only starts things: words, variables that it sets itself,
// lines. No shell: what needs one to be known (commands in place of text, what others set) is
// named, not guessed.
//
// Thread: values.
// Source: POSIX.1-2017, Shell Command Language, 2.2 quoting, 2.6 expansions, 2.9 commands.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"

namespace pixii::config {

struct LaunchWord {
  std::string text = {};
  std::string unknown = {};  // a variable or command in it whose text nothing here knows
  std::uint32_t line = 0;    // from 1
};

struct LaunchVariable {
  std::string name;
  LaunchWord value;
};

struct LaunchCommand {
  std::vector<LaunchVariable> environment = {};  // exported so far, then before the command
  std::vector<LaunchWord> words = {};
  std::uint32_t line = 0;   // where it begins
  std::string within = {};  // "if", "while", "a function": it may run or not; empty: it runs
};

/// `given`: variables that are set when it starts; the script's own defaults for them do not count.
/// Commands in an if, a loop or a function set nothing. Errors: kInvalidArgument with the line: a
/// quote or brace without its end; kTooLarge.
Result<std::vector<LaunchCommand>> ReadLaunchScript(
    const std::string& text, const std::string& file,
    const std::map<std::string, std::string>& given);

}  // namespace pixii::config
