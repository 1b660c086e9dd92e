// Draft heads: decoders of a layer or few that read a target's hidden states and guess the token
// after the next. docs/subsystems/engine.md
//
// Thread: pure functions.
// Two kinds: the multi-token-prediction layer inside a checkpoint (DeepSeek-V3's), and EAGLE's
// separate checkpoint, whose embedding and output projection may be the target's.
// Source: DeepSeek-V3 report, arXiv 2412.19437; EAGLE, arXiv 2401.15077 and its published folders.
// Both read the target's states behind its final norm, as the public implementations do.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "kernels/operators.h"
#include "model/checkpoint.h"
#include "model/language_model.h"

namespace pixii::model {

/// Where a head comes from.
struct DraftHeadFolders {
  std::string target;
  std::string eagle;  // empty: the target's own prediction layer
};

/// Loads a head as a model: batches carry hidden_rows, the observer's last rows are the states that
/// its own next guess reads. Of several prediction layers the first is run, again and again.
/// Errors: kUnsupported naming what cannot be run (no such layers, EAGLE-3, another device than the
/// CPU), kInvalidArgument if it does not fit the target, and those of LanguageModel::Load.
Result<std::unique_ptr<LanguageModel>> LoadDraftHead(const DraftHeadFolders& folders,
                                                     kernels::Operators& operators,
                                                     const LoadOptions& options);

}  // namespace pixii::model
