// Lines of an access log: one for each answer that a process gave over HTTP.
//
// Thread: functions of values. docs/formats/access_log.md
#pragma once

#include <string>
#include <string_view>

#include "frontend/options.h"
#include "rt/time.h"

namespace pixii::frontend {

/// Appends a JSON object and a line end. `trace_header`: the header whose value is trace_id.
void AppendAccessLine(std::string& out, const Answered& answered, std::string_view trace_header,
                      rt::WallTime now);

}  // namespace pixii::frontend
