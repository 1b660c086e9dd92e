"""The Vercel `ai` package with its OpenAI providers, unmodified."""
import harness


class AiClient(harness.NpmClientCase):
    client = "ai"

    def test_text(self):
        self.run_case("generateText")

    def test_streamed_text(self):
        self.run_case("streamText")

    def test_responses(self):
        self.run_case("responses")

    def test_tools(self):
        self.run_case("tools")

    def test_objects(self):
        self.run_case("generateObject")

    def test_abort_cancels_in_the_engine(self):
        self.run_case("abort")
        self.server.wait_for(lambda: self.server.running() == 0, 2, "no running sequence")

    def test_errors(self):
        self.run_case("errors")


if __name__ == "__main__":
    harness.main()
