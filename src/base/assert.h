// Bugs are assertions, on in every build. Nothing a peer or a file says may reach one: validate at
// the edge.
#pragma once

namespace pixii {

/// Prints what failed and where, then aborts.
[[noreturn]] void AssertFailed(const char* expression, const char* file, int line);

}  // namespace pixii

#define PX_ASSERT(condition)                                 \
  do {                                                       \
    if (!(condition)) [[unlikely]] {                         \
      ::pixii::AssertFailed(#condition, __FILE__, __LINE__); \
    }                                                        \
  } while (false)

/// Costly checks: in dev, sanitizer and fuzz builds only.
#ifdef PX_DEBUG_ASSERTS
#define PX_DASSERT(condition) PX_ASSERT(condition)
#else
#define PX_DASSERT(condition) \
  do {                        \
  } while (false)
#endif
