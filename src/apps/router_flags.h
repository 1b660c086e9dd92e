// The router's options from its flags.
#pragma once

#include "apps/option_structs.h"
#include "router/options.h"

namespace pixii::apps {

router::RouterOptions RouterOptionsOf(const RouterFlags& flags);

}  // namespace pixii::apps
