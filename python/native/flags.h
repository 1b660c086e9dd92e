// Flags of a command, as callers of another language give them.
//
// Thread: any.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "config/option.h"

namespace pixii::python {

/// Reads `arguments`, the variables of `pixii NAME` and the files that they name into the options'
/// targets. Errors: those of config::Parse; kInvalidArgument for what is of the command line alone.
Result<void> ParseFlags(const char* name, std::vector<config::Option> options,
                        const std::vector<std::string>& arguments, bool takes_engine_args = false);

}  // namespace pixii::python
