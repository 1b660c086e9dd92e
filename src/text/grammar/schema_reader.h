// JSON schemas to formulas. Every keyword becomes a formula or the schema is refused naming it.
//
// Source: JSON Schema drafts 4, 6, 7, 2019-09 and 2020-12, told apart by $schema; without it
// 2020-12, where keywords of older drafts (dependencies, a list of items) keep their meaning.
// Names that no draft defines are annotations, as all drafts have it.
#pragma once

#include "base/result.h"
#include "text/grammar/formula.h"
#include "wire/json.h"

namespace pixii::text::grammar {

inline constexpr std::size_t kSchemasMax = 200'000;  // subschemas of one schema

/// The formula of `schema`, whose tables and definitions go to `store`.
/// Errors: kUnsupported and kInvalidArgument with the keyword and its JSON pointer in detail, the
/// pointer in param; kTooLarge past the store's fuel.
Result<FormulaId> ReadSchema(FormulaStore& store, const wire::Json& schema);

/// Values equal to `value`: 1 and 1.0 are one, members come in any order.
FormulaId FormulaOfConstant(FormulaStore& store, const wire::Json& value);

}  // namespace pixii::text::grammar
