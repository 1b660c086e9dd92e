#include "frontend/session_headers.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "frontend/openai_request.h"
#include "frontend/routing_fields.h"

namespace pixii::frontend {
namespace {

using Fields = std::vector<wire::HttpField>;

wire::HttpRequest With(Fields fields) {
  wire::HttpRequest request;
  request.fields = std::move(fields);
  return request;
}

std::string Said(Fields fields) {
  const Result<SessionIdentity> session = ReadSession(With(std::move(fields)));
  return session ? session->id + " < " + session->parent + (session->is_final ? " final" : "")
                 : std::string(session.error().param());
}

TEST(SessionHeaders, CanonicalAndVendorsNamesAreOneIdentity) {
  EXPECT_EQ(Said({}), " < ");
  EXPECT_EQ(Said({{"x-dynamo-session-id", "s1"}}), "s1 < ");
  EXPECT_EQ(Said({{"x-claude-code-session-id", "s1"}}), "s1 < ");
  EXPECT_EQ(Said({{"session-id", "s1"}}), "s1 < ");
  EXPECT_EQ(Said({{"x-session-id", "s1"}}), "s1 < ");
  EXPECT_EQ(Said({{"x-session-id", "s1"}, {"x-parent-session-id", "s0"}}), "s1 < s0");
  EXPECT_EQ(Said({{"x-dynamo-session-id", "s1"}, {"x-session-id", "other"}}), "s1 < ");
  EXPECT_EQ(Said({{"X-Dynamo-Session-ID", "s1"},
                  {"X-Dynamo-Parent-Session-ID", "s0"},
                  {"X-Dynamo-Session-Final", "True"}}),
            "s1 < s0 final");
}

TEST(SessionHeaders, AgentsOfAConversationAreSessionsBelowIt) {
  EXPECT_EQ(Said({{"x-claude-code-session-id", "c"}, {"x-claude-code-agent-id", "a"}}), "c:a < c");
  EXPECT_EQ(Said({{"x-claude-code-session-id", "c"},
                  {"x-claude-code-agent-id", "b"},
                  {"x-claude-code-parent-agent-id", "a"}}),
            "c:b < c:a");
  EXPECT_EQ(Said({{"x-claude-code-agent-id", "a"}}), "a < ");
}

TEST(SessionHeaders, WhatIsNoLabelIsRefusedByItsName) {
  EXPECT_EQ(Said({{"x-dynamo-session-id", ""}}), "x-dynamo-session-id");
  EXPECT_EQ(Said({{"session-id", "a b"}}), "session-id");
  EXPECT_EQ(Said({{"x-session-id", std::string(kLabelBytesMax + 1, 'a')}}), "x-session-id");
  EXPECT_EQ(Said({{"x-session-id", "s"}, {"x-dynamo-session-final", "maybe"}}),
            "x-dynamo-session-final");
}

TEST(SessionHeaders, WorkersHearOfTheSessionAndItsEnd) {
  wire::GenerateRequest request;
  ASSERT_TRUE(
      ReadRoutingHeaders(With({{"x-session-id", "s1"}, {"x-dynamo-session-final", "1"}}), request));
  EXPECT_EQ(request.session, "s1");
  EXPECT_TRUE(request.session_final);
}

}  // namespace
}  // namespace pixii::frontend
