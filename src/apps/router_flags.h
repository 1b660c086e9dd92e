// The router's options from its flags.
#pragma once

#include "apps/option_structs.h"
#include "base/result.h"
#include "router/options.h"
#include "router/policy_file.h"

namespace pixii::apps {

/// But for the policy classes.
router::RouterOptions RouterOptionsOf(const RouterFlags& flags);

/// What --router-policy-config names; empty: it names nothing. Errors: those of ReadPolicyFile, and
/// of reading a file.
Result<router::PolicyFile> ReadPolicies(const RouterFlags& flags);

}  // namespace pixii::apps
