// Measures structured output over a folder of schemas with instances: how many schemas are
// accepted, whether instances are judged rightly, and what compiling and masks cost.
//
// Thread: one; nothing else should run. Format of the files: MaskBench's, an object with `schema`
// and `tests`, a list of {"valid", "data"}; or the JSON Schema Test Suite's, a list of such objects
// about the keyword that the file is named after.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "bench/report.h"
#include "text/grammar/grammar_matcher.h"
#include "text/tokenizer/tokenizer.h"

namespace pixii::bench {

struct GrammarBenchOptions {
  std::string folder;             // its folders are not entered
  std::string dialect;            // $schema of schemas that name none; empty: left out
  std::vector<std::string> skip;  // names of files
  std::size_t files_max = 100'000;
};

struct GrammarBenchResult {
  std::vector<Figure>
      figures;  // of a suite: for each keyword the tests judged right, refused, wrong
  std::vector<std::string> wrong;  // "file: what", for people
};

/// Whether `text`, tokenized, is an instance by the grammar's masks: each token set, the end
/// allowed at the end. `mask_us` gets the processor's time of every mask. Errors: those of Encode.
Result<bool> WalkMasks(const text::Tokenizer& tokenizer, std::string_view text,
                       std::shared_ptr<text::grammar::GrammarRuntime> runtime,
                       std::vector<double>* mask_us);

/// Errors: those of reading the folder.
Result<GrammarBenchResult> BenchGrammar(
    const text::Tokenizer& tokenizer,
    std::shared_ptr<const text::grammar::GrammarVocabulary> vocabulary,
    const GrammarBenchOptions& options);

}  // namespace pixii::bench
