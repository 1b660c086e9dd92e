#include "base/assert.h"

#include <cstdio>
#include <cstdlib>

namespace pixii {

void AssertFailed(const char* expression, const char* file, int line) {
  std::fprintf(stderr, "pixii: assertion failed: %s at %s:%d\n", expression, file, line);
  std::abort();
}

}  // namespace pixii
