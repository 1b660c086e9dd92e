// `pixii config import FILE`: another deployment's settings as ours. docs/migration_from_dynamo.md
#pragma once

#include "apps/command.h"

namespace pixii::apps {

int RunConfig(const Arguments& arguments);

}  // namespace pixii::apps
