// What this binary is. version.cc is written by the build.
#pragma once

namespace pixii::apps {

extern const char kVersion[];  // "0.1.0"
extern const char kCommit[];   // short hash, with + if the tree had changes

}  // namespace pixii::apps
