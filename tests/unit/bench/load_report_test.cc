#include "bench/load_report.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "bench/load_figures.h"

namespace pixii::bench {
namespace {

wire::Json LoadOf(double scale) {
  LoadResult load;
  load.elapsed_s = 2;
  for (int i = 0; i < 50; ++i) {
    RequestSample& sample = load.samples.emplace_back();
    sample.arrival_ms = 10 * i;
    sample.first_token_ms = scale * (10 + i);
    sample.total_ms = scale * (100 + i);
    sample.output_tokens = 5;
  }
  return AiperfExport(load, {});
}

std::size_t Count(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) {
    ++count;
  }
  return count;
}

TEST(LoadReportTest, ShowsEachRunInEachPlotAndAsksNobodyForAnything) {
  const std::vector<ReportedLoad> loads = {{"a.json", LoadOf(1)}, {"<b>&\".json", LoadOf(2)}};
  const Result<std::string> html = LoadReportHtml(loads);
  ASSERT_TRUE(html);
  EXPECT_EQ(Count(*html, "<svg "), 5U);
  EXPECT_EQ(Count(*html, "<circle "), 100U);
  EXPECT_EQ(Count(*html, "<title>a.json</title>"), 3U);
  EXPECT_EQ(Count(*html, "<td style"), 2U);
  EXPECT_EQ(html->find("<b>"), std::string::npos);
  EXPECT_NE(html->find("&lt;b>&amp;&quot;.json"), std::string::npos);
  for (const char* outside : {"http", "<script", "<link", "nan", "inf"}) {
    EXPECT_EQ(html->find(outside), std::string::npos) << outside;
  }
  EXPECT_EQ(Count(*LoadReportHtml(std::span(loads).first(1)), "<svg "), 4U);
}

TEST(LoadReportTest, AFileWithoutRequestsIsNamed) {
  const std::vector<ReportedLoad> loads = {{"c.json", wire::Json(wire::Json::Object{})}};
  const Result<std::string> html = LoadReportHtml(loads);
  ASSERT_FALSE(html);
  EXPECT_NE(html.error().detail().find("c.json"), std::string::npos);
}

}  // namespace
}  // namespace pixii::bench
