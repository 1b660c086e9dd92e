#include "frontend/media_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>
#include <utility>

#include "frontend/field_error.h"
#include "frontend/openai_request.h"
#include "wire/base64.h"

namespace pixii::frontend {

using wire::Json;

namespace {

// What a request says, before the model's defaults fill the rest.
struct Draft {
  MediaRequest request;
  std::optional<std::int64_t> frames;
  std::optional<double> seconds;
  bool rate_given = false;
  std::optional<std::int32_t> width;  // beside size, as TensorRT-LLM has them
  std::optional<std::int32_t> height;
  bool size_given = false;
  bool seed_given = false;
  bool dynamo = false;  // it has a field that Dynamo's form alone has
};

Result<std::string> ReadText(std::string_view at, const Json& value) {
  if (!value.is_string()) {
    return Bad(at, fmt::format("{} is not a string", Shown(value)));
  }
  return value.string();
}

// A number, also one that a form or OpenAI's seconds have as a text.
Result<double> ReadNumber(std::string_view at, const Json& value, double min, double max) {
  std::optional<double> number = value.AsDouble();
  if (value.is_string()) {
    const std::string& text = value.string();
    double read = 0;
    const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), read);
    if (problem == std::errc() && end == text.data() + text.size()) {
      number = read;
    }
  }
  if (!number || !(*number >= min && *number <= max)) {
    return Bad(at, fmt::format("{} is not a number from {} to {}", Shown(value), min, max));
  }
  return *number;
}

Result<std::int64_t> ReadWhole(std::string_view at, const Json& value, std::int64_t min,
                               std::int64_t max) {
  std::optional<std::int64_t> number = value.AsInt();
  if (value.is_string()) {
    const std::string& text = value.string();
    std::int64_t read = 0;
    const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), read);
    if (problem == std::errc() && end == text.data() + text.size()) {
      number = read;
    }
  }
  if (!number || *number < min || *number > max) {
    return Bad(at, fmt::format("{} is not a whole number from {} to {}", Shown(value), min, max));
  }
  return *number;
}

Result<void> ReadSize(std::string_view at, const Json& value, MediaSpec& spec) {
  PX_TRY(const std::string text, ReadText(at, value));
  const auto side = [](std::string_view digits) -> std::int32_t {
    std::int32_t out = 0;
    const auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), out);
    return problem == std::errc() && end == digits.data() + digits.size() ? out : 0;
  };
  const std::size_t cross = std::min(text.find('x'), text.size());
  const std::int32_t width = side(std::string_view(text).substr(0, cross));
  const std::int32_t height =
      cross == text.size() ? 0 : side(std::string_view(text).substr(cross + 1));
  if (width < 1 || height < 1 || width > kMediaSideMax || height > kMediaSideMax) {
    return Bad(at, fmt::format("{} is not WIDTHxHEIGHT with sides from 1 to {}", Shown(value),
                               kMediaSideMax));
  }
  spec.width = width;
  spec.height = height;
  return {};
}

Result<void> ReadPrompt(std::string_view at, const Json& value, std::string& out) {
  PX_TRY(out, ReadText(at, value));
  const auto characters = std::ranges::count_if(
      out, [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; });
  if (std::cmp_greater(characters, kPromptCharactersMax)) {
    return Bad(at, fmt::format("has {} characters, allowed are at most {}", characters,
                               kPromptCharactersMax));
  }
  return {};
}

