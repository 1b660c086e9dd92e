"""`python3 -m dynamo.mocker` is `pixii worker --mock`; with --num-workers several of them, which `pixii up` watches."""
