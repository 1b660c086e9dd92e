// Whole answers of a router's process.
//
// Thread: functions.
#pragma once

#include "frontend/exchange.h"
#include "wire/json.h"

namespace pixii::frontend {

inline Response AnswerOf(const wire::Json& body, int status = 200) {
  Response out;
  out.status = status;
  out.body = body.Dump();
  return out;
}

/// {"status":"ok"}.
inline Response Done(int status = 200) {
  Response out;
  out.status = status;
  out.body = R"({"status":"ok"})";
  return out;
}

}  // namespace pixii::frontend
