// What a message says and shows, as readers of other surfaces bring it into the form of chat
// completions.
//
// Thread: values.
// A picture's place there is none that the caller knows: readers note where it was written, and
// PictureNames makes of that what errors need.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "frontend/field_names.h"
#include "wire/json.h"

namespace pixii::frontend {

/// What a caller wrote of one picture.
struct PictureFields {
  std::string part;    // "input[0].content[1]"
  std::string url;     // "input[0].content[1].image_url"
  std::string detail;  // "input[0].content[1].detail"
};

/// Part `part` of message `message`, and whence it came.
struct ShownPicture {
  std::size_t message = 0;
  std::size_t part = 0;
  PictureFields fields;
};

class ChatContent final {
 public:
  /// Joins text that directly follows text, with `between` in the middle.
  void AddText(std::string_view text, std::string_view between = {});
  /// `detail`: a JSON value that is checked later; null: none.
  void AddImage(std::string url, const wire::Json& detail, PictureFields fields);

  bool empty() const { return parts_.empty(); }

  /// As message `message` has it: a string, or with pictures a list of parts. Notes those in
  /// `shown`. Only once.
  wire::Json Take(std::size_t message, std::vector<ShownPicture>& shown);

 private:
  struct Part {
    std::string text;  // or URL
    wire::Json detail;
    PictureFields fields;
    bool is_image = false;
  };

  std::vector<Part> parts_;
};

/// `names` and those of the pictures, whose messages come behind `before` others.
FieldNames PictureNames(FieldNames names, std::span<const ShownPicture> shown, std::size_t before);

}  // namespace pixii::frontend
