// What is done to a prompt's text before it is cut into tokens.
//
// Thread: pure functions. Source: the text cleaning of Wan's pipelines: character references are
// replaced twice, white space becomes single blanks.
#pragma once

#include <string>
#include <string_view>

namespace pixii::model {

/// `prompt` with numeric references and those named amp, lt, gt, quot, apos and nbsp replaced, and
/// with single blanks between words. Other names stay; broken UTF-8 is not mended.
std::string CleanPrompt(std::string_view prompt);

}  // namespace pixii::model
