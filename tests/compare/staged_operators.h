// Lets the case table run on a device: every call copies what it is given to the device's memory,
// runs there, and copies back what may have changed.
//
// Thread: as Operators.
#pragma once

#include <memory>

#include "kernels/host_operators.h"

namespace pixii::kernels::testing {

/// Backends on the host that run their operators on `device`.
std::unique_ptr<Operators> StageOperators(std::unique_ptr<Operators> device);

}  // namespace pixii::kernels::testing
