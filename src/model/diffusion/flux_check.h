// Compares a FLUX folder with its golden files.
//
// Thread: one caller. Golden form: docs/diffusion.md, "Golden files".
#pragma once

#include <string>

#include "base/result.h"
#include "kernels/operators.h"
#include "model/check.h"
#include "model/diffusion/diffusion_golden.h"

namespace pixii::model {

/// Loads `folder` in fp32 and compares ids, texts, one pass of the transformer, noise levels,
/// latents after each step, the picture and the VAE; then runs two requests side by side, which
/// must give the bits of each alone. Errors: as CheckDiffusionFolder.
Result<CheckReport> CheckFluxFolder(const std::string& folder, const DiffusionGolden& golden,
                                    kernels::Operators& operators, const CheckOptions& options);

}  // namespace pixii::model
