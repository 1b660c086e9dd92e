// The tokens that a place of a grammar allows, found by walking the trie of the vocabulary as far
// as the grammar follows.
//
// Source: the slices of plain tokens inside strings are an idea of LLGuidance's design notes; ours
// are masks by count of characters, and tries of what begins with such tokens and goes on with
// others.
#pragma once

#include <cstdint>
#include <span>

#include "text/grammar/grammar_vocabulary.h"
#include "text/grammar/machine.h"

namespace pixii::text::grammar {

/// Sets the bits of all tokens that `machine` takes from `state`; the others are clear. End tokens
/// are not looked at. False: the fuel that `machine` spent ever has passed `stop` steps before the
/// end; what was found out until then is kept, and the mask is worthless.
/// Pre: mask.size() == vocabulary.mask_words().
bool BuildMask(Machine& machine, const GrammarVocabulary& vocabulary, const State& state,
               std::uint64_t stop, std::span<std::uint32_t> mask);

/// Makes of the mask of `free` that of `state`, which Machine::Loosen told apart by its text.
/// False: as for BuildMask.
bool CorrectMask(Machine& machine, const GrammarVocabulary& vocabulary, const State& state,
                 std::uint64_t stop, std::span<std::uint32_t> mask);

/// Judges the tokens of more than kSlicePrefixMax characters anew. False: as for BuildMask.
bool CorrectLongTokens(Machine& machine, const GrammarVocabulary& vocabulary, const State& state,
                       std::uint64_t stop, std::span<std::uint32_t> mask);

}  // namespace pixii::text::grammar
