// Compares a diffusion folder with the golden files beside it: `pixii check` of video models.
//
// Thread: one caller. Golden form: docs/diffusion.md, "Golden files".
#pragma once

#include <string>

#include "base/result.h"
#include "kernels/operators.h"
#include "model/check.h"

namespace pixii::model {

/// Whether CheckDiffusionFolder is the one to ask.
bool IsDiffusionFolder(const std::string& folder);

/// Loads `folder` in fp32 and compares token ids, text, one pass of the transformer, noise levels,
/// latents after each step, pictures, the VAE both ways; then runs two requests side by side, which
/// must give the bits of each alone. Errors: those of Load, and of missing or broken golden files.
Result<CheckReport> CheckDiffusionFolder(const std::string& folder, kernels::Operators& operators,
                                         const CheckOptions& options = {});

}  // namespace pixii::model