// What both kinds have, in nvext or beside the others. False: it is none of these.
Result<bool> ReadKnob(std::string_view name, std::string_view at, const Json& value, Draft& out) {
  MediaSpec& spec = out.request.spec;
  if (name == "negative_prompt") {
    PX_CHECK_OK(ReadPrompt(at, value, spec.negative_prompt));
  } else if (name == "num_inference_steps") {
    PX_TRY(const std::int64_t steps, ReadWhole(at, value, 1, 1000));
    spec.steps = static_cast<std::int32_t>(steps);
  } else if (name == "guidance_scale") {
    PX_TRY(spec.guidance_scale, ReadNumber(at, value, 0, 100));
  } else if (name == "seed") {
    PX_TRY(const std::int64_t seed, ReadWhole(at, value, 0, INT64_MAX - kImagesMax));
    spec.seed = static_cast<std::uint64_t>(seed);
    out.seed_given = true;
  } else if ((name == "fps" || name == "frame_rate") && spec.kind == MediaKind::kVideo) {
    if (out.rate_given) {
      return Bad(at, "is there twice: in nvext and beside it, or as fps and as frame_rate");
    }
    PX_TRY(spec.frames_per_second, ReadNumber(at, value, 1, 240));
    out.rate_given = true;
  } else if (name == "num_frames" && spec.kind == MediaKind::kVideo) {
    PX_TRY(out.frames, ReadWhole(at, value, 1, 4096));
  } else if (name == "boundary_ratio" || name == "guidance_scale_2") {
    return NotDone(at, "is for models with two transformers, which are not served");
  } else if (name == "annotations") {
    if (!value.is_array() || !value.array().empty()) {
      return NotDone(at, "annotations are not made here");
    }
  } else {
    return false;
  }
  return true;
}

Result<void> ReadNvext(const Json& value, Draft& out, const MediaRules& rules) {
  if (!value.is_object()) {
    return Bad("nvext", fmt::format("{} is not an object", Shown(value)));
  }
  for (const auto& [name, member] : value.object()) {
    if (member.is_null()) {
      continue;
    }
    const std::string at = At("nvext", name);
    PX_TRY(const bool known, ReadKnob(name, at, member, out));
    if (!known && !rules.ignore_unknown) {
      return Unknown(at);
    }
  }
  return {};
}

Result<void> ReadModel(const Json& value, const MediaModel& model) {
  PX_TRY(const std::string name, ReadText("model", value));
  if (name != model.name) {
    return Fail(Code::kNotFound,
                fmt::format("the model {} is not served; {} is", Shown(value), model.name),
                "model");
  }
  return {};
}

Result<void> ReadOneOf(std::string_view at, const Json& value,
                       std::initializer_list<std::string_view> allowed) {
  PX_TRY(const std::string text, ReadText(at, value));
  if (std::ranges::find(allowed, text) == allowed.end()) {
    return NotDone(at,
                   fmt::format("{} is not done, only {}", Shown(value), fmt::join(allowed, ", ")));
  }
  return {};
}

Result<void> ReadFalse(std::string_view at, const Json& value) {
  if (!value.is_bool() || value.boolean()) {
    return NotDone(at, "answers come whole here");
  }
  return {};
}

// The picture that a video begins with: its bytes, or a file of the allowed folder. What would have
// to be fetched is not taken: a step of all jobs would wait for it.
Result<void> ReadReference(std::string_view at, const Json& value, const MediaModel& model,
                           MediaSpec& spec) {
  if (!model.takes_image) {
    return NotDone(at, "this model makes videos and pictures from words alone");
  }
  PX_TRY(std::string url, ReadText(at, value));
  if (!url.starts_with("data:") && !url.starts_with("file:")) {
    return NotDone(at, "is taken as an upload, a data: URL, or a file: URL of the media folder");
  }
  spec.input_reference = std::make_shared<const std::string>(std::move(url));
  return {};
}

