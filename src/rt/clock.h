// The time for code that blocks and has no loop; all other code asks its loop.
#pragma once

#include "rt/time.h"

namespace pixii::rt {

Time SteadyNow();

}  // namespace pixii::rt
