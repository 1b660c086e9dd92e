// How a measurement is printed: the machine, the commit and the flags with it.
#pragma once

#include <vector>

#include "bench/report.h"
#include "config/parse.h"

namespace pixii::apps {

/// As JSON or as a table; returns the exit status.
int PrintFigures(const config::Parsed& parsed, bool json, std::vector<bench::Figure> figures);

}  // namespace pixii::apps