// What is common to both routes. False: the field is none of these.
Result<bool> ReadCommon(const std::string& name, const Json& value, const MediaModel& model,
                        const MediaRules& rules, Draft& out) {
  if (name == "prompt") {
    PX_CHECK_OK(ReadPrompt(name, value, out.request.spec.prompt));
  } else if (name == "model") {
    PX_CHECK_OK(ReadModel(value, model));
  } else if (name == "size") {
    if (!(value.is_string() && value.string() == "auto")) {
      PX_CHECK_OK(ReadSize(name, value, out.request.spec));
      out.size_given = true;
    }
  } else if (name == "width" || name == "height") {
    PX_TRY(const std::int64_t side, ReadWhole(name, value, 1, kMediaSideMax));
    (name == "width" ? out.width : out.height) = static_cast<std::int32_t>(side);
  } else if (name == "response_format") {
    PX_CHECK_OK(ReadOneOf(name, value, {"url", "b64_json"}));
    out.request.base64 = value.string() == "b64_json";
    out.request.placed = true;
    out.dynamo = true;
  } else if (name == "nvext") {
    PX_CHECK_OK(ReadNvext(value, out, rules));
    out.dynamo = true;
  } else if (name == "user") {
    PX_CHECK_OK(ReadText(name, value));
  } else if (name == "stream") {
    PX_CHECK_OK(ReadFalse(name, value));
  } else if (name == "input_reference") {
    PX_CHECK_OK(ReadReference(name, value, model, out.request.spec));
  } else if (name == "extra_args") {
    if (!value.is_object() || !value.object().empty()) {
      return NotDone(name, "there are no further arguments");
    }
  } else {
    return ReadKnob(name, name, value, out);
  }
  return true;
}

// "auto": as the model has it.
Result<void> ReadVideoFormat(std::string_view at, const Json& value, MediaSpec& spec) {
  PX_CHECK_OK(ReadOneOf(at, value, {"auto", "mp4", "webm", "avi"}));
  for (const MediaFormat format : {MediaFormat::kMp4, MediaFormat::kWebm, MediaFormat::kAvi}) {
    if (value.string() == MediaFormatName(format)) {
      spec.format = format;
    }
  }
  return {};
}

Result<bool> ReadVideoField(const std::string& name, const Json& value, Draft& out) {
  if (name == "seconds") {
    PX_TRY(out.seconds, ReadNumber(name, value, 0.01, 3600));
  } else if (name == "output_format" || name == "format") {
    PX_CHECK_OK(ReadVideoFormat(name, value, out.request.spec));
    out.dynamo = out.dynamo || name == "output_format";
  } else {
    return false;
  }
  return true;
}

Result<bool> ReadImageField(const std::string& name, const Json& value, Draft& out) {
  MediaSpec& spec = out.request.spec;
  if (name == "n") {
    PX_TRY(const std::int64_t count, ReadWhole(name, value, 1, kImagesMax));
    spec.count = static_cast<std::uint32_t>(count);
  } else if (name == "output_format") {
    PX_CHECK_OK(ReadOneOf(name, value, {"png", "jpeg", "webp"}));
    spec.format = value.string() == "png"    ? MediaFormat::kPng
                  : value.string() == "jpeg" ? MediaFormat::kJpeg
                                             : MediaFormat::kWebp;
  } else if (name == "output_compression") {
    PX_TRY(const std::int64_t quality, ReadWhole(name, value, 0, 100));
    spec.quality = static_cast<std::int32_t>(quality);
  } else if (name == "quality") {
    PX_CHECK_OK(ReadOneOf(name, value, {"auto", "standard"}));
  } else if (name == "background") {
    PX_CHECK_OK(ReadOneOf(name, value, {"auto", "opaque"}));
  } else if (name == "moderation") {
    PX_CHECK_OK(ReadOneOf(name, value, {"auto", "low"}));
  } else if (name == "style") {
    return NotDone(name, "say it in the prompt");
  } else if (name == "partial_images") {
    PX_CHECK_OK(ReadWhole(name, value, 0, 0));
  } else {
    return false;
  }
  return true;
}

// num_frames, else seconds * fps rounded up to a number that the model makes, else the model's.
void ChooseFrames(const MediaModel& model, Draft& draft) {
  MediaSpec& spec = draft.request.spec;
  if (draft.frames) {
    spec.frames = static_cast<std::int32_t>(*draft.frames);
  } else if (draft.seconds || draft.rate_given) {
    constexpr double kSecondsDefault = 4;
    const double wanted =
        std::max(1.0, std::round(draft.seconds.value_or(kSecondsDefault) * spec.frames_per_second));
    const auto units =
        static_cast<std::int64_t>(std::ceil((wanted - 1) / static_cast<double>(model.frames_unit)));
    spec.frames = static_cast<std::int32_t>(units * model.frames_unit + 1);
  }
}

