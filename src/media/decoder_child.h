// The process that decodes for others: shut in, it takes jobs and writes pixels where it is told.
//
// Thread: the only one of its process.
// Source: the messages are media/decoder_messages.h.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace pixii::media {

/// The word by which a program is told to be such a process: `pixii media-decoder BYTES`.
inline constexpr std::string_view kDecoderCommand = "media-decoder";

/// Serves jobs that come over standard input until that is closed. `arguments`: one, how many bytes
/// of memory it may take. The exit status.
int RunDecoderChild(std::span<const std::string> arguments);

}  // namespace pixii::media
