// Encoding and decoding rates of a tokenizer on one text, in one thread.
//
// Thread: the caller's.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "bench/report.h"
#include "text/tokenizer/tokenizer.h"

namespace pixii::bench {

struct TokenizerBenchOptions {
  std::uint32_t repeats = 5;  // runs of each case, interleaved
};

/// Figures encode (MB/s, 10^6 bytes of UTF-8), encode_ids (ids/s), decode (MB/s), ids (how many the
/// text has) and encode_first: the first run, whose tables no cache holds yet. Nothing is kept from
/// one run to the next. Errors: kInvalidArgument for an empty text; those of Encode.
Result<std::vector<Figure>> BenchTokenizer(const text::Tokenizer& tokenizer, std::string_view text,
                                           const TokenizerBenchOptions& options);

}  // namespace pixii::bench
