// The bundled video model: what the words name moves the way they say.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "model/diffusion/diffusion_run.h"
#include "support/golden.h"
#include "unit/model/diffusion/tiny_wan.h"

namespace pixii::model {
namespace {

struct Words {
  const char* prompt;
  float color[3];  // of the thing, 0 .. 1
  double right;    // where it goes, 1: to the right, -1: to the left
  double down;
};

struct Place {
  double x = 0.0;
  double y = 0.0;
  double weight = 0.0;  // pixels of the colour
};

/// Middle of the pixels whose colour is near.
Place Find(std::span<const float> picture, std::int32_t width, const float (&color)[3]) {
  Place out;
  for (std::size_t pixel = 0; pixel < picture.size() / 3; ++pixel) {
    double distance = 0.0;
    for (std::size_t c = 0; c < 3; ++c) {
      distance += std::abs(double{picture[pixel * 3 + c]} - double{color[c]});
    }
    if (distance < 0.45) {
      out.x += static_cast<double>(pixel % static_cast<std::size_t>(width));
      out.y += static_cast<double>(pixel / static_cast<std::size_t>(width));
      out.weight += 1.0;
    }
  }
  out.x /= std::max(out.weight, 1.0);
  out.y /= std::max(out.weight, 1.0);
  return out;
}

TEST(TinyVideo, ShowsTheNamedColourMovingTheNamedWay) {
  const std::string folder = pixii::testing::SourceDir() + "/models/tiny-video";
  const auto operators = testing::CpuOperators(2);
  const auto pipeline = DiffusionPipeline::Load(folder, *operators, {});
  ASSERT_TRUE(pipeline) << pipeline.error().ToString();
  constexpr float kRed[] = {0.84F, 0.16F, 0.16F};
  constexpr float kGreen[] = {0.15F, 0.63F, 0.27F};
  constexpr float kBlue[] = {0.2F, 0.35F, 0.86F};
  constexpr float kYellow[] = {0.96F, 0.82F, 0.17F};
  const Words all[] = {
      {"a red circle moves left", {kRed[0], kRed[1], kRed[2]}, -1, 0},
      {"a blue square moves right", {kBlue[0], kBlue[1], kBlue[2]}, 1, 0},
      {"a green triangle moves up fast", {kGreen[0], kGreen[1], kGreen[2]}, 0, -1},
      {"a yellow star moves down and right", {kYellow[0], kYellow[1], kYellow[2]}, 1, 1},
      {"a blue circle moves down", {kBlue[0], kBlue[1], kBlue[2]}, 0, 1},
      {"a red square moves up and left", {kRed[0], kRed[1], kRed[2]}, -1, -1}};
  std::vector<VideoRequest> requests;
  for (const Words& words : all) {
    VideoRequest request = (*pipeline)->defaults().request;
    request.prompt = words.prompt;
    request.seed = 11;
    requests.push_back(request);
  }
  auto run = std::move(*(*pipeline)->Start(requests));
  while (!run->done()) {
    ASSERT_TRUE(run->Advance().has_value());
  }
  int moved = 0;
  std::string said;
  for (std::size_t i = 0; i < std::size(all); ++i) {
    const VideoRequest& request = requests[i];
    const std::span<const float> pictures = run->pictures(i);
    const std::size_t size = pictures.size() / static_cast<std::size_t>(request.frames);
    const Place first = Find(pictures.first(size), request.width, all[i].color);
    const Place last = Find(pictures.last(size), request.width, all[i].color);
    const double along = (last.x - first.x) * all[i].right + (last.y - first.y) * all[i].down;
    const double aside = (last.x - first.x) * all[i].down - (last.y - first.y) * all[i].right;
    const bool right =
        first.weight > 20 && last.weight > 20 && along > 4 && std::abs(aside) < along;
    moved += right ? 1 : 0;
    said += fmt::format("{}: {:.1f}, {:.1f} ({} pixels) to {:.1f}, {:.1f} ({})\n", request.prompt,
                        first.x, first.y, first.weight, last.x, last.y, last.weight);
  }
  EXPECT_GE(moved, static_cast<int>(std::size(all)) - 1) << said;  // it is a small model
}

}  // namespace
}  // namespace pixii::model
