// What this binary is. version.cc is written by the build.
#pragma once

namespace pixii::apps {

extern const char kVersion[];  // "0.1.0"
extern const char kCommit[];  // COMMIT_SHA of the build, else short hash, + if the tree had changes
extern const char kCompiler[];      // "Clang 19.1.4"
extern const char kArchitecture[];  // "x86_64"
// What deploy/container/build.args names, as this build had it.
extern const bool kWithKvbm;
extern const bool kWithUcx;
extern const bool kWithLibfabric;

}  // namespace pixii::apps
