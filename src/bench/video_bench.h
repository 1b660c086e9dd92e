// What chats feel of videos that are made in the same process: a server with both models, streams
// alone and beside videos, in turns.
//
// Thread: one that runs the load; the server is a child.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "bench/report.h"

namespace pixii::bench {

struct VideoBenchOptions {
  std::string program;      // of ours
  std::string model;        // that chats
  std::string video_model;  // folder
  double share = 0.25;      // --video-share
  std::uint32_t videos = 8;
  std::uint32_t streams = 4;
  std::uint32_t output_tokens = 200;  // of a stream
  double seconds = 3;                 // of each half of a round
  std::uint32_t repeats = 5;          // rounds
};

/// Errors: kUnavailable if the server does not start or an answer is not what it must be.
Result<std::vector<Figure>> BenchVideos(const VideoBenchOptions& options);

}  // namespace pixii::bench
