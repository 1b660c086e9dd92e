// Scanners written by hand for the patterns that byte-level tokenizers cut texts with.
//
// Thread: pure functions.
// A scanner does what PCRE2 does with the pattern, in one pass and without backtracking: tests
// compare both on random Unicode. Patterns without a scanner are run by PCRE2.
// Source: the patterns as they stand in the tokenizer.json of public models and in tiktoken.
#pragma once

#include <string_view>
#include <vector>

namespace pixii::text {

/// The end of the word that begins at `at`. Pre: at < end; [at, end) is valid UTF-8 and begins
/// where the text or a word of the same scanner begins and ends. O(word), but for white space,
/// whose run is read twice at most.
using NextWord = const char* (*)(const char* at, const char* end);

struct WordScanner {
  NextWord next = nullptr;
  /// Every character belongs to some match: nothing stands between words. Otherwise what stands
  /// between two matches comes as a word too.
  bool covers = false;
};

/// The scanner of a pattern, known by its text. `next` is null if there is none.
WordScanner ScannerOf(std::string_view pattern);

/// All patterns that have one.
std::vector<std::string_view> ScannedPatterns();

/// The scanner that cuts runs of numbers (\p{N}) out of a text, whole or each by itself.
WordScanner NumberScanner(bool each);

}  // namespace pixii::text
