// Where the schemas of a document are and what their names ($id, $anchor, pointers) lead to.
//
// Source: JSON Schema 2020-12 core, sections 8.2 and 9.1; RFC 3986 section 5.2; RFC 6901.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "wire/json.h"

namespace pixii::text::grammar {

enum class Draft : std::uint8_t { k4, k6, k7, k2019, k2020 };

/// A schema of the document.
struct SchemaPlace {
  const wire::Json* json = nullptr;
  std::string pointer;     // from the root of the document
  std::uint32_t resource;  // whose base its references are resolved against
};

class SchemaPlaces final {
 public:
  /// Finds every schema below `root`, which must outlive this.
  /// Errors: kUnsupported for a $schema that is none of the drafts.
  static Result<SchemaPlaces> Find(const wire::Json& root);

  const SchemaPlace& root() const { return places_.at(root_); }

  /// The place of a schema met while reading; one that lies where no keyword expects it is added.
  const SchemaPlace& At(const wire::Json& json, std::string_view pointer, std::uint32_t resource);

  /// What `reference` in `from` leads to. Errors: kUnsupported for other documents;
  /// kInvalidArgument for what is not there.
  Result<SchemaPlace> Follow(const SchemaPlace& from, std::string_view reference);

  /// The only schema with this $dynamicAnchor, nothing if there are none or several.
  std::optional<SchemaPlace> OnlyDynamicAnchor(std::string_view name) const;
  std::size_t DynamicAnchorCount(std::string_view name) const;

  /// Some schema says "$recursiveAnchor": true.
  bool recursive_anchor() const { return recursive_anchor_; }

  Draft DraftOf(const SchemaPlace& place) const { return resources_[place.resource].draft; }

 private:
  struct Resource {
    std::string base;
    const wire::Json* root;
    std::string pointer;
    Draft draft;
  };

  void Index(const wire::Json& json, std::string pointer, std::uint32_t resource);
  void Enter(const wire::Json& json, std::string pointer, std::uint32_t resource,
             std::vector<SchemaPlace>& work);

  const wire::Json* root_ = nullptr;
  std::vector<Resource> resources_;
  std::unordered_map<const wire::Json*, SchemaPlace> places_;
  std::unordered_map<std::string, std::uint32_t> by_uri_;
  std::unordered_map<std::string, const wire::Json*> anchors_;  // base#name
  std::unordered_map<std::string, std::vector<const wire::Json*>> dynamic_anchors_;
  bool recursive_anchor_ = false;
  const wire::Json* unknown_dialect_ = nullptr;
};

/// One more step of a JSON pointer.
std::string PointerStep(std::string_view pointer, std::string_view key);

}  // namespace pixii::text::grammar
