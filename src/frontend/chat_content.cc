#include "frontend/chat_content.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace pixii::frontend {

using wire::Json;

void ChatContent::AddText(std::string_view text, std::string_view between) {
  if (parts_.empty() || parts_.back().is_image) {
    parts_.emplace_back().text = text;
    return;
  }
  parts_.back().text.append(between).append(text);
}

void ChatContent::AddImage(std::string url, const Json& detail, PictureFields fields) {
  parts_.push_back(
      {.text = std::move(url), .detail = detail, .fields = std::move(fields), .is_image = true});
}

Json ChatContent::Take(std::size_t message, std::vector<ShownPicture>& shown) {
  if (std::ranges::none_of(parts_, &Part::is_image)) {
    return parts_.empty() ? Json("") : Json(std::move(parts_.front().text));
  }
  Json::Array out;
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    Part& part = parts_[i];
    Json& made = out.emplace_back(Json::Object{});
    made.Set("type", part.is_image ? "image_url" : "text");
    if (!part.is_image) {
      made.Set("text", std::move(part.text));
      continue;
    }
    Json image{Json::Object{}};
    image.Set("url", std::move(part.text));
    if (!part.detail.is_null()) {
      image.Set("detail", std::move(part.detail));
    }
    made.Set("image_url", std::move(image));
    shown.push_back({.message = message, .part = i, .fields = std::move(part.fields)});
  }
  return Json(std::move(out));
}

FieldNames PictureNames(FieldNames names, std::span<const ShownPicture> shown, std::size_t before) {
  for (const ShownPicture& picture : shown) {
    const std::string part =
        fmt::format("messages[{}].content[{}]", picture.message + before, picture.part);
    names.Add({.inner = part, .outer = picture.fields.part});
    names.Add({.inner = part + ".image_url.url", .outer = picture.fields.url});
    names.Add({.inner = part + ".image_url.detail", .outer = picture.fields.detail});
  }
  return names;
}

}  // namespace pixii::frontend
