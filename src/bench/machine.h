// The machine a figure was taken on, as far as it matters to the figure.
#pragma once

#include "wire/json.h"

namespace pixii::bench {

/// {"processor", "cores", "memory_gib", "isa"}.
wire::Json MachineJson();

}  // namespace pixii::bench
