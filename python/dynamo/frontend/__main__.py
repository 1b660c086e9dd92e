from .._start import become, main, translated

# Flags of which one value is all there is, and those that workers say themselves (None).
RULES = {
    "dyn-chat-processor": (("dynamo",), "chats are rendered by the frontend itself"),
    "dyn-preprocess-workers": (("0",), "chats are rendered by the frontend itself"),
    "tokenizer": (("default",), "there is one tokenizer"),
    "tokenizer-fallback": (("true", "false"), "there is one tokenizer"),
    "model-path": (None, ""),
    "kv-cache-block-size": (None, ""),
    "namespace-prefix": ((), "a frontend serves one namespace (--namespace) or, with an empty one, all"),
    "interactive": ((), "pixii chat talks in the terminal"),
}


def start(words):
    if "-i" in words:
        words = ["--interactive" if word == "-i" else word for word in words]
    become(["frontend"], translated(words, RULES))


if __name__ == "__main__":
    main(start)
