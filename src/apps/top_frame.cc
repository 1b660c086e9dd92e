#include "apps/top_frame.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <utility>
#include <vector>

namespace pixii::apps {

using wire::Json;

namespace {

constexpr std::uint32_t kBarColumns = 20;
constexpr std::string_view kTiers[] = {"host", "disk", "object"};

const Json& At(const Json& in, std::string_view name) {
  static const Json kNone;
  const Json* found = in.is_object() ? in.Find(name) : nullptr;
  return found != nullptr ? *found : kNone;
}

std::string Text(const Json& in, std::string_view name) {
  const Json& value = At(in, name);
  return value.is_string() ? value.string() : "";
}

std::int64_t Count(const Json& in, std::string_view name) {
  return At(in, name).is_number() ? At(in, name).AsInt().value_or(0) : 0;
}

bool IsTrue(const Json& in, std::string_view name) {
  return At(in, name).is_bool() && At(in, name).boolean();
}

const Json::Array& List(const Json& in, std::string_view name) {
  static const Json::Array kNone;
  const Json& value = At(in, name);
  return value.is_array() ? value.array() : kNone;
}

// Cut at whole characters: names may be of any script.
std::string Fitted(std::string_view text, std::size_t columns) {
  std::size_t count = 0;
  std::size_t end = 0;
  while (end < text.size() && count < columns) {
    do {
      ++end;
    } while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U);
    ++count;
  }
  return std::string(text.substr(0, end)) + std::string(columns - count, ' ');
}

// Used blocks as '#', cached ones as '='.
std::string Bar(const Json& load) {
  const Json& blocks = At(load, "blocks");
  const std::int64_t total = Count(blocks, "total");
  const auto part = [&](std::string_view name) {
    const std::int64_t count = Count(blocks, name);
    return total <= 0 ? std::size_t{0}
                      : std::min<std::size_t>(
                            static_cast<std::size_t>((count * kBarColumns + total - 1) / total),
                            kBarColumns);
  };
  const std::size_t used = part("used");
  const std::size_t cached = std::min(part("cached"), kBarColumns - used);
  return fmt::format("[{}{}{}] {}/{}", std::string(used, '#'), std::string(cached, '='),
                     std::string(kBarColumns - used - cached, ' '), Count(blocks, "used"), total);
}

std::string Work(const Json& load) {
  return fmt::format("{:>7} {:>7}  {}", Count(load, "running"), Count(load, "queued"), Bar(load));
}

struct Line {
  std::string text;
  bool head = false;
  bool bad = false;
};

void AddModels(const Json& cluster, std::vector<Line>& out) {
  out.push_back({.text = fmt::format("{} {} {:>7} {:>7}  KV blocks: # used, = cached",
                                     Fitted("MODEL", 24), Fitted("STATE", 12), "RUNNING", "QUEUED"),
                 .head = true});
  for (const Json& model : List(cluster, "models")) {
    const bool good = IsTrue(model, "ready");
    out.push_back(
        {.text = fmt::format("{} {} {}", Fitted(Text(model, "name"), 24),
                             Fitted(good ? "ready" : "not ready", 12), Work(At(model, "load"))),
         .bad = !good});
    const Json::Array& ranks = List(model, "ranks");
    for (std::size_t rank = 0; ranks.size() > 1 && rank < ranks.size(); ++rank) {
      out.push_back(
          {.text = fmt::format("{} {} {}", Fitted(fmt::format("  rank {}", rank), 24),
                               Fitted(Text(ranks[rank], "state"), 12), Work(ranks[rank]))});
    }
  }
  if (At(cluster, "media_model").is_string()) {
    out.push_back({.text = fmt::format("{} videos and pictures",
                                       Fitted(At(cluster, "media_model").string(), 24))});
  }
}

void AddWorkers(const Json& cluster, std::vector<Line>& out) {
  const Json::Array& workers = List(cluster, "workers");
  if (workers.empty()) {
    return;
  }
  out.push_back({.text = ""});
  out.push_back({.text = fmt::format("{} {} {} {:>7} {:>7}  KV blocks", Fitted("WORKER", 17),
                                     Fitted("ROLE", 11), Fitted("STATE", 24), "RUNNING", "QUEUED"),
                 .head = true});
  for (const Json& worker : workers) {
    const std::string reason = Text(worker, "reason");
    const std::string state =
        Text(worker, "state") + (reason.empty() ? std::string() : " " + reason);
    out.push_back({.text = fmt::format(
                       "{} {} {} {}", Fitted(Text(worker, "name"), 17),
                       Fitted(Text(worker, "role"), 11), Fitted(state, 24),
                       At(worker, "load").is_object() ? Work(At(worker, "load")) : std::string()),
                   .bad = Text(worker, "state") != "available"});
  }
}

void AddTiers(std::string_view metrics, std::vector<Line>& out) {
  std::string tiers;
  for (const std::string_view tier : kTiers) {
    const std::string label = fmt::format("tier=\"{}\"", tier);
    if (const double slots = MetricSum(metrics, "pixii_kv_tier_slots", label); slots > 0) {
      tiers += fmt::format("  {} {:.0f}/{:.0f}", tier,
                           MetricSum(metrics, "pixii_kv_tier_blocks", label), slots);
    }
  }
  const double moved = MetricSum(metrics, "pixii_transfers_total");
  if (!tiers.empty() || moved > 0) {
    out.push_back({.text = ""});
  }
  if (!tiers.empty()) {
    out.push_back({.text = "KV blocks of tiers here:" + tiers});
  }
  if (moved > 0) {
    out.push_back({.text = fmt::format("transfers here: {:.0f}, {:.0f} bytes", moved,
                                       MetricSum(metrics, "pixii_transfer_bytes_total"))});
  }
}

}  // namespace

