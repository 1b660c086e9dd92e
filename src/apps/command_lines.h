// All commands of the program, for pages about them. main.cc has the table.
#pragma once

#include <vector>

#include "config/shell_pages.h"

namespace pixii::apps {

/// In the order of the help.
std::vector<config::CommandLine> CommandLines();

}  // namespace pixii::apps