Result<MediaRequest> Complete(Draft draft, const MediaModel& model, std::uint64_t seed,
                              const MediaRules& rules) {
  MediaSpec& spec = draft.request.spec;
  if (spec.prompt.empty()) {
    return Bad("prompt", "is missing");
  }
  if (model.takes_image && spec.input_reference == nullptr) {
    return Bad("input_reference", "is missing: what this model makes begins with a picture");
  }
  if (draft.width || draft.height) {
    if (draft.size_given || !draft.width || !draft.height) {
      return Bad(draft.width ? "width" : "height", "width and height go together, without size");
    }
    spec.width = *draft.width;
    spec.height = *draft.height;
  }
  if (!draft.seed_given) {
    spec.seed = seed;
  }
  if (spec.kind == MediaKind::kVideo) {
    ChooseFrames(model, draft);
  }
  const std::uint64_t pixels = static_cast<std::uint64_t>(spec.width) *
                               static_cast<std::uint64_t>(spec.height) *
                               static_cast<std::uint64_t>(spec.frames) * spec.count;
  if (pixels > rules.pixels_max) {
    return Bad("size", fmt::format("{} x {} pixels of {} frames or pictures are {} pixels, allowed "
                                   "are at most {}",
                                   spec.width, spec.height,
                                   static_cast<std::uint32_t>(spec.frames) * spec.count, pixels,
                                   rules.pixels_max));
  }
  draft.request.synchronous = draft.dynamo || spec.kind == MediaKind::kImage;
  return std::move(draft.request);
}

using FieldReader = Result<bool> (*)(const std::string& name, const Json& value, Draft& out);

Result<MediaRequest> Read(const Json& body, const MediaModel& model, std::uint64_t seed,
                          const MediaRules& rules, Draft draft, FieldReader own) {
  for (const auto& [name, value] : body.object()) {
    if (value.is_null()) {
      continue;
    }
    PX_TRY(bool known, own(name, value, draft));
    if (!known) {
      PX_TRY(known, ReadCommon(name, value, model, rules, draft));
    }
    if (!known && !rules.ignore_unknown) {
      return Unknown(name.substr(0, 100));
    }
  }
  return Complete(std::move(draft), model, seed, rules);
}

}  // namespace

Result<MediaRequest> ReadVideoRequest(const Json& body, const MediaModel& model, std::uint64_t seed,
                                      const MediaRules& rules) {
  Draft draft;
  draft.request.spec = model.defaults;
  return Read(body, model, seed, rules, std::move(draft), ReadVideoField);
}

Result<MediaRequest> ReadImageRequest(const Json& body, const MediaModel& model, std::uint64_t seed,
                                      const MediaRules& rules) {
  Draft draft;
  draft.request.spec = model.defaults;
  draft.request.spec.kind = MediaKind::kImage;
  draft.request.spec.frames = 1;
  draft.request.spec.format = MediaFormat::kPng;
  return Read(body, model, seed, rules, std::move(draft), ReadImageField);
}

Result<Json> BodyOfForm(const std::vector<wire::FormPart>& parts) {
  Json out{Json::Object{}};
  for (const wire::FormPart& part : parts) {
    const std::string name = part.name.substr(0, 100);
    if (part.filename && name != "input_reference") {
      return NotDone(name, "is no field that takes a file");
    }
    if (out.Find(name) != nullptr) {
      return Bad(name, "is there twice");
    }
    if (part.filename) {
      out.Set(name, "data:application/octet-stream;base64," + wire::EncodeBase64(part.content));
    } else if (name == "nvext") {
      PX_TRY(Json value, wire::ParseJson(part.content));
      out.Set(name, std::move(value));
    } else {
      out.Set(name, part.content);
    }
  }
  return out;
}

}  // namespace pixii::frontend
