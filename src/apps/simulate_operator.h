// pixii simulate --scenario operator.
#pragma once

#include "apps/option_structs.h"

namespace pixii::apps {

int SimulateOperator(const SimulateFlags& flags);

}  // namespace pixii::apps
