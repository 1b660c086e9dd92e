// `pixii image render`: the file that a container engine builds an image from.
#pragma once

#include "apps/command.h"

namespace pixii::apps {

int RunImageRender(const Arguments& arguments);

}  // namespace pixii::apps
