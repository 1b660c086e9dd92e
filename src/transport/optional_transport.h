// A transport that the agent goes without where this machine lacks what it needs.
//
// Thread: as transport/link.h.
#pragma once

#include <string_view>

#include "transport/link.h"

namespace pixii::transport {

/// As `inner`; where that cannot be made, one that reaches nobody and is reached by nobody, and the
/// log says why. `name`: of it, a constant.
TransportFactory IfPossible(TransportFactory inner, std::string_view name);

}  // namespace pixii::transport
