"""`python3 -m dynamo.trtllm` is `pixii worker`."""