double MetricSum(std::string_view metrics, std::string_view name, std::string_view label) {
  double out = 0;
  while (!metrics.empty()) {
    const std::size_t end = std::min(metrics.find('\n'), metrics.size());
    const std::string_view line = metrics.substr(0, end);
    metrics.remove_prefix(std::min(end + 1, metrics.size()));
    const bool named = line.starts_with(name) && line.size() > name.size() &&
                       (line[name.size()] == '{' || line[name.size()] == ' ');
    if (named && line.find(label) != std::string_view::npos) {
      out += std::strtod(std::string(line.substr(line.rfind(' ') + 1)).c_str(), nullptr);
    }
  }
  return out;
}

std::string TopFrame(const TopInput& input, rt::TerminalSize size) {
  const Json& cluster = input.cluster;
  const bool good = IsTrue(cluster, "ready") && !IsTrue(cluster, "draining");
  std::vector<Line> lines;
  lines.push_back(
      {.text = fmt::format("pixii top  {}  {}  requests in flight {}  connections {}", input.url,
                           Text(cluster, "message"), Count(cluster, "requests_in_flight"),
                           Count(cluster, "connections")),
       .bad = !good});
  if (!input.trouble.empty()) {
    lines.push_back({.text = input.trouble, .bad = true});
  }
  lines.push_back({.text = ""});
  AddModels(cluster, lines);
  AddWorkers(cluster, lines);
  AddTiers(input.metrics, lines);
  const std::size_t shown = std::min<std::size_t>(lines.size(), size.rows);
  std::string out;
  for (std::size_t i = 0; i < shown; ++i) {
    std::string text = Fitted(lines[i].text, size.columns);
    if (i + 1 == shown && shown < lines.size()) {
      text = Fitted(fmt::format("... {} lines more", lines.size() - shown + 1), size.columns);
    }
    text.erase(text.find_last_not_of(' ') + 1);
    const std::string_view colour = !input.colours  ? ""
                                    : lines[i].bad  ? "\x1b[31m"
                                    : lines[i].head ? "\x1b[1m"
                                                    : "";
    out += colour.empty() ? text : fmt::format("{}{}\x1b[0m", colour, text);
    out += '\n';
  }
  return out;
}

}  // namespace pixii::apps
